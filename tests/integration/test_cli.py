"""The `billing` command: help, refusals in one line, schemas, what doctor finds."""

import datetime as dt
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import Engine, QueuePool

import worker.cli
from models import database, migrations
from models.rules.states import RejectedState
from models.store import health as store_health
from models.store import inbox
from tasks import contract, tenants
from webhooks import events, keyring
from worker import boot, programs, settings, stack
from worker.cli import listing
from worker.health import work
from worker.health.finding import Verdict

Command = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No server, no key: an environment in which nothing was chosen."""
    for name in tuple(os.environ):
        if name.startswith("BILLING_") or name in {"DATABASE_URL", "BROKER_URL"}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("BILLING_LOCAL_FOLDER", str(tmp_path / "nothing"))
    # Wide enough that no word of a message is cut in two.
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("TERMINAL_WIDTH", "300")


@pytest.fixture
def billing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs the command in this process."""

    def run(*words: str) -> Ended:
        monkeypatch.setattr("sys.argv", ["billing", *words])
        with pytest.raises(SystemExit) as ended:
            worker.cli.main()
        said = capsys.readouterr()
        code = ended.value.code
        return Ended(code if isinstance(code, int) else 0, said.out, said.err)

    yield run
    database.dispose()


def commands() -> list[Command]:
    """Every command and group, as the words that name it."""

    def below(command: Any, words: Command) -> Iterator[Command]:
        yield words
        for name, child in getattr(command, "commands", {}).items():
            yield from below(child, (*words, name))

    return list(below(worker.cli.whole(), ()))


@pytest.mark.parametrize("listed", listing.later().values(), ids=lambda one: one.name)
def test_a_command_is_listed_as_it_says_of_itself(listed: listing.Later) -> None:
    itself = listed.load()

    assert itself.name == listed.name
    assert itself.help.split("\n\n")[0].replace("\n", " ").startswith(listed.help)


def test_the_list_of_commands_imports_nothing_of_the_program() -> None:
    script = """
import sys
from worker.cli import app
app(["--help"], standalone_mode=False)
print(sorted({"celery", "models", "pydantic", "sqlalchemy", "tasks"} & sys.modules.keys()))
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert "Who is billed, and by which names." in ended.stdout
    assert ended.stdout.splitlines()[-1] == "[]"


def test_a_process_that_calls_tasks_or_tells_of_them_knows_them_all() -> None:
    """What is secret in a message is known by its task, and where it is sent."""
    calls = """
