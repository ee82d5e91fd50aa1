"""Deliveries sent again: same id, same bytes, a fresh series of attempts, and bounded."""

import datetime as dt
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, text

from models.rules.refusal import Refusal
from models.store.endpoint import EndpointNotEnabled, UnknownEndpoint
from models.store.replaying import NotReplayable
from models.store.skipping import UnknownDelivery
from tasks.delivery import deliver_webhooks, skip_delivery
from tasks.delivery_list import get_delivery
from tasks.endpoint_update import update_endpoint
from tasks.endpoints import delete_endpoint, disable_endpoint
from tasks.paging import InvalidCursor
from tasks.pings import ping_endpoint
from tasks.replays import replay_deliveries, replay_delivery
from tests.integration.outbox_world import (
    deliveries,
    emit,
    end_leases,
    execute,
    later,
    now,
    relay_all,
    states,
    subscribe,
    take,
)
from tests.integration.waiting import until_somebody_waits
from tests.receiver import Answer, receiver
from webhooks import events

LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


def replay(delivery_id: int, **options: Any) -> Any:
    return replay_delivery(
        **{"delivery_id": delivery_id, "idempotency_key": uuid4().hex, **options}
    )


def replay_all(made: Any, **options: Any) -> Any:
    return replay_deliveries(
        **{
            "endpoint_id": UUID(made["endpoint_id"]),
            "since": LONG_AGO,
            "idempotency_key": uuid4().hex,
            **options,
        }
    )


def chunks_of(**options: Any) -> list[int]:
    """Replay to the end; return what each chunk had."""
    found, cursor = [], None
    while True:
        answer = replay_deliveries(
            **{
                "since": LONG_AGO,
                "cursor": cursor,
                "idempotency_key": uuid4().hex,
                **options,
            }
        )
        assert answer["replayed"] == sum(answer["by_state"].values())
        found.append(answer["replayed"])
        cursor = answer["next_cursor"]
        if cursor is None:
            return found


def die(db: Engine) -> None:
    end_leases(db, state="dead", attempt_count=10, completed_at=now())


def test_a_delivered_one_goes_out_again_with_the_same_id_and_bytes_and_is_marked(
    db: Engine,
) -> None:
    with receiver() as peer:
        made = subscribe(peer)
        emit()
        deliver_webhooks()
        [row] = deliveries(db)

        answer = replay(row.id)
        deliver_webhooks()

        first, second = peer.requests
    assert answer["state"] == "pending"
    assert (first.id, first.body) == (second.id, second.body)
    second.verify(made["secret"])
    [row] = deliveries(db)
    assert (row.state, row.attempt_count) == ("delivered", 1)
    assert row.replayed_at is not None


def test_a_dead_one_gets_a_full_series_of_attempts_again(db: Engine) -> None:
    with receiver(Answer(status=500)) as peer:
        subscribe(peer)
        emit()
        take()
        die(db)
        [row] = deliveries(db)

        replay(row.id)
        deliver_webhooks()

        assert len(peer.requests) == 1
    [row] = deliveries(db)
    assert (row.state, row.attempt_count) == ("pending", 1)
    assert now() < row.due_at < later(minutes=1)


def test_one_that_waits_for_its_next_attempt_goes_now_and_keeps_its_count(db: Engine) -> None:
    with receiver(Answer(status=500), Answer()) as peer:
        subscribe(peer)
        emit()
        deliver_webhooks()
        [row] = deliveries(db)
        assert row.due_at > now()

        replay(row.id)
        deliver_webhooks()

        assert len(peer.requests) == 2
    [row] = deliveries(db)
    assert (row.state, row.attempt_count, row.replayed_at) == ("delivered", 2, None)


def test_what_an_ordered_endpoint_stands_still_for_goes_at_once(db: Engine) -> None:
    with receiver(Answer(500), Answer()) as peer:
        subscribe(peer, ordered=True)
        sent = emit(count=3)
        deliver_webhooks()
        first, second, _ = deliveries(db)
        found = get_delivery(delivery_id=first.id)
        assert (found["waits_until"] or "") > found["due_at"]

        replay(second.id)  # the others wait for the first, whoever asks
        deliver_webhooks()
        assert peer.ids == sent[:1]
        replay(first.id)
        deliver_webhooks()

        assert peer.ids == [sent[0], *sent]
        assert [one.headers["x-attempt"] for one in peer.requests] == ["1", "2", "1", "1"]
    assert get_delivery(delivery_id=first.id)["waits_until"] is None


