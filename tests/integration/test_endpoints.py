"""Endpoints: created once, the secret shown once and stored sealed, disabled, deleted, listed."""

import datetime as dt
import json
import re
import threading
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, event, text

from models import database
from models.store import endpoint, endpoint_health, inbox, relay, tenant
from tasks import clock, config, contract
from tasks.endpoint_list import list_endpoints
from tasks.endpoints import (
    UnclearOwner,
    UrlRefused,
    create_endpoint,
    delete_endpoint,
    disable_endpoint,
    enable_endpoint,
)
from tasks.tenants import set_tenant
from webhooks import events, topics

URL = "https://example.com/hook"


def create(**changes: Any) -> Any:
    arguments: dict[str, Any] = {
        "url": URL,
        "topics": ["billing.*"],
        "tenant_id": "acme",
        "idempotency_key": uuid4().hex,
    } | changes
    return create_endpoint(**arguments)


@pytest.fixture
def acme(db: Engine) -> Engine:
    set_tenant(tenant_id="acme")
    return db


def rows(db: Engine, statement: str) -> list[Any]:
    with db.connect() as connection:
        return list(connection.execute(text(statement)))


def test_the_secret_is_shown_and_stored_nowhere_in_clear(acme: Engine) -> None:
    secret = create()["secret"]

    assert secret.startswith("whsec_")
    for statement in (
        "SELECT to_jsonb(endpoints)::text FROM endpoints",
        "SELECT to_jsonb(endpoint_secrets)::text FROM endpoint_secrets",
        "SELECT to_jsonb(idempotency_keys)::text FROM idempotency_keys",
    ):
        [[stored]] = rows(acme, statement)
        assert secret.removeprefix("whsec_") not in stored
    [[sealed]] = rows(acme, "SELECT sealed FROM endpoint_secrets")
    assert secret.encode() not in bytes(sealed)


def test_the_same_call_again_is_the_same_endpoint_and_the_same_secret(acme: Engine) -> None:
    first = create(idempotency_key="one")

    assert create(idempotency_key="one") == first
    assert rows(acme, "SELECT count(*) FROM endpoints") == [(1,)]


def test_another_call_under_the_same_key_is_a_conflict(acme: Engine) -> None:
    create(idempotency_key="one")

    with pytest.raises(inbox.IdempotencyConflict):
        create(idempotency_key="one", url="https://example.com/other")


def test_a_repeated_answer_has_no_secret_once_it_is_destroyed(acme: Engine) -> None:
    created = create(idempotency_key="one")
    delete_endpoint(endpoint_id=UUID(created["endpoint_id"]))

    assert create(idempotency_key="one") == {
        **created,
        "secret": None,
        "secret_state": "revoked",
    }


@pytest.mark.parametrize("owner", [{"operator": True}, {"tenant_id": None}])
def test_an_endpoint_belongs_to_a_tenant_or_to_the_operator(
    acme: Engine, owner: dict[str, Any]
) -> None:
    with pytest.raises(UnclearOwner):
        create(**owner)


def test_an_unknown_tenant_gets_no_endpoint(db: Engine) -> None:
    with pytest.raises(tenant.UnknownTenant, match="acme"):
        create()


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "https://user@example.com/",
        "https://10.0.0.1/",
        "https://[::ffff:169.254.169.254]/",
        "https://example.com:22/",
    ],
)
def test_a_url_that_nothing_is_sent_to_is_refused(acme: Engine, url: str) -> None:
    with pytest.raises(UrlRefused):
        create(url=url)


def test_a_url_is_kept_in_its_normal_spelling(acme: Engine) -> None:
    create(url="HTTPS://Hooks.Example.COM:443/A?b=c")

    [entry] = list_endpoints(tenant_id="acme")["endpoints"]
    assert entry["url"] == "https://hooks.example.com/A?b=c"


