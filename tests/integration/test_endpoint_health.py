"""How endpoints fare that fail: circuits, notices, disabling; and deliveries that are dead."""

import datetime as dt
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import orjson
import pytest
from sqlalchemy import Engine, text

from models import database
from models.store import endpoint_health, following, relay
from models.store.skipping import DeliveryArrived, DeliveryUnderWay, UnknownDelivery
from tasks.announce import OPERATOR
from tasks.delivery import deliver_webhooks, skip_delivery
from tasks.endpoint_list import list_endpoints
from tasks.endpoints import delete_endpoint, disable_endpoint, enable_endpoint
from tests.integration.outbox_world import (
    deliveries,
    emit,
    execute,
    finish,
    later,
    now,
    relay_all,
    states,
    subscribe,
    take,
)
from tests.integration.waiting import until_somebody_waits
from tests.receiver import Answer, receiver
from webhooks.retry import Outcome

FAILING = "billing.endpoint.failing"
DISABLED = "billing.endpoint.disabled"
DEAD = "billing.delivery.dead"
USAGE = ["billing.quota_consumed"]


def told(db: Engine) -> list[tuple[str, Any]]:
    """What operators were told: topics and what each is about."""
    return [
        (one["type"], one["data"].get("notice") or one["data"].get("reason"))
        for one in events_of(db, FAILING, DISABLED)
    ]


def events_of(db: Engine, *topics: str) -> list[Any]:
    statement = "SELECT body FROM outbox_messages WHERE type = ANY(:topics) ORDER BY id"
    with db.connect() as connection:
        return [
            orjson.loads(body)
            for body in connection.scalars(text(statement), {"topics": list(topics)})
        ]


def health_of(db: Engine, endpoint_id: str) -> endpoint_health.Health:
    with database.transaction() as session:
        return endpoint_health.find(session, [UUID(endpoint_id)])[UUID(endpoint_id)]


def test_seven_failures_of_ten_open_the_circuit_without_five_in_a_row(db: Engine) -> None:
    story = [200, 500, 500, 500, 500, 200, 500, 500, 500, 200]
    with receiver(*[Answer(status) for status in story], Answer(200)) as peer:
        endpoint_id = subscribe(peer, topics=USAGE)["endpoint_id"]
        for number in range(1, 11):
            assert health_of(db, endpoint_id).probe_at is None
            emit()
            deliver_webhooks()
            assert len(peer.requests) == number

        assert health_of(db, endpoint_id).probe_at is not None
        emit(count=5)
        deliver_webhooks(as_of=later(seconds=20))
        assert len(peer.requests) == 10, "deferred, and no attempt is spent"
        assert [row.attempt_count for row in deliveries(db)[-5:]] == [0] * 5

        deliver_webhooks(as_of=later(seconds=31))
    assert health_of(db, endpoint_id).probe_at is None
    assert states(db)[-5:] == ["delivered"] * 5


def test_a_probe_whose_sender_died_is_followed_by_another(db: Engine) -> None:
    subscribe(topics=USAGE)
    emit(count=9)
    finish(take().rows, Outcome.TIMEOUT)

    [probe] = take(at=later(seconds=31), lease=dt.timedelta(seconds=-1)).rows
    assert take(at=later(seconds=31)).rows == []
    deliver_webhooks()  # finds the lost lease; the circuit is open

    [another] = take(at=later(seconds=31)).rows
    assert another.delivery_id == probe.delivery_id


def test_probes_go_at_doubling_intervals_one_at_a_time(db: Engine) -> None:
    subscribe(topics=USAGE)
    emit(count=50)
    at = now()
    finish(take(at=at).rows, Outcome.TIMEOUT, at=at)

    waits = []
    for _ in range(6):
        begun = at
        while not (rows := take(at=at).rows):
            at += dt.timedelta(seconds=15)
        assert len(rows) == 1
        waits.append((at - begun).total_seconds())
        finish(rows, Outcome.TIMEOUT, at=at)
    assert waits == [30, 60, 120, 240, 480, 600]


