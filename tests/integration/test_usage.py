"""Usage events: each stored once, whoever sends it how often, and nothing lost silently."""

import datetime as dt
import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from models import database
from models.store import tenant
from tasks import contract, usage_chunk
from tasks import usage as task
from tasks.usage import record_usage
from tasks.usage_refused import UsageConflict

AS_OF = dt.datetime(2026, 5, 2, 12, tzinfo=dt.UTC)


def event(key: str = "k1", **changed: Any) -> Any:
    plain = {"tenant_id": "acme", "metric": "api", "amount": "1.5", "idempotency_key": key}
    return plain | changed


def send(*events: Any) -> usage_chunk.UsageAnswer:
    return record_usage(events=list(events), as_of=AS_OF)


def rows(statement: str) -> list[Any]:
    with database.transaction() as session:
        return list(session.execute(text(statement)).all())


def test_an_event_is_stored_with_its_tenant_and_logged_as_touched(db: Engine) -> None:
    answer = record_usage(**event(at="2026-05-01T23:00:00-05:00", metadata={"a": 1}), as_of=AS_OF)

    at = dt.datetime(2026, 5, 2, 4, tzinfo=dt.UTC)
    assert answer == {
        "accepted": 1,
        "duplicate": 0,
        "conflict": 0,
        "rejected": 0,
        "verdicts": ["accepted"],
        "refused": [],
    }
    assert rows(
        "SELECT tenant_id, metric, amount, at, received_at, metadata FROM usage_events"
    ) == [("acme", "api", Decimal("1.5"), at, AS_OF, {"a": 1})]
    assert rows("SELECT tenant_id, timezone FROM tenants") == [("acme", "UTC")]
    assert rows("SELECT tenant_ids, metrics, firsts, lasts FROM usage_touched_days") == [
        (["acme"], ["api"], [at], [at])
    ]


def test_a_tenant_that_was_introduced_keeps_its_zone(db: Engine) -> None:
    with database.transaction() as session:
        tenant.change(session, "acme", now=AS_OF, timezone="Asia/Kathmandu")

    send(event(), event(tenant_id="other"))

    assert rows("SELECT tenant_id, timezone FROM tenants ORDER BY 1") == [
        ("acme", "Asia/Kathmandu"),
        ("other", "UTC"),
    ]


def test_an_event_without_an_instant_happened_when_it_arrived(db: Engine) -> None:
    send(event())

    assert rows("SELECT at, received_at FROM usage_events") == [(AS_OF, AS_OF)]


def test_touched_days_are_logged_by_tenant_metric_and_hour_and_for_new_events_only(
    db: Engine,
) -> None:
    events = [
        event("k1", at="2026-05-01T23:59:59.999999Z"),
        event("k2", at="2026-05-01T23:00:00Z"),
        event("k0", at="2026-05-01T22:59:59.999999Z"),
        event("k3", at="2026-05-02T00:00:00Z"),
        event("k4", at="2026-05-02T00:00:00Z", metric="storage"),
    ]
    send(*events)
    send(*events)

    assert rows(
        "SELECT metric, first_at::text, last_at::text FROM usage_touched_days, "
        "unnest(metrics, firsts, lasts) AS span(metric, first_at, last_at) ORDER BY 1, 2"
    ) == [
        ("api", "2026-05-01 22:59:59.999999+00", "2026-05-01 22:59:59.999999+00"),
        ("api", "2026-05-01 23:00:00+00", "2026-05-01 23:59:59.999999+00"),
        ("api", "2026-05-02 00:00:00+00", "2026-05-02 00:00:00+00"),
        ("storage", "2026-05-02 00:00:00+00", "2026-05-02 00:00:00+00"),
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {}),
        ({"amount": "1.5"}, {"amount": 1.5}),
        ({"amount": "1.50"}, {"amount": "15e-1"}),
        ({"at": "2026-05-01T10:00:00Z"}, {"at": "2026-05-01T12:00:00+02:00"}),
        ({"metadata": {"a": 1, "b": 2}}, {"metadata": {"b": 2, "a": 1.0}}),
        ({"metadata": {}}, {"metadata": None}),
    ],
)
def test_the_same_content_again_is_a_duplicate(
    db: Engine, first: dict[str, Any], second: dict[str, Any]
) -> None:
    record_usage(**event(**first), as_of=AS_OF)

    answer = record_usage(**event(**second), as_of=AS_OF + dt.timedelta(hours=1))

    assert answer["verdicts"] == ["duplicate"]
    assert rows("SELECT count(*) FROM usage_events") == [(1,)]