def test_plain_http_is_refused_unless_the_operator_allows_it(
    acme: Engine, task_config: config.Config
) -> None:
    config.use(config.Config(keyring=task_config.keyring, kick=False))

    with pytest.raises(UrlRefused, match="https"):
        create(url="http://example.com/")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("topics", []),
        ("topics", ["billing.nonsense"]),
        ("topics", ["billing"]),
        ("topics", ["billing.quota_consumed.*"]),
        ("topics", ["bill*"]),
        ("topics", ["*"] * 101),
        ("headers", {"Host": "x"}),
        ("headers", {"X-A": "line\nbreak"}),
        ("description", "x" * 201),
    ],
)
def test_a_bad_argument_is_refused_by_its_name(acme: Engine, field: str, value: Any) -> None:
    with pytest.raises(contract.InvalidMessage, match=field):
        create(**{field: value})


@pytest.mark.parametrize(
    ("topic", "hint"),
    [
        ("billing.nonsense", "; `billing schema list`"),
        ("billing.pong", "; did you mean 'billing.ping'"),
    ],
)
def test_an_unknown_topic_is_named_beside_the_one_that_was_meant(
    acme: Engine, topic: str, hint: str
) -> None:
    with pytest.raises(contract.InvalidMessage, match=re.escape(f"'{topic}'{hint}")):
        create(topics=["billing.ping", topic])


def test_a_list_shows_names_of_headers_only_and_no_other_tenant(acme: Engine) -> None:
    set_tenant(tenant_id="other")
    mine = create(headers={"Authorization": "Bearer hush"}, description="ours")
    create(tenant_id="other")
    create(tenant_id=None, operator=True)

    page = list_endpoints(tenant_id="acme")

    [entry] = page["endpoints"]
    assert entry["endpoint_id"] == mine["endpoint_id"]
    assert entry["headers"] == ["Authorization"]
    assert entry["description"] == "ours"
    assert page["next_after"] is None
    assert "hush" not in json.dumps(page)
    assert mine["secret"] not in json.dumps(page)


def test_an_order_and_a_rate_are_shown_as_they_were_asked_for(acme: Engine) -> None:
    create(ordered=True, rate_per_minute=90)
    create()

    listed = list_endpoints()["endpoints"]
    assert [(one["ordered"], one["rate_per_minute"]) for one in listed] == [
        (True, 90),
        (False, None),
    ]


def test_a_list_goes_on_from_page_to_page(acme: Engine) -> None:
    made = {create()["endpoint_id"] for _ in range(5)}
    seen: list[str] = []
    after = None
    while page := list_endpoints(limit=2, after=after):
        seen += [entry["endpoint_id"] for entry in page["endpoints"]]
        if page["next_after"] is None:
            break
        after = UUID(page["next_after"])

    assert len(seen) == 5
    assert set(seen) == made


def test_disabling_is_said_once_however_often_it_is_asked(acme: Engine) -> None:
    endpoint_id = UUID(create()["endpoint_id"])

    answers = [disable_endpoint(endpoint_id=endpoint_id) for _ in range(2)]

    assert [answer["state"] for answer in answers] == ["disabled", "disabled"]
    assert rows(acme, "SELECT type, sequence FROM outbox_messages") == [
        ("billing.endpoint.disabled", 2)
    ]


def test_enabling_clears_holds_and_failures(acme: Engine) -> None:
    endpoint_id = UUID(create()["endpoint_id"])
    disable_endpoint(endpoint_id=endpoint_id)
    held = endpoint_health.Health(
        hold_until=dt.datetime(2999, 1, 1, tzinfo=dt.UTC),
        condition={"consecutive_failures": 7},
    )
    with database.transaction() as session:
        endpoint_health.keep(session, {endpoint_id: held})
    [listed] = list_endpoints()["endpoints"]
    assert listed["hold_until"] == "2999-01-01T00:00:00+00:00"
    assert listed["consecutive_failures"] == 7

    enable_endpoint(endpoint_id=endpoint_id)

    [listed] = list_endpoints()["endpoints"]
    assert (listed["hold_until"], listed["consecutive_failures"]) == (None, 0)


