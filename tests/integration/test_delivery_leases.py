"""Leases: a claim writes to no delivery, and one that is leased is being sent to all who look."""

import datetime as dt
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from models import database
from models.rules.states import DeliveryState
from models.store import delivery, due, endpoint_stats, health
from tasks.delivery import deliver_webhooks
from tasks.delivery_list import list_deliveries
from tasks.endpoints import delete_endpoint, disable_endpoint, enable_endpoint
from tasks.replays import replay_deliveries
from tests.integration.outbox_world import (
    attempts,
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
from tests.receiver import Answer, Received, receiver
from webhooks.retry import Outcome

LOST = dt.timedelta(seconds=-1)
ONE_ENDED = "DELETE FROM delivery_leases WHERE delivery_id = (SELECT min(id) FROM deliveries)"


def versions(db: Engine) -> list[Any]:
    """Where each delivery's row is, and which transactions wrote to it."""
    with db.connect() as connection:
        return list(
            connection.execute(text("SELECT id, ctid, xmin, xmax FROM deliveries ORDER BY id"))
        )


def leases(db: Engine) -> list[Any]:
    with db.connect() as connection:
        return list(connection.execute(text("SELECT * FROM delivery_leases ORDER BY delivery_id")))


def listed(state: str) -> list[int]:
    page = list_deliveries(state=DeliveryState(state))["deliveries"]
    return sorted(one["delivery_id"] for one in page)


def test_a_claim_writes_to_no_delivery(db: Engine) -> None:
    subscribe()
    emit(count=3)
    relay_all()
    before = versions(db)

    taken = take().rows

    assert versions(db) == before
    assert [row.delivery_id for row in leases(db)] == [row.id for row in before]
    assert {row.lease_token for row in leases(db)} == {one.lease_token for one in taken}


def test_what_is_leased_is_not_claimed_again_though_it_waits_first(db: Engine) -> None:
    subscribe()
    emit(count=2)
    first = take().rows
    emit(count=2)

    second = take().rows

    assert len(first) == len(second) == 2
    assert not {one.delivery_id for one in first} & {one.delivery_id for one in second}
    assert take().rows == []
    assert states(db) == ["sending"] * 4


def test_nothing_can_be_leased_twice(db: Engine) -> None:
    subscribe()
    emit()
    [one] = take().rows

    with pytest.raises(IntegrityError, match="pk_delivery_leases"):
        execute(
            db,
            "INSERT INTO delivery_leases SELECT id, endpoint_id, :token, now() FROM deliveries",
            token=uuid4(),
        )

    finish([one])
    assert leases(db) == []
    assert states(db) == ["delivered"]


def test_everybody_who_looks_sees_what_is_being_sent(db: Engine) -> None:
    made = subscribe()
    emit(count=3)
    take()
    execute(db, ONE_ENDED)
    waits, *sent = [row.id for row in versions(db)]

    with database.transaction() as session:
        backlog = endpoint_stats.backlog(session, UUID(made["endpoint_id"]), now=now())
        found = health.backlog(session, now=now())
        counts = health.deliveries(session)
        jobs = due.by_job(session, now=now(), closed_by=now())

    assert (listed("pending"), listed("sending")) == ([waits], sent)
    assert (backlog.pending, backlog.due, backlog.sending) == (1, 1, 2)
    assert found.deliveries_due == jobs["billing.deliver_webhooks"].waiting == 1
    assert counts == {DeliveryState.pending: 1, DeliveryState.sending: 2}


def test_a_replay_neither_counts_nor_moves_what_is_being_sent(db: Engine) -> None:
    made = subscribe()
    emit(count=3)
    take()
    execute(db, ONE_ENDED)
    wanted: dict[str, Any] = {
        "endpoint_id": UUID(made["endpoint_id"]),
        "since": later(days=-1),
        "states": ["pending"],
    }
    _, *before = versions(db)

    counted = replay_deliveries(**wanted, dry_run=True, idempotency_key="count")
    replayed = replay_deliveries(**wanted, idempotency_key="replay")

    assert counted["replayed"] == replayed["replayed"] == 1
    assert versions(db)[1:] == before


def test_what_is_being_sent_follows_its_endpoint_once_its_attempt_has_ended(db: Engine) -> None:
    endpoint_id = UUID(subscribe()["endpoint_id"])
    emit(count=3)
    arrives, fails, _ = take().rows
    execute(db, "DELETE FROM delivery_leases WHERE delivery_id = (SELECT max(id) FROM deliveries)")

    disable_endpoint(endpoint_id=endpoint_id)
    assert states(db) == ["sending", "sending", "held"]

    with database.transaction() as session:
        given_back = [
            delivery.Result(one.delivery_id, endpoint_id, one.lease_token, state)
            for one, state in (
                (arrives, DeliveryState.delivered),
                (fails, DeliveryState.pending),
            )
        ]
        delivery.record(session, given_back, now=now())
    assert states(db) == ["delivered", "held", "held"]
    enable_endpoint(endpoint_id=endpoint_id)
    assert states(db) == ["delivered", "pending", "pending"]


def test_a_lost_lease_leaves_a_delivery_as_its_endpoint_wants_it(db: Engine) -> None:
    enabled, disabled, deleted = [UUID(subscribe()["endpoint_id"]) for _ in range(3)]
    emit()
    assert len(take(lease=LOST).rows) == 3
    disable_endpoint(endpoint_id=disabled)
    delete_endpoint(endpoint_id=deleted)

    with database.transaction() as session:
        assert delivery.reclaim(session, most=100, now=now()) == 3
        assert delivery.reclaim(session, most=100, now=now()) == 0

    by_endpoint = {one["endpoint_id"]: one["state"] for one in list_deliveries()["deliveries"]}
    assert by_endpoint == {
        str(enabled): "pending",
        str(disabled): "held",
        str(deleted): "cancelled",
    }
    ended = {row.state: row.completed_at is not None for row in deliveries(db)}
    assert ended == {"pending": False, "held": False, "cancelled": True}
    assert leases(db) == []


def test_of_two_results_under_two_leases_the_living_one_counts(db: Engine) -> None:
    endpoint_id = UUID(subscribe()["endpoint_id"])
    emit()
    [late] = take(lease=LOST).rows
    with database.transaction() as session:
        delivery.reclaim(session, most=1, now=now())
    [living] = take().rows

    results = [
        delivery.Result(one.delivery_id, endpoint_id, one.lease_token, state, spent=True)
        for one, state in ((late, DeliveryState.dead), (living, DeliveryState.delivered))
    ]
    with database.transaction() as session:
        accepted = delivery.record(session, results, now=now())

    assert accepted == {living.delivery_id: DeliveryState.delivered}
    assert states(db) == ["delivered"]


def test_an_arrival_under_a_lost_lease_ends_nobody_elses(db: Engine) -> None:
    subscribe()
    emit()
    [late] = take(lease=LOST).rows
    with database.transaction() as session:
        delivery.reclaim(session, most=1, now=now())
    [living] = take().rows

    assert finish([late]).states == {}
    assert [row.lease_token for row in leases(db)] == [living.lease_token]
    assert len(attempts(db)) == 1

    assert finish([living], at=later(seconds=1)).states == {living.delivery_id: "delivered"}
    assert leases(db) == []
    assert len(attempts(db)) == 2


def test_a_death_under_a_lost_lease_is_not_told(db: Engine) -> None:
    subscribe(topics=["billing.quota_consumed"])
    emit()
    relay_all()
    execute(db, "UPDATE deliveries SET attempt_count = 9")
    [late] = take(lease=LOST).rows
    with database.transaction() as session:
        delivery.reclaim(session, most=1, now=now())
    [living] = take().rows

    assert finish([late], Outcome.TIMEOUT).states == {}
    assert told_dead(db) == 0
    finish([living], Outcome.TIMEOUT)
    assert (states(db), told_dead(db)) == (["dead"], 1)


def told_dead(db: Engine) -> int:
    with db.connect() as connection:
        statement = "SELECT count(*) FROM outbox_messages WHERE type = 'billing.delivery.dead'"
        return int(connection.scalar(text(statement)) or 0)


def test_a_living_lease_outlives_a_lost_one_of_the_same_endpoint(db: Engine) -> None:
    subscribe()
    emit()
    take(lease=LOST)
    emit()
    [living] = take().rows

    with database.transaction() as session:
        assert delivery.reclaim(session, most=100, now=now()) == 1

    assert [row.delivery_id for row in leases(db)] == [living.delivery_id]


def test_the_leases_that_were_lost_first_are_ended_first(db: Engine) -> None:
    subscribe()
    emit()
    take(lease=LOST)
    emit()
    [longest] = take(lease=10 * LOST).rows

    with database.transaction() as session:
        assert delivery.reclaim(session, most=1, now=now()) == 1

    assert longest.delivery_id not in [row.delivery_id for row in leases(db)]
    assert len(leases(db)) == 1


def test_a_run_says_how_many_results_came_after_their_lease_had_ended(db: Engine) -> None:
    with receiver() as peer:
        answer = peer.take

        def lose_the_first(request: Received) -> Answer:
            if not peer.requests:
                execute(db, "DELETE FROM delivery_leases")
            return answer(request)

        peer.take = lose_the_first  # type: ignore[method-assign]
        subscribe(peer)
        emit()

        summary = deliver_webhooks()

        assert len(peer.requests) == 2
    assert (summary["refused"], summary["delivered"]) == (1, 1)