def test_what_waits_for_an_ordered_endpoint_keeps_its_place_whatever_the_clock(
    db: Engine,
) -> None:
    subscribe(ordered=True)
    emit(count=2)
    relay_all()
    before = deliveries(db)

    replay(before[1].id, as_of=later(hours=-1))

    assert [row.due_at for row in deliveries(db)] == [row.due_at for row in before]


def test_a_hold_that_an_endpoint_asked_for_is_not_lifted_by_a_replay(db: Engine) -> None:
    with receiver(Answer(503, headers={"Retry-After": "600"}), Answer()) as peer:
        subscribe(peer)
        emit()
        deliver_webhooks()
        [row] = deliveries(db)

        replay(row.id)
        deliver_webhooks()

        assert len(peer.requests) == 1
        deliver_webhooks(as_of=later(seconds=601))
        assert len(peer.requests) == 2


def test_one_that_is_being_sent_is_left_to_its_sender(db: Engine) -> None:
    subscribe()
    emit()
    take()

    [row] = deliveries(db)
    assert replay(row.id)["state"] == "sending"
    assert deliveries(db) == [row]


def test_the_same_call_again_replays_once(db: Engine) -> None:
    with receiver() as peer:
        subscribe(peer)
        emit()
        deliver_webhooks()
        [row] = deliveries(db)
        first = replay(row.id, idempotency_key="one")
        deliver_webhooks()

        assert replay(row.id, idempotency_key="one") == first
        deliver_webhooks()

        assert len(peer.requests) == 2


def test_eight_replays_at_once_with_keys_of_their_own_are_one_delivery(db: Engine) -> None:
    with receiver() as peer:
        subscribe(peer)
        emit()
        deliver_webhooks()
        [row] = deliveries(db)
        gate = threading.Barrier(8)

        def call(_: int) -> Any:
            gate.wait()
            return replay(row.id)["state"]

        with ThreadPoolExecutor(8) as threads:
            assert set(threads.map(call, range(8))) == {"pending"}
        deliver_webhooks()

        assert len(peer.requests) == 2


def test_what_was_given_up_or_can_not_be_sent_is_not_replayed(db: Engine) -> None:
    made = subscribe(topics=["billing.quota_consumed"])
    emit(count=2)
    relay_all()
    skipped, other = deliveries(db)
    skip_delivery(delivery_id=skipped.id, reason="a test")
    with pytest.raises(NotReplayable, match="cancelled"):
        replay(skipped.id)
    with pytest.raises(UnknownDelivery):
        replay(other.id, tenant_id="other")

    disable_endpoint(endpoint_id=UUID(made["endpoint_id"]))
    with pytest.raises(EndpointNotEnabled, match="enable it"):
        replay(other.id)
    with pytest.raises(EndpointNotEnabled, match="enable it"):
        replay_all(made)
    delete_endpoint(endpoint_id=UUID(made["endpoint_id"]))
    with pytest.raises(UnknownEndpoint):
        replay(other.id)
    with pytest.raises(UnknownEndpoint):
        replay_all(made)
    assert states(db) == ["cancelled", "cancelled"]


def test_all_dead_ones_of_an_endpoint_go_again_chunk_by_chunk_and_no_others(db: Engine) -> None:
    with receiver() as peer, receiver() as other:
        made = subscribe(peer)
        subscribe(other)
        sent = emit(count=5)
        take()
        die(db)

        chunks = chunks_of(endpoint_id=UUID(made["endpoint_id"]), limit=2)
        deliver_webhooks()

        assert chunks == [2, 2, 1]
        assert sorted(peer.ids) == sorted(sent)
        assert other.requests == []
    assert sorted(states(db)) == ["dead"] * 5 + ["delivered"] * 5


def test_what_is_replayed_can_be_narrowed_by_time_topic_and_state(db: Engine) -> None:
    made = subscribe()
    emit(count=2)
    emit(topic=events.InvoiceCreated)
    relay_all()

    assert replay_all(made, states=["dead", "delivered"])["replayed"] == 0
    assert replay_all(made, states=["pending"])["replayed"] == 3
    die(db)
    assert replay_all(made, since=later(minutes=1))["replayed"] == 0
    assert replay_all(made, until=LONG_AGO)["replayed"] == 0
    assert replay_all(made, topic="billing.invoice.created")["replayed"] == 1
    assert replay_all(made)["replayed"] == 2
    with pytest.raises(UnknownEndpoint):
        replay_all(made, tenant_id="other")