@pytest.mark.parametrize(
    ("field", "first", "second"),
    [
        ("amount", {}, {"amount": "1.500000000001"}),
        ("at", {"at": "2026-05-01T10:00:00Z"}, {"at": "2026-05-01T10:00:00.000001Z"}),
        ("at", {"at": "2026-05-01T10:00:00Z"}, {}),
        ("at", {}, {"at": "2026-05-01T10:00:00Z"}),
        ("metadata", {"metadata": {"a": 1}}, {"metadata": {"a": 2}}),
        ("metadata", {"metadata": {"a": 1}}, {}),
    ],
)
def test_the_same_key_with_other_content_is_a_conflict_and_changes_nothing(
    db: Engine, field: str, first: dict[str, Any], second: dict[str, Any]
) -> None:
    send(event(**first))
    stored = rows("SELECT * FROM usage_events")

    answer = send(event(**second))

    assert answer["verdicts"] == ["conflict"]
    refused = answer["refused"][0]
    assert (refused["index"], refused["verdict"], refused["field"]) == (0, "conflict", field)
    assert "'k1'" in refused["reason"]
    assert rows("SELECT id, task, tenant_id, code, payload FROM rejected_messages") == [
        (refused["rejected_message_id"], task.NAME, "acme", "usage.conflict", event(**second))
    ]
    assert rows("SELECT * FROM usage_events") == stored
    with pytest.raises(UsageConflict, match="k1"):
        record_usage(**event(**second), as_of=AS_OF)
    assert rows("SELECT * FROM usage_events") == stored


def test_a_key_is_unique_for_its_tenant_and_metric_only(db: Engine) -> None:
    answer = send(event(), event(tenant_id="other"), event(metric="storage"))

    assert answer["accepted"] == 3


def test_of_one_key_in_one_message_the_first_event_wins(db: Engine) -> None:
    answer = send(event("b"), event("a"), event("b", amount=9), event("b"), event("a"))

    assert answer["verdicts"] == ["accepted", "accepted", "conflict", "duplicate", "duplicate"]
    assert rows("SELECT idempotency_key, amount FROM usage_events ORDER BY 1") == [
        ("a", Decimal("1.5")),
        ("b", Decimal("1.5")),
    ]


def test_a_bad_event_costs_only_itself_and_is_kept(db: Engine) -> None:
    bad = [
        event("bad1", amount=2**70),
        "no event",
        event("bad2", metric="\ud800"),
        event("bad3", at="2026-05-02T13:00:00.1Z"),
        event("bad4", metadata={"nan": float("nan"), "nul": "\x00"}),
        {"tenant_id": 5},
    ]
    deep: Any = []
    for _ in range(700):
        deep = [deep]
    bad.append(event("bad5", metadata={"deep": deep}))

    answer = send(event("a"), *bad, event("b"), event("a"))

    assert answer["verdicts"] == [
        "accepted",
        *["rejected"] * len(bad),
        "accepted",
        "duplicate",
    ]
    assert (answer["accepted"], answer["duplicate"], answer["rejected"]) == (2, 1, len(bad))
    assert [each["index"] for each in answer["refused"]] == list(range(1, len(bad) + 1))
    assert [each["field"] for each in answer["refused"]] == [
        "amount",
        None,
        "metric",
        "at",
        "metadata",
        "tenant_id",
        "metadata",
    ]
    kept = rows("SELECT id, code, task, state FROM rejected_messages")
    assert {row[1:] for row in kept} == {("message.invalid", task.NAME, "open")}
    assert {row.id for row in kept} == {each["rejected_message_id"] for each in answer["refused"]}


def test_the_same_bad_event_again_is_counted_and_not_kept_twice(db: Engine) -> None:
    first = send(event(amount=-1))
    second = send(event(amount=-1), event(amount=-1))

    assert len({each["rejected_message_id"] for each in first["refused"] + second["refused"]}) == 1
    assert rows("SELECT seen_count FROM rejected_messages") == [(2,)]