@pytest.mark.parametrize("command", [disable_endpoint, enable_endpoint, delete_endpoint])
def test_an_endpoint_of_another_tenant_is_not_found(acme: Engine, command: Any) -> None:
    endpoint_id = UUID(create()["endpoint_id"])

    with pytest.raises(endpoint.UnknownEndpoint, match="other"):
        command(endpoint_id=endpoint_id, tenant_id="other")

    assert rows(acme, "SELECT state FROM endpoints") == [("enabled",)]


def test_a_deleted_endpoint_stays_deleted(acme: Engine) -> None:
    endpoint_id = UUID(create()["endpoint_id"])

    answers = [delete_endpoint(endpoint_id=endpoint_id) for _ in range(2)]

    assert [answer["state"] for answer in answers] == ["deleted", "deleted"]
    assert list_endpoints()["endpoints"] == []
    with pytest.raises(endpoint.UnknownEndpoint, match="deleted"):
        enable_endpoint(endpoint_id=endpoint_id)


TOPICS = [
    "billing",
    "billing.",
    "billing.ping",
    "billing.invoice",
    "billing.invoice.created",
    "billingx.ping",
    "xbilling.ping",
    "billing_ping",
]
PATTERNS = ["*", "billing.*", "billing.invoice.*", "billing.ping", "billing", "bill*", "%", ".*"]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_sql_and_python_agree_on_what_a_pattern_matches(acme: Engine, pattern: str) -> None:
    create()
    with acme.begin() as connection:
        connection.execute(text("UPDATE endpoints SET topics = ARRAY[:one]"), {"one": pattern})
        connection.execute(
            text(
                "INSERT INTO outbox_messages (id, type, tenant_id, schema_version, sequence, body) "
                "SELECT gen_random_uuid(), type, 'acme', 1, 1, '' "
                "FROM unnest(CAST(:topics AS text[])) AS type"
            ),
            {"topics": TOPICS},
        )
        connection.execute(
            text("INSERT INTO outbox_pending SELECT id FROM outbox_messages"),
        )
        found = database.Session(bind=connection)
        relay.fan_out(found, most=100, now=clock.now())
        heard = connection.scalars(
            text("SELECT type FROM deliveries JOIN outbox_messages m ON m.id = message_id")
        ).all()

    assert set(heard) == {topic for topic in TOPICS if topics.matches(pattern, topic)}


@pytest.mark.parametrize(
    ("pattern", "topic", "expected"),
    [
        ("*", "billing.ping", True),
        ("billing.*", "billing.ping", True),
        ("billing.*", "billing.invoice.created", True),
        ("billing.*", "billingx.ping", False),
        ("billing.*", "billing", False),
        ("billing.invoice.*", "billing.invoice.created", True),
        ("billing.invoice.*", "billing.invoicex.created", False),
        ("billing.ping", "billing.ping", True),
        ("billing.ping", "billing.ping.more", False),
    ],
)
def test_a_prefix_means_children_only(pattern: str, topic: str, expected: bool) -> None:
    assert topics.matches(pattern, topic) is expected


def test_every_topic_of_the_catalogue_can_be_subscribed_to() -> None:
    for topic in events.CATALOGUE:
        topics.check(topic)


def test_a_command_that_waited_too_long_for_a_lock_is_tried_again(
    acme: Engine, database_url: str
) -> None:
    endpoint_id = UUID(create()["endpoint_id"])
    database.configure(database.Options(url=database_url, lock_timeout_ms=20))
    refused: list[BaseException] = []
    given_up = threading.Event()

    def count(context: Any) -> None:
        refused.append(context.original_exception)
        given_up.set()

    impatient = database.engine()
    event.listen(impatient, "handle_error", count)
    with impatient.begin() as other:
        other.execute(text("SELECT FROM endpoints FOR UPDATE"))
        command = threading.Thread(target=lambda: disable_endpoint(endpoint_id=endpoint_id))
        command.start()
        assert given_up.wait(30)
    command.join()

    assert {one.sqlstate for one in refused} == {"55P03"}  # type: ignore[attr-defined]
    assert rows(impatient, "SELECT state FROM endpoints") == [("disabled",)]