@pytest.mark.parametrize("wrong", [{"states": []}, {"states": ["held"]}, {"limit": 2_001}])
def test_what_is_not_bounded_or_not_replayable_is_refused(db: Engine, wrong: Any) -> None:
    with pytest.raises(Refusal):
        replay_all(subscribe(), **wrong)


def test_replays_go_at_the_pace_that_the_endpoint_is_sent_anything(db: Engine) -> None:
    with receiver() as peer:
        made = subscribe(peer, rate_per_minute=60)
        emit(count=5)
        take()
        die(db)
        replay_all(made)
        at = later(seconds=10)
        deliver_webhooks(as_of=at)

        assert 1 <= len(peer.requests) < 5


def test_a_dead_notice_of_a_replay_is_told_again(db: Engine) -> None:
    with receiver(Answer(status=500)) as peer:
        subscribe(peer)
        emit()
        take()
        die(db)
        [row] = deliveries(db)
        replay(row.id)
        execute(db, "UPDATE deliveries SET attempt_count = 9")
        deliver_webhooks()

    assert get_delivery(delivery_id=row.id)["state"] == "dead"


def test_an_endpoint_gets_what_happened_before_it_was_there_under_the_same_ids(db: Engine) -> None:
    with receiver() as early, receiver() as late:
        subscribe(early)
        sent = emit(count=5)
        emit("bolt")
        deliver_webhooks()
        made = subscribe(late, topics=["billing.quota_consumed"])
        others = emit(topic=events.InvoiceCreated)
        deliver_webhooks()
        assert late.requests == []
        wanted = {"endpoint_id": UUID(made["endpoint_id"]), "states": ["missing"]}

        counted = chunks_of(**wanted, limit=2, dry_run=True)
        assert chunks_of(**wanted, limit=2) == counted == [2, 2, 1]
        deliver_webhooks()

        assert sorted(late.ids) == sorted(sent)
        assert {one.body for one in late.requests} <= {one.body for one in early.requests}
        assert chunks_of(**wanted) == [0]
        assert sorted(early.ids) == sorted(sent + others)
    assert sum(row.replayed_at is not None for row in deliveries(db)) == 5


def test_what_an_endpoint_asks_for_since_it_was_widened_is_found_missing(db: Engine) -> None:
    with receiver() as peer:
        made = subscribe(peer, topics=["billing.invoice.*"])
        emit()
        emit(topic=events.InvoiceCreated)
        deliver_webhooks()
        endpoint_id = UUID(made["endpoint_id"])
        assert chunks_of(endpoint_id=endpoint_id, states=["missing"], dry_run=True) == [0]

        update_endpoint(endpoint_id=endpoint_id, topics=["billing.*"])
        late = chunks_of(endpoint_id=endpoint_id, states=["missing"], since=later(seconds=5))
        assert late == [0]
        assert chunks_of(endpoint_id=endpoint_id, states=["missing"]) == [1]
        deliver_webhooks()

    assert [one.headers["x-topic"] for one in peer.requests] == [
        "billing.invoice.created",
        "billing.quota_consumed",
    ]


def test_what_is_missing_obeys_the_rules_of_the_fan_out(db: Engine) -> None:
    acme = subscribe()
    ping_endpoint(endpoint_id=UUID(acme["endpoint_id"]), idempotency_key="p")
    emit("acme", count=2)
    emit("bolt")
    emit("acme", topic=events.UsageDrifted)
    relay_all()
    execute(
        db,
        "DELETE FROM deliveries WHERE message_id NOT IN (SELECT d.message_id FROM "
        "deliveries d JOIN outbox_messages m ON m.id = d.message_id "
        "WHERE m.type = 'billing.ping')",
    )
    subscribe(tenant_id=None)
    disabled = subscribe(tenant_id="bolt")
    disable_endpoint(endpoint_id=UUID(disabled["endpoint_id"]))
    deleted = subscribe(tenant_id="bolt")
    delete_endpoint(endpoint_id=UUID(deleted["endpoint_id"]))
    emit("acme")  # waits for its relay
    missing = {"states": ["missing"], "dry_run": True}

    assert chunks_of(tenant_id="bolt", **missing) == [0]
    assert chunks_of(tenant_id="acme", **missing) == [2]
    # The operator's endpoint lacks all four, what is about the system too; of acme's two are there.
    assert chunks_of(everybody=True, **missing) == [6]
    assert chunks_of(everybody=True, **missing, limit=4) == [4, 2]
    assert chunks_of(everybody=True, **missing, topic="billing.usage_drifted") == [1]