def test_what_waits_for_a_slot_when_the_circuit_opens_is_not_sent(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five are claimed at once; with one slot the fourth failure in a row is soon the fifth."""
    monkeypatch.setattr("tasks.window.SLOTS", 1)
    with receiver(Answer(500), Answer(500, delay=0.5)) as peer:
        subscribe(peer, topics=USAGE)
        emit(count=4)
        finish(take().rows, Outcome.TIMEOUT)
        emit(count=5)
        deliver_webhooks()

        assert len(peer.requests) < 5
    assert sum(row.attempt_count for row in deliveries(db)) == 4 + len(peer.requests)


def test_each_stage_of_a_failure_is_told_once(db: Engine) -> None:
    endpoint_id = subscribe(topics=USAGE)["endpoint_id"]
    fail_for(days=6)

    assert told(db) == [
        (FAILING, "opened"),
        (FAILING, "failing_24h"),
        (FAILING, "failing_72h"),
        (DISABLED, "failing"),
    ]
    events = events_of(db, FAILING, DISABLED)
    assert {one["data"]["endpoint_id"] for one in events} == {endpoint_id}
    assert {one["tenant_id"] for one in events} == {"acme"}
    assert [one["sequence"] for one in events] == [2, 3, 4, 5]
    assert events[2]["data"]["failures"] >= 20
    [listed] = list_endpoints(tenant_id="acme")["endpoints"]
    assert listed["state"] == "disabled"


def fail_for(*, days: int, every: dt.timedelta = dt.timedelta(hours=2)) -> None:
    """Emit an event now and then, and let all that is tried fail; tell what there is to tell."""
    start = now()
    for step in range(int(dt.timedelta(days=days) / every)):
        at = start + step * every
        emit()
        finish(take(at=at).rows, Outcome.TIMEOUT, at=at)
    deliver_webhooks(as_of=start + dt.timedelta(days=days))


def test_an_endpoint_that_was_disabled_meanwhile_is_not_told_to_fail(db: Engine) -> None:
    endpoint_id = UUID(subscribe(topics=USAGE)["endpoint_id"])
    emit(count=5)
    rows = take().rows
    disable_endpoint(endpoint_id=endpoint_id)

    finish(rows, Outcome.TIMEOUT)

    assert health_of(db, str(endpoint_id)).probe_at is not None
    assert [topic for topic, _ in told(db)] == [DISABLED]


def test_the_operator_hears_of_a_failing_endpoint_and_its_tenant_of_no_other(db: Engine) -> None:
    with receiver() as operators, receiver() as other:
        subscribe(operators, tenant_id=None, topics=["billing.endpoint.*"])
        subscribe(other, tenant_id="other")
        subscribe(topics=USAGE)
        emit(count=5)
        deliver_webhooks()
        deliver_webhooks()

        assert operators.topics == [FAILING]
        assert other.requests == []


def test_disabling_holds_and_enabling_sends_what_was_held(db: Engine) -> None:
    with receiver(Answer(500)) as peer:
        endpoint_id = UUID(subscribe(peer, topics=USAGE)["endpoint_id"])
        make_fail(db, endpoint_id, days=5, failures=19, events=2)
        sent = emit(count=3)
        deliver_webhooks()

        assert set(states(db)) == {"held"}
        sent += emit(count=2)
        deliver_webhooks()
        assert states(db) == ["held"] * 5
    with receiver() as mended:
        execute(db, "UPDATE endpoints SET url = :url", url=mended.url)
        enable_endpoint(endpoint_id=endpoint_id)
        deliver_webhooks()

        assert sorted(mended.ids) == sorted(sent)
    assert health_of(db, str(endpoint_id)).review_at is None


def make_fail(db: Engine, endpoint_id: UUID, *, days: float, failures: int, events: int) -> None:
    """Let an endpoint have failed for so long and so often."""
    condition = {
        "failing_from": later(days=-days).isoformat(),
        "failures": failures,
        "events": [f"evt_{number}" for number in range(events)],
        "told": ["opened", "failing_24h", "failing_72h"],
        "opening_told_at": later(days=-days).isoformat(),
    }
    known = endpoint_health.Health(review_at=later(hours=1), condition=condition)
    with database.transaction() as session:
        endpoint_health.keep(session, {endpoint_id: known})


@pytest.mark.parametrize(
    ("days", "failures", "events", "state"),
    [
        (5, 19, 2, "disabled"),  # the next is the twentieth
        (4.9, 100, 2, "enabled"),
        (5, 18, 2, "enabled"),
        (5, 100, 1, "disabled"),  # the next is the second event
    ],
)
def test_the_disable_rule_needs_all_its_parts(
    db: Engine, days: float, failures: int, events: int, state: str
) -> None:
    endpoint_id = UUID(subscribe(topics=USAGE)["endpoint_id"])
    make_fail(db, endpoint_id, days=days, failures=failures, events=events)
    emit()
    deliver_webhooks()

    assert list_endpoints()["endpoints"][0]["state"] == state


def test_an_endpoint_that_is_not_even_tried_any_more_is_disabled_by_review(db: Engine) -> None:
    endpoint_id = UUID(subscribe(topics=USAGE)["endpoint_id"])
    make_fail(db, endpoint_id, days=4.99, failures=30, events=2)

    deliver_webhooks(as_of=later(minutes=59))
    assert told(db) == []
    deliver_webhooks(as_of=later(hours=2))

    assert told(db) == [(DISABLED, "failing")]


def test_a_review_is_not_kept_from_others_by_endpoints_that_are_disabled(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is told of those, so nothing of them comes to an end."""
    monkeypatch.setattr("tasks.recording.REVIEWED_AT_ONCE", 1)
    first, second = sorted(UUID(subscribe(topics=USAGE)["endpoint_id"]) for _ in range(2))
    emit()
    finish(take().rows, Outcome.TIMEOUT)
    with database.transaction() as session:
        due = endpoint_health.lock_due_for_review(session, most=1, now=later(hours=25))
        assert list(due) == [first]
    disable_endpoint(endpoint_id=first)
    execute(db, "DELETE FROM deliveries")  # nothing is tried any more

    deliver_webhooks(as_of=later(hours=25))

    [notice] = events_of(db, FAILING)
    assert (notice["data"]["endpoint_id"], notice["data"]["notice"]) == (str(second), "failing_24h")


def test_a_review_waits_for_no_endpoint_that_somebody_else_has(db: Engine) -> None:
    taken, other = sorted(UUID(subscribe(topics=USAGE)["endpoint_id"]) for _ in range(2))
    emit()
    finish(take().rows, Outcome.TIMEOUT)

    def review() -> list[UUID]:
        with database.transaction() as session:
            return list(endpoint_health.lock_due_for_review(session, most=9, now=later(hours=25)))

    with ThreadPoolExecutor(1) as thread, database.transaction() as session:
        endpoint_health.lock(session, [taken])

        assert thread.submit(review).result(30) == [other]


def test_a_backlog_that_somebody_else_is_moving_is_left_to_him(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.store.following.CHUNK", 1)
    endpoint_id = UUID(subscribe(topics=USAGE)["endpoint_id"])
    emit(count=3)
    relay_all()
    disable_endpoint(endpoint_id=endpoint_id)

    def go_on() -> int:
        with database.transaction() as session:
            return following.go_on(session, now=now())

    with ThreadPoolExecutor(1) as thread, database.transaction() as session:
        endpoint_health.lock(session, [endpoint_id])

        assert thread.submit(go_on).result(30) == 0
    assert go_on() == 1


def test_a_success_every_tenth_try_never_disables(db: Engine) -> None:
    subscribe(topics=USAGE)
    start = now()
    for step in range(50):
        at = start + step * dt.timedelta(hours=6)
        emit()
        outcome = Outcome.DELIVERED if step % 10 == 9 else Outcome.TIMEOUT
        finish(take(at=at).rows, outcome, at=at)
    deliver_webhooks(as_of=at)

    assert DISABLED not in dict(told(db))
    assert list_endpoints()["endpoints"][0]["state"] == "enabled"


def test_endpoints_are_locked_in_the_order_of_their_ids_wherever_they_are_kept(db: Engine) -> None:
    first, second = sorted(UUID(subscribe()["endpoint_id"]) for _ in range(2))
    execute(db, "UPDATE endpoints SET description = 'now the last row' WHERE id = :id", id=first)
    execute(db, "ANALYZE endpoints")  # so few are read as they lie there

    def lock() -> None:
        with database.transaction() as session:
            endpoint_health.lock(session, [second, first])

    with ThreadPoolExecutor(1) as thread:
        with database.Session(db) as session:
            endpoint_health.lock(session, [first])
            other = thread.submit(lock)
            until_somebody_waits()
            # It has nothing that we could wait for.
            endpoint_health.lock(session, [second])
        other.result(30)


def test_two_senders_that_see_an_endpoint_fail_tell_it_once(db: Engine) -> None:
    subscribe(topics=USAGE)
    operator_id = subscribe(tenant_id=None, topics=[FAILING])["endpoint_id"]
    emit(count=5)
    rows = take().rows
    gate = threading.Barrier(len(rows))

    def record(row: Any) -> None:
        gate.wait()
        finish([row], Outcome.TIMEOUT)

    racers = [threading.Thread(target=record, args=(row,)) for row in rows]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()

    with database.transaction() as session:
        relay.fan_out(session, most=100, now=now())
    assert [str(row.endpoint_id) for row in deliveries(db)].count(operator_id) == 1


def test_a_dead_delivery_is_told(db: Engine) -> None:
    with receiver(Answer(503)) as peer:
        endpoint_id = subscribe(peer, topics=USAGE)["endpoint_id"]
        [event_id] = emit()
        deliver_webhooks()
        execute(db, "UPDATE deliveries SET attempt_count = 9 WHERE state = 'pending'")
        assert deliver_webhooks(as_of=later(days=2))["dead"] == 1
    [notice] = events_of(db, DEAD)
    assert notice["tenant_id"] == "acme"
    assert notice["data"] == {
        "delivery_id": deliveries(db)[0].id,
        "endpoint_id": endpoint_id,
        "event_id": event_id,
        "event_type": "billing.quota_consumed",
        "attempts": 10,
        "outcome": "http_error",
        "status": 503,
    }


def test_a_delivery_that_is_dead_to_the_operator_is_no_news_for_the_events_tenant(
    db: Engine,
) -> None:
    subscribe(tenant_id=None, topics=USAGE)
    emit()
    relay_all()
    execute(db, "UPDATE deliveries SET attempt_count = 9")
    finish(take().rows, Outcome.TIMEOUT)

    [notice] = events_of(db, DEAD)
    assert notice["tenant_id"] == OPERATOR


def test_dead_notices_about_notices_end(db: Engine) -> None:
    """Two dead endpoints that hear everything would tell of each other's dead for ever."""
    for _ in range(2):
        subscribe()
    emit()
    for _ in range(6):
        finish(take(at=later(days=1)).rows, Outcome.TIMEOUT)
        execute(db, "UPDATE deliveries SET attempt_count = 9 WHERE state = 'pending'")
        finish(take(at=later(days=2)).rows, Outcome.TIMEOUT, at=later(days=2))
        execute(db, "DELETE FROM endpoint_health")
    with db.connect() as connection:
        types = Counter(connection.scalars(text("SELECT type FROM outbox_messages")))
    assert types[DEAD] == 2, "one for each endpoint of the one event"


def test_a_long_backlog_follows_its_endpoint_in_chunks(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.store.following.CHUNK", 10)
    with receiver() as peer:
        endpoint_id = UUID(subscribe(peer, topics=USAGE)["endpoint_id"])
        emit(count=35)
        with database.transaction() as session:
            relay.fan_out(session, most=100, now=now())

        disable_endpoint(endpoint_id=endpoint_id)
        assert Counter(states(db)) == {"held": 10, "pending": 25}
        deliver_webhooks()
        assert Counter(states(db)) == {"held": 35}
        assert peer.requests == []

        enable_endpoint(endpoint_id=endpoint_id)
        assert Counter(states(db)) == {"held": 25, "pending": 10}
        while "held" in states(db):
            deliver_webhooks()
        deliver_webhooks()
        assert len(peer.requests) == 35

        disable_endpoint(endpoint_id=endpoint_id)
        emit(count=35)
        deliver_webhooks()
        delete_endpoint(endpoint_id=endpoint_id)
        deliver_webhooks()
    assert Counter(states(db)) == {"delivered": 35, "cancelled": 35}


@pytest.mark.parametrize("state", ["pending", "held", "dead"])
def test_a_delivery_that_has_not_arrived_can_be_skipped(db: Engine, state: str) -> None:
    subscribe(topics=USAGE)
    [event_id] = emit()
    [row] = take().rows
    finish([row], Outcome.TIMEOUT)
    execute(db, "UPDATE deliveries SET state = :state", state=state)

    for _ in range(2):
        answer = skip_delivery(delivery_id=row.delivery_id, reason="a test")
        assert answer == {
            "delivery_id": row.delivery_id,
            "endpoint_id": str(row.endpoint_id),
            "event_id": event_id,
            "state": "cancelled",
        }
    [kept] = deliveries(db)
    assert (kept.state, kept.skip_reason) == ("cancelled", "a test")
    assert kept.completed_at is not None


def test_a_delivery_that_is_under_way_or_arrived_can_not_be_skipped(db: Engine) -> None:
    subscribe(topics=USAGE)
    emit()
    [row] = take().rows
    with pytest.raises(DeliveryUnderWay):
        skip_delivery(delivery_id=row.delivery_id, reason="a test")
    finish([row])
    with pytest.raises(DeliveryArrived):
        skip_delivery(delivery_id=row.delivery_id, reason="a test")
    assert states(db) == ["delivered"]


def test_another_tenants_delivery_is_not_found(db: Engine) -> None:
    subscribe(tenant_id="other", topics=USAGE)
    emit("other")
    [row] = take().rows
    finish([row], Outcome.TIMEOUT)
    for unknown in (
        {"delivery_id": row.delivery_id, "tenant_id": "acme"},
        {"delivery_id": 2**62},
    ):
        with pytest.raises(UnknownDelivery):
            skip_delivery(reason="a test", **unknown)
    assert states(db) == ["pending"]


def test_a_skip_and_a_claim_at_once_do_not_both_happen(db: Engine) -> None:
    subscribe(topics=USAGE)
    for _ in range(20):
        emit()
        with database.transaction() as session:
            relay.fan_out(session, most=10, now=now())
        waiting = next(row.id for row in deliveries(db) if row.state == "pending")
        gate = threading.Barrier(2)
        claimed: list[Any] = []

        def claim_it(gate: threading.Barrier = gate, claimed: list[Any] = claimed) -> None:
            gate.wait()
            claimed.extend(take().rows)

        claimer = threading.Thread(target=claim_it)
        claimer.start()
        gate.wait()
        skipped = True
        try:
            skip_delivery(delivery_id=waiting, reason="a test")
        except DeliveryUnderWay:
            skipped = False
        claimer.join()
        assert skipped is not bool(claimed)
        finish(claimed)