def test_a_kept_event_can_be_mended_and_sent_on_its_own(db: Engine) -> None:
    send(event(amount="1,5"))
    payload = rows("SELECT payload FROM rejected_messages")[0].payload

    assert record_usage(**payload | {"amount": "1.5"})["verdicts"] == ["accepted"]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({}, "tenant_id: is missing; it must be a text of 1 to 64 characters"),
        (event(tenant_id=None), "tenant_id"),
        (event(amount=True), "amount"),
        (event(at="2030-01-01T00:00:00Z"), "at: must not be later"),
        (event(surprise=1), "surprise"),
        (event(events=[event()]), "events: must not be sent beside"),
        ({"events": 5}, "events"),
        ({"events": [event()] * 10_001}, "events"),
        ({"events": {"0": event()}}, "events"),
    ],
)
def test_a_message_that_is_wrong_as_a_whole_fails(
    db: Engine, message: dict[str, Any], reason: str
) -> None:
    with pytest.raises(contract.InvalidMessage, match=reason):
        record_usage(**message, as_of=AS_OF)
    assert rows("SELECT count(*) FROM usage_events") == [(0,)]


def test_an_empty_chunk_is_nothing_to_do(db: Engine) -> None:
    assert send()["verdicts"] == []


def test_stored_events_can_be_neither_changed_nor_deleted(session: database.Session) -> None:
    usage_chunk.record(session, usage_chunk.look([event("a")], now=AS_OF))
    for statement in (
        "UPDATE usage_events SET amount = 0",
        "DELETE FROM usage_events",
        "TRUNCATE usage_events",
    ):
        with pytest.raises(DBAPIError, match="append-only"), session.begin_nested():
            session.execute(text(statement))


def test_eight_senders_of_the_same_events_store_each_once(db: Engine) -> None:
    events = [event(f"k{number}", tenant_id=f"t{number % 7}") for number in range(200)]
    start = threading.Barrier(8)

    def sender(seed: int) -> list[usage_chunk.UsageAnswer]:
        mine = random.Random(seed).sample(events, len(events))
        start.wait()
        return [send(*mine[:120]), send(*mine[120:])]

    with ThreadPoolExecutor(8) as pool:
        answers = [answer for each in pool.map(sender, range(8)) for answer in each]

    verdicts = Counter(verdict for answer in answers for verdict in answer["verdicts"])
    assert verdicts == {"accepted": 200, "duplicate": 7 * 200}
    assert rows("SELECT count(*) FROM usage_events") == [(200,)]
    assert rows("SELECT count(*) FROM tenants") == [(7,)]


def test_of_eight_senders_who_disagree_one_wins_and_the_others_are_told(db: Engine) -> None:
    start = threading.Barrier(8)

    def sender(amount: int) -> list[str]:
        start.wait()
        return list(send(*[event(f"k{number}", amount=amount) for number in range(20)])["verdicts"])

    with ThreadPoolExecutor(8) as pool:
        columns = list(zip(*pool.map(sender, range(8)), strict=True))

    assert all(Counter(column) == {"accepted": 1, "conflict": 7} for column in columns)
    assert rows("SELECT count(*) FROM rejected_messages") == [(7 * 20,)]


def test_cloud_events_are_stored_beside_our_own_and_refused_in_their_own_words(db: Engine) -> None:
    cloud = {
        "specversion": "1.0",
        "id": "1",
        "source": "/gateway",
        "type": "api",
        "subject": "acme",
        "data": {"amount": "3"},
    }
    bad = {**cloud, "id": "2", "time": "soon"}

    answer = send(event(), cloud, cloud, bad, {**cloud, "data": {"amount": "4"}})

    assert answer["verdicts"] == ["accepted", "accepted", "duplicate", "rejected", "conflict"]
    assert [(each["field"], each["index"]) for each in answer["refused"]] == [
        ("time", 3),
        ("data.amount", 4),
    ]
    assert rows(
        "SELECT tenant_id, payload FROM rejected_messages WHERE code = 'message.invalid'"
    ) == [("acme", {"events": [bad]})]
