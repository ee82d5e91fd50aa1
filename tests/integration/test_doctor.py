"""What `billing doctor` sees: each thing that can be wrong is made so, and found by its name."""

import datetime as dt
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import Connection, NullPool, create_engine, text

from models import database
from models.check import Check
from models.store import check as check_store
from models.store.due import Due
from tasks import config
from tasks.aggregation import aggregate_usage
from tasks.credit_upkeep import audit
from tasks.endpoints import create_endpoint
from tasks.quota_counts import recount_quotas
from tasks.recount import recount_usage
from tasks.tenants import set_tenant
from tasks.upkeep import prepare_partitions
from tasks.usage import record_usage
from tests.integration import wallet
from tests.integration.command import Command
from webhooks.keyring import Keyring, new_master_key
from worker.health import broker, keys, work
from worker.health.finding import Verdict, ago

NOW = dt.datetime(2026, 5, 4, 12, tzinfo=dt.UTC)
NIGHT = dt.timedelta(days=1)

Findings = dict[str, dict[str, str]]


@pytest.fixture
def examined(billing: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the command; its findings by subject."""
    monkeypatch.setenv("BILLING_LOCAL_FOLDER", str(tmp_path))

    def examine(*words: str, status: int | None = None) -> Findings:
        ended = billing("doctor", "--json", *words)
        assert status is None or ended.status == status, ended.out
        return {one["subject"]: one for one in json.loads(ended.out)}

    return examine


@pytest.fixture
def redis(broker_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Change a setting of the broker, until the test is over."""
    monkeypatch.setenv("BROKER_URL", broker_url)
    with Redis.from_url(broker_url, decode_responses=True) as client:
        before: dict[str, str] = {}

        def change(name: str, value: str) -> None:
            before.setdefault(name, client.config_get(name)[name])
            client.config_set(name, value)

        yield change
        for name, value in before.items():
            client.config_set(name, value)


def tamper(statement: str) -> None:
    with database.transaction() as session:
        session.execute(text(statement))


def sealed_under(entry: str) -> None:
    """Create an endpoint whose secret is sealed under this master key."""
    config.use(
        config.Config(keyring=Keyring.parse(entry), address_policy=config.current().address_policy)
    )
    set_tenant(tenant_id="acme")
    create_endpoint(
        url="https://example.com/hook",
        topics=["billing.*"],
        tenant_id="acme",
        idempotency_key=entry[:8],
    )


def test_keys_that_open_what_is_sealed_are_told_from_those_that_do_not(
    examined: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, unused = (new_master_key(name) for name in ("k1", "k2", "k0"))
    other_bytes = new_master_key("k1")
    sealed_under(first)
    sealed_under(second)

    def sealed(given: str, *, status: int) -> Findings:
        monkeypatch.setenv("BILLING_MASTER_KEYS", given)
        found: Findings = examined("--only", "keys", status=status)
        assert not any(entry.partition(":")[2] in str(found) for entry in given.split(","))
        return found

    found = sealed(f"{second},{first},{unused}", status=0)
    assert found["sealed secrets"]["detail"] == "all 2 open"
    assert found["unused master keys"]["detail"] == "nothing needs 'k0' any more"
    assert "BILLING_MASTER_KEYS" in found["unused master keys"]["remedy"]

    found = sealed(second, status=1)
    assert found["sealed secrets"]["verdict"] == "fail"
    assert found["sealed secrets"]["detail"].startswith("1 under 'k1', which is not among")
    assert "unused master keys" not in found

    found = sealed(f"{second},{other_bytes}", status=1)
    assert found["sealed secrets"]["detail"].startswith("1 of 2 do not open, of endpoints such as")


def test_of_more_secrets_than_are_tried_no_key_is_called_unused() -> None:
    ring = Keyring.parse(f"{new_master_key('k2')},{new_master_key('k1')}")
    assert [one.subject for one in keys.of_sealed([], ring)] == [
        "sealed secrets",
        "unused master keys",
    ]


def test_a_pepper_that_no_trial_needs_may_go(
    examined: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BILLING_TRIAL_PEPPERS", f"{new_master_key('p2')},{new_master_key('p1')}")

    found = examined("--only", "keys")

    assert found["unused trial peppers"]["detail"] == "nothing needs 'p1' any more"


def test_checks_that_never_ran_ran_long_ago_or_found_something(examined: Any) -> None:
    now = dt.datetime.now(dt.UTC)
    found = examined("--only", "checks", status=0)
    assert {one["verdict"] for one in found.values()} == {"warn"}
    assert found["credit audit"]["remedy"].endswith("`billing call billing.audit` now")
    examined("--only", "checks", "--strict", status=1)

    event: Any = {"tenant_id": "acme", "metric": "api", "amount": 5, "idempotency_key": "a"}
    record_usage(**event, at=now - NIGHT, as_of=now)
    aggregate_usage(as_of=now)
    for job in (recount_usage, recount_quotas, audit):
        job(as_of=now - 2 * NIGHT)
    found = examined("--only", "checks", status=0)
    assert found["usage re-count"]["detail"] == "ran 2 days ago, 0 findings"
    assert found["usage re-count"]["remedy"].startswith("is beat alive at night?")

    for job in (recount_usage, recount_quotas, audit):
        job(as_of=now)
    found = examined("--only", "checks", "--strict", status=0)
    assert all(one["detail"].endswith(" seconds ago, 0 findings") for one in found.values())


def test_drift_is_spoken_of_for_a_week_and_a_broken_ledger_fails(examined: Any) -> None:
    now = dt.datetime.now(dt.UTC)
    event: Any = {"tenant_id": "acme", "metric": "api", "amount": 5, "idempotency_key": "a"}
    record_usage(**event, at=now - 2 * NIGHT, as_of=now)
    aggregate_usage(as_of=now)
    tamper("UPDATE usage_aggregates SET total = 6")
    recount_usage(as_of=now - NIGHT / 24)
    aggregate_usage(as_of=now)
    recount_usage(as_of=now)
    wallet.product()
    wallet.grant(10, "g")
    tamper("UPDATE credit_balances SET balance = 11")
    audit(as_of=now)

    found = examined("--only", "checks", status=1)

    assert found["usage re-count"]["verdict"] == "warn"
    assert "0 findings, 1 in a week" in found["usage re-count"]["detail"]
    assert "billing.usage_drifted" in found["usage re-count"]["remedy"]
    assert found["credit audit"]["verdict"] == "fail"
    assert found["credit audit"]["remedy"].startswith("`billing audit`")


def test_a_run_counts_when_all_its_parts_are_there_and_each_part_once(
    session: database.Session,
) -> None:
    def enter(after: str, *, is_last: bool, findings: int, at: dt.datetime = NOW) -> None:
        part = check_store.Part(Check.usage, at, after, is_last, findings)
        check_store.enter(session, part)

    enter("", is_last=False, findings=2)
    assert check_store.last_runs(session, now=NOW) == {}
    enter("bob", is_last=True, findings=1)
    enter("bob", is_last=True, findings=0)
    assert check_store.last_runs(session, now=NOW) == {Check.usage: check_store.Run(NOW, 3, 3)}
    enter("", is_last=False, findings=4, at=NOW + NIGHT)
    assert check_store.last_runs(session, now=NOW + NIGHT) == {
        Check.usage: check_store.Run(NOW, 3, 7)
    }
    enter("", is_last=True, findings=0, at=NOW + 2 * check_store.KEPT)
    assert session.scalar(text("SELECT count(*) FROM check_runs")) == 1


def test_work_that_is_overdue_is_named_with_its_age(examined: Any) -> None:
    # More than the patience for work that has a month's end before it.
    late = dt.timedelta(hours=1)
    found = work.of_jobs(
        {
            "billing.expire_batches": Due(7, NOW - late),
            "billing.generate_invoices": Due(9, NOW - dt.timedelta(minutes=20)),
            "billing.finalize_invoices": Due(5, NOW - dt.timedelta(hours=24)),
            "billing.aggregate_usage": Due(100_000, None),
        },
        now=NOW,
        closed_by=NOW - dt.timedelta(hours=23, minutes=45),
    )
    assert found.verdict is Verdict.warn
    assert found.detail == "overdue: billing.expire_batches (7, 60 minutes)"

    wallet.product()
    wallet.grant(10, "g", expires_at=5)  # of a month that is long over
    job = examined("--only", "backlog")["jobs"]
    assert job["detail"].startswith("overdue: billing.expire_batches (1,")
    assert job["remedy"]


def test_a_broker_that_would_lose_messages_is_warned_of(
    examined: Any, redis: Callable[[str, str], None]
) -> None:
    redis("maxmemory-policy", "noeviction")
    redis("appendonly", "yes")
    sound = examined("--only", "broker", status=1)  # for want of workers, which is told anyway
    assert {sound[name]["verdict"] for name in ("maxmemory-policy", "appendonly", "memory")} == {
        "ok"
    }

    redis("maxmemory-policy", "allkeys-lru")
    redis("appendonly", "no")
    redis("maxmemory", "1gb")
    broken = examined("--only", "broker", status=1)
    assert broken["maxmemory-policy"]["remedy"].startswith("set it to 'noeviction'")
    assert broken["appendonly"]["remedy"].startswith("set it to 'yes'")
    assert broken["memory"]["detail"].endswith("of 1,024 MiB used")
    assert "database" not in broken


def test_a_redis_that_is_nearly_full_or_can_not_write_is_told_of() -> None:
    class Full:
        """What a Redis says whose disk and memory are full."""

        def info(self, section: str) -> dict[str, Any]:
            return {
                "memory": {
                    "maxmemory_policy": "noeviction",
                    "used_memory": 90,
                    "maxmemory": 100,
                },
                "persistence": {"aof_enabled": 1, "aof_last_write_status": "err"},
            }[section]

    found = {one.subject: one.verdict for one in broker.of_redis(Full())}

    assert found["memory"] is Verdict.warn
    assert found["append-only file"] is Verdict.fail


def test_a_server_that_takes_no_changes_fails(examined: Any, caretaker: Connection) -> None:
    name = caretaker.execute(text("SELECT current_database()")).scalar_one()
    caretaker.execute(text(f"ALTER DATABASE {name} SET default_transaction_read_only = on"))
    try:
        found = examined("--only", "database", status=1)
    finally:
        caretaker.execute(text(f"ALTER DATABASE {name} RESET default_transaction_read_only"))

    assert found["database"]["verdict"] == "fail"
    assert "primary" in found["database"]["remedy"]


def test_partitions_are_looked_for_a_day_ahead(examined: Any) -> None:
    found = examined("--only", "database", status=0)
    assert found["partitions"]["verdict"] == "warn"
    assert "billing.prepare_partitions" in found["partitions"]["remedy"]
    assert "connections" in found

    prepare_partitions()
    assert examined("--only", "database", status=0)["partitions"]["verdict"] == "ok"


def test_a_database_that_is_waited_for_in_vain_fails_instead_of_hanging(
    examined: Any, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.health.server.LOOK_SECONDS", 0.2)
    # An engine of its own: the command disposes of ours.
    holder = create_engine(database_url, poolclass=NullPool)
    with holder.begin() as connection:
        connection.execute(text("LOCK TABLE outbox_pending IN ACCESS EXCLUSIVE MODE"))

        found = examined("--only", "backlog", status=1)

    assert found["database"]["detail"].startswith("did not answer in time")


@pytest.mark.parametrize(
    ("age", "said"),
    [
        (0, "0 seconds"),
        (-5, "0 seconds"),
        (119, "119 seconds"),
        (120, "2 minutes"),
        (7_200, "2 hours"),
        (172_800, "2 days"),
    ],
)
def test_ages_are_told_in_the_unit_one_thinks_in(age: int, said: str) -> None:
    assert ago(dt.timedelta(seconds=age)) == said