from worker import boot
boot.prepare()
from tasks.spec import REGISTRY
import json
print(json.dumps({name: None for name in REGISTRY}))
"""
    environment = {**os.environ, "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/x"}
    for words in (("-c", calls), ("-m", "worker", "schema", "tasks")):
        ended = subprocess.run(
            [sys.executable, *words], env=environment, capture_output=True, text=True, check=True
        )
        assert json.loads(ended.stdout).keys() == contract.REGISTRY.keys()


def test_a_command_leaves_no_connection_open(
    billing: Run, database_url: str, db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)

    assert billing("tenant", "list").status == 0

    pool = database.engine().pool
    assert isinstance(pool, QueuePool)
    assert pool.checkedin() == 0


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_explains_itself(billing: Run, words: Command) -> None:
    ended = billing(*words, "--help")

    assert ended.status == 0
    assert "Usage:" in ended.out
    assert "<bool>" not in ended.out  # as if one could write "--json yes"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("nonsense",), "nonsense"),
        (("worker", "--queues", "usage,mail"), "no queue is named 'mail'"),
        (("worker", "--concurrency", "0"), "concurrency"),
        (("up", "--port", "70000"), "port"),
        (("call",), "Missing argument"),
        (("call", "billing.set_tenat"), "did you mean billing.set_tenant?"),
        (("call", "billing.set_tenant", "[]"), "a JSON object"),
        (("call", "billing.set_tenant", "{"), "not JSON"),
        (("call", "billing.set_tenant", "@/no/such/file"), "No such file"),
        (("schema", "tasks", "--name", "billing.nope"), "no task is named"),
        (("schema", "events", "--topic", "billing.nope"), "no topic is named"),
        (("keys", "new", "--id", "a b"), "master key id"),
        (("rejected", "show", "one"), "Invalid value for"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_words_are_refused_by_name(billing: Run, words: Command, complaint: str) -> None:
    ended = billing(*words)

    assert ended.status == 2
    # Boxes break lines where they like.
    assert complaint in " ".join(ended.err.replace("│", " ").split())
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    "words",
    [
        ("worker",),
        ("beat",),
        ("flower",),
        ("migrate",),
        ("call", "billing.set_tenant"),
        ("rejected", "list"),
        ("rejected", "replay", "1"),
        ("usage", "show", "acme"),
        ("usage", "import", "-"),
    ],
    ids=" ".join,
)
def test_without_servers_one_line_says_what_to_do(billing: Run, words: Command) -> None:
    ended = billing(*words)

    assert ended.status == 2
    assert len(ended.err.splitlines()) == 1
    assert "run `billing up`" in ended.err.replace("start them with", "run")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DATABASE_URL", "mysql://user:hunter2@db/x"),
        ("DATABASE_URL", "hunter2"),
        ("BILLING_MASTER_KEYS", "hunter2"),
        ("BILLING_LOG", "hunter2"),
        ("BILLING_DATABASE_POOL_SIZE", "0"),
        ("BILLING_INVOICE_GRACE_HOURS", "soon"),
        ("BILLING_VISIBILITY_TIMEOUT_SECONDS", "1"),
    ],
)
def test_a_setting_that_can_not_be_used_is_named_and_not_shown(
    billing: Run, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/x")
    monkeypatch.setenv(variable, value)

    ended = billing("migrate", "--wait", "0")

    assert ended.status == 2
    assert ended.err.startswith(f"billing: {variable}")
    assert len(ended.err.splitlines()) == 1
    assert "hunter2" not in ended.err


def test_servers_that_are_down_are_one_line_too(
    billing: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:hunter2@127.0.0.1:1/x")
    monkeypatch.setenv("BROKER_URL", "redis://:hunter2@127.0.0.1:1/0")

    migrated = billing("migrate", "--wait", "0")
    listed = billing("rejected", "list")

    for ended in (migrated, listed):
        assert ended.status == 2
        assert ended.err.splitlines()[-1].startswith("billing: the database can not be reached")
        assert "hunter2" not in ended.err


def test_doctor_finds_nothing_where_nothing_is(billing: Run) -> None:
    ended = billing("doctor", "--json")

    findings = {finding["subject"]: finding for finding in json.loads(ended.out)}
    assert ended.status == 1
    assert findings["database"]["verdict"] == "fail"
    assert findings["broker"]["verdict"] == "fail"
    assert findings["master keys"]["verdict"] == "warn"
    assert all(one["remedy"] for one in findings.values() if one["verdict"] != "ok")


def test_doctor_says_the_same_to_people(billing: Run) -> None:
    ended = billing("doctor")

    assert ended.status == 1
    assert "fail database" in ended.out
    assert "→ set DATABASE_URL or run `billing up`" in ended.out


def test_doctor_looks_into_the_database(
    billing: Run, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)

    findings = {one["subject"]: one for one in json.loads(billing("doctor", "--json").out)}

    for subject in ("database", "clock", "schema", "touched days", "outbox", "deliveries due"):
        assert findings[subject]["verdict"] == "ok", findings[subject]
    assert findings["schema"]["detail"] == f"revision {migrations.head()}"


@pytest.mark.parametrize(("identifier", "verdict"), [("*", "ok"), ("1-1", "warn")])
def test_doctor_tells_how_much_waits_on_the_usage_stream(
    billing: Run, monkeypatch: pytest.MonkeyPatch, broker_url: str, identifier: str, verdict: str
) -> None:
    monkeypatch.setenv("BROKER_URL", broker_url)
    with Redis.from_url(broker_url) as redis:
        redis.delete("billing:usage")
        redis.xadd("billing:usage", {"event": "{}"}, id=identifier)

        found = {one["subject"]: one for one in json.loads(billing("doctor", "--json").out)}

        redis.delete("billing:usage")
    assert found["usage stream"]["verdict"] == verdict
    assert found["usage stream"]["detail"].startswith("1 waiting")


def test_doctor_sees_a_newer_schema(
    billing: Run, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setattr(migrations, "head", lambda: "0000")
    monkeypatch.setattr(migrations, "is_known", lambda _revision: False)

    findings = {one["subject"]: one for one in json.loads(billing("doctor", "--json").out)}

    assert findings["schema"]["verdict"] == "fail"
    assert "newer than this program" in findings["schema"]["detail"]


def test_migrate_says_where_it_came_from(
    billing: Run, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)

    ended = billing("migrate")

    assert ended.status == 0
    assert ended.out == f"database: at {migrations.head()} already\n"


def test_each_task_has_schemas_that_hold_together(billing: Run) -> None:
    schemas = json.loads(billing("schema", "tasks").out)

    assert schemas.keys() == contract.REGISTRY.keys()
    for name, task in schemas.items():
        assert task["description"], name
        for part in (task["message"], task["answer"]):
            assert part["$schema"] == "https://json-schema.org/draft/2020-12/schema"
            assert_schema(part, part)
        assert task["message"]["additionalProperties"] is False


def test_each_topic_has_a_schema_that_holds_together(billing: Run) -> None:
    schemas = json.loads(billing("schema", "events").out)

    assert schemas.keys() == events.CATALOGUE.keys()
    for schema in schemas.values():
        assert_schema(schema, schema)
        assert schema["schema_version"] >= 1


def test_one_task_and_one_topic_can_be_asked_for(billing: Run) -> None:
    task = json.loads(billing("schema", "tasks", "--name", "billing.set_tenant").out)
    topic = json.loads(billing("schema", "events", "--topic", "billing.ping").out)

    assert set(task["billing.set_tenant"]["answer"]["required"]) == set(
        tenants.TenantAnswer.__required_keys__
    )
    assert list(topic) == ["billing.ping"]


def test_schemas_are_printed_the_same_each_time(billing: Run) -> None:
    assert billing("schema", "tasks").out == billing("schema", "tasks").out


def test_the_sql_lays_the_tables(billing: Run, empty_database: Engine) -> None:
    statements = billing("schema", "sql").out

    with empty_database.connect() as connection:
        connection.connection.cursor().execute(statements)

    assert migrations.current(empty_database) == migrations.head()


def test_a_new_master_key_can_be_used(billing: Run) -> None:
    ended = billing("keys", "new", "--id", "k1")

    assert keyring.Keyring.parse(ended.out.strip()).current == "k1"


def test_rejected_messages_are_listed_and_shown(
    billing: Run, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    boot.prepare()
    refused = inbox.Rejection(
        task="billing.set_tenant",
        tenant_id="acme",
        payload={"tenant_id": "acme", "currency": "XX"},
        code="message.invalid",
        errors=[{"field": "currency", "reason": "unknown"}],
    )
    with database.transaction() as session:
        (found,) = inbox.keep_rejections(session, [refused], now=_now())

    listed = billing("rejected", "list")
    shown = json.loads(billing("rejected", "show", str(found)).out)
    others = billing("rejected", "list", "--state", RejectedState.discarded)
    missing = billing("rejected", "show", "999999")

    assert "currency: unknown" in listed.out
    assert shown["payload"] == {"tenant_id": "acme", "currency": "XX"}
    assert "no discarded rejected messages" in others.out
    assert (missing.status, len(missing.err.splitlines())) == (1, 1)


def test_development_keys_are_made_once_and_kept_private(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BILLING_LOCAL_FOLDER", str(tmp_path))

    first = stack.development(settings.load())
    again = stack.development(settings.load())

    assert first == again
    for name in (settings.MASTER_KEYS_FILE, settings.FLOWER_BASIC_AUTH_FILE):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    # Another terminal finds them too; a database of one's own is never sealed with them.
    assert settings.load().keyring() is not None
    assert settings.load().peppers() is not None
    monkeypatch.setenv("DATABASE_URL", "postgresql://somewhere/else")
    assert settings.load().keyring() is None
    assert settings.load().peppers() is None


def test_what_the_developer_has_set_is_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BILLING_MASTER_KEYS", keyring.new_master_key("mine"))
    monkeypatch.setenv("BILLING_WEBHOOK_ALLOW_HTTP", "false")
    monkeypatch.setenv("FLOWER_BASIC_AUTH", "mine:own")

    extra = stack.development(settings.load())

    mine = {"BILLING_MASTER_KEYS", "BILLING_WEBHOOK_ALLOW_HTTP", "FLOWER_BASIC_AUTH"}
    assert not mine & extra.keys()


def test_an_id_that_no_log_line_could_carry_is_refused(billing: Run) -> None:
    ended = billing("--correlation", "two words", "quote")

    assert ended.status == 2
    assert "a correlation id is 1 to 128 visible ASCII" in " ".join(ended.err.split())


def test_flower_listens_to_others_only_with_a_password(billing: Run) -> None:
    ended = billing("flower", "--address", "0.0.0.0")

    assert ended.status == 2
    assert "FLOWER_BASIC_AUTH is not set and 0.0.0.0 is not loopback" in ended.err


def test_flower_has_our_options_where_the_environment_has_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FLOWER_READ_ONLY", "false")

    plain = programs.flower(address="127.0.0.1", port=1).command
    keeping = programs.flower(address="127.0.0.1", port=1, state=tmp_path / "state").command

    assert "--persistent=True" not in plain
    assert {"--persistent=True", f"--db={tmp_path / 'state'}"} <= set(keeping)
    assert not [word for word in keeping if word.startswith("--read_only")]


def test_old_work_is_a_warning_with_a_remedy() -> None:
    now = _now()
    waiting = store_health.Backlog(
        touched_days=0,
        outbox_pending=3,
        outbox_oldest=now - 2 * work.OVERDUE,
        deliveries_due=1,
        delivery_oldest=now,
        rejected_open=0,
        deliveries_dead=0,
        endpoints_resting=0,
        tenants_parked=0,
    )

    findings = {one.subject: one for one in work.of_backlog(waiting, now)}

    assert findings["outbox"].verdict is Verdict.warn
    assert findings["outbox"].detail == "3 waiting, the oldest for 10 minutes"
    assert findings["outbox"].remedy
    assert findings["deliveries due"].verdict is Verdict.ok


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def assert_schema(schema: Any, root: dict[str, Any]) -> None:
    """Check what a reader of the schema leans on: known types, references that lead somewhere."""
    if isinstance(schema, list):
        for part in schema:
            assert_schema(part, root)
    if not isinstance(schema, dict):
        return
    if "$ref" in schema:
        assert schema["$ref"].removeprefix("#/$defs/") in root["$defs"]
    if isinstance(kind := schema.get("type"), str):
        assert kind in {"object", "array", "string", "number", "integer", "boolean", "null"}
    if isinstance(schema.get("properties"), dict):
        assert set(schema.get("required", [])) <= schema["properties"].keys()
    for value in schema.values():
        assert_schema(value, root)


def test_topics_are_listed_shown_and_exampled(billing: Run) -> None:
    listed = billing("schema", "list").out
    shown = json.loads(billing("schema", "show", "billing.ping").out)
    example = json.loads(billing("schema", "show", "billing.ping", "--example").out)
    published = billing("schema", "asyncapi").out
    document = json.loads(published)

    assert published == (settings.ROOT / "schemas/asyncapi.json").read_text(encoding="utf-8")
    assert all(topic in listed for topic in events.CATALOGUE)
    assert "the operator" in listed
    assert shown["title"] == "billing.ping"
    assert example["type"] == "billing.ping"
    assert document["asyncapi"] == "3.0.0"
    assert document["components"]["messages"].keys() == events.CATALOGUE.keys()
    assert "billing.nonsense" in billing("schema", "show", "billing.nonsense").err