def test_everybodys_and_a_tenants_dead_ones_go_again_and_no_others(db: Engine) -> None:
    for tenant in ("acme", "acme", "bolt", "cube"):
        subscribe(tenant_id=tenant)
    subscribe(tenant_id=None)
    for tenant in ("acme", "bolt", "cube"):
        emit(tenant, count=3)
    take()
    die(db)

    assert chunks_of(tenant_id="acme", limit=2) == [2, 1, 2, 1, 0]
    assert chunks_of(tenant_id="acme") == [0]
    assert chunks_of(everybody=True, dry_run=True, limit=5) == [3, 3, 5, 4, 0]
    assert chunks_of(everybody=True, states=["dead", "missing"])[-2:] == [0, 0]
    assert states(db) == ["pending"] * 21


def test_a_chunk_that_met_only_endpoints_without_any_goes_on_behind_them(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.replay_scope.ENDPOINTS", 2)
    for _ in range(5):
        subscribe(topics=["billing.ping"])
    subscribe()
    emit()
    take()
    die(db)

    assert chunks_of(everybody=True) == [0, 0, 1, 0]


def test_an_endpoint_that_is_disabled_meanwhile_is_passed_over(db: Engine) -> None:
    first, second = subscribe(), subscribe()
    emit()
    take()
    die(db)
    with ThreadPoolExecutor(1) as threads:
        with db.begin() as other:
            disabled = "UPDATE endpoints SET state = 'disabled' WHERE id = :endpoint"
            other.execute(text(disabled), {"endpoint": first["endpoint_id"]})
            replayed = threads.submit(chunks_of, everybody=True)
            until_somebody_waits()
        assert sum(replayed.result()) == 1

    by_endpoint = {str(row.endpoint_id): row.state for row in deliveries(db)}
    assert by_endpoint == {first["endpoint_id"]: "dead", second["endpoint_id"]: "pending"}


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"everybody": True, "tenant_id": "acme"},
        {"tenant_id": "acme", "cursor": "bm8="},
    ],
)
def test_it_must_be_said_to_whom(db: Engine, wrong: Any) -> None:
    with pytest.raises(Refusal):
        replay_deliveries(since=LONG_AGO, idempotency_key="k", **wrong)


def test_a_cursor_of_another_replay_is_refused(db: Engine) -> None:
    subscribe()
    emit(count=3)
    take()
    die(db)
    asked: Any = {"since": LONG_AGO, "everybody": True, "limit": 2}
    cursor = replay_deliveries(**asked, idempotency_key="a")["next_cursor"]

    others: list[Any] = [
        {"states": ["missing"]},
        {"topic": "billing.ping"},
        {"since": LONG_AGO + dt.timedelta(days=1)},
        {"until": later(minutes=1)},
    ]
    for other in others:
        with pytest.raises(InvalidCursor):
            replay_deliveries(**asked | other, cursor=cursor, idempotency_key="b")
    again = replay_deliveries(**asked, idempotency_key="a")
    assert (again["replayed"], again["next_cursor"]) == (2, cursor)


def test_eight_at_once_make_each_missing_delivery_once(db: Engine) -> None:
    with receiver() as peer:
        sent = emit(count=30)
        deliver_webhooks()
        subscribe(peer)
        gate = threading.Barrier(8)

        def call(_: int) -> int:
            gate.wait()
            return sum(chunks_of(tenant_id="acme", states=["missing"], limit=7))

        with ThreadPoolExecutor(8) as threads:
            assert sum(threads.map(call, range(8))) == 30
        deliver_webhooks()

        assert sorted(peer.ids) == sorted(sent)


def test_what_an_ordered_endpoint_lacks_takes_its_place_in_the_order(db: Engine) -> None:
    with receiver() as peer:
        first = emit(count=2)
        deliver_webhooks()
        subscribe(peer, ordered=True)
        second = emit(count=2)
        relay_all()
        chunks_of(tenant_id="acme", states=["missing"])
        while deliver_webhooks()["delivered"]:
            pass

        assert peer.ids == first + second


def test_a_message_that_is_being_purged_is_not_missing_any_more(db: Engine) -> None:
    emit()
    deliver_webhooks()
    subscribe()
    with db.connect() as purging:
        purging.execute(text("SELECT id FROM outbox_messages FOR UPDATE"))
        assert chunks_of(tenant_id="acme", states=["missing"]) == [0]
        purging.execute(text("DELETE FROM outbox_messages"))
        purging.commit()

    assert deliveries(db) == []
