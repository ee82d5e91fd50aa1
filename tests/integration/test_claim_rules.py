"""What a claim takes: of whom, how many, in which order, and what it says of them."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from models import database
from models.store import claim, endpoint_health, following
from tasks.endpoints import disable_endpoint, enable_endpoint
from tests.integration.outbox_world import (
    deliveries,
    emit,
    execute,
    finish,
    hosts,
    later,
    now,
    relay_all,
    subscribe,
    take,
)
from webhooks import events
from webhooks.retry import Outcome

USAGE = ["billing.quota_consumed"]


def terms(**changes: int) -> claim.Terms:
    usual = {"rows": 100, "per_endpoint": 5, "per_host": 1000, "per_owner": 1000}
    return claim.Terms(**{**usual, **changes})


def follow() -> int:
    with database.transaction() as session:
        return following.go_on(session, now=now())


def test_lanes_that_are_taken_count(db: Engine) -> None:
    subscribe()
    emit(count=9)

    assert len(take(terms=terms(rows=3)).rows) == 3
    assert len(take(terms=terms()).rows) == 2
    assert take(terms=terms()).rows == []


def test_each_endpoint_gets_one_before_any_gets_two_whoever_owns_it(db: Engine) -> None:
    for number in range(3):
        subscribe(tenant_id=f"t{number}")
        emit(f"t{number}", count=4)
    hosts(db, "a.example", "b.example", "c.example")

    assert len({row.endpoint_id for row in take(terms=terms(rows=4)).rows}) == 3


def test_the_oldest_due_is_taken_and_handed_over_first(db: Engine) -> None:
    subscribe()
    emit(count=6)
    relay_all()
    last_of_many = deliveries(db)[-1].id
    subscribe(topics=["billing.ping"])
    emit(topic=events.Ping)
    relay_all()
    of_another = deliveries(db)[-1].id
    for hours, delivery_id in ((1, last_of_many), (2, of_another)):
        execute(
            db,
            "UPDATE deliveries SET due_at = :at WHERE id = :id",
            at=later(hours=-hours),
            id=delivery_id,
        )

    rows = take(terms=terms()).rows

    assert [row.delivery_id for row in rows[:2]] == [of_another, last_of_many]


def test_a_disabled_endpoint_gets_nothing_though_much_of_its_backlog_is_not_held_yet(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.store.following.CHUNK", 2)
    endpoint_id = UUID(subscribe(topics=USAGE)["endpoint_id"])
    emit(count=5)
    relay_all()

    disable_endpoint(endpoint_id=endpoint_id)

    assert [row.state for row in deliveries(db)].count("pending") == 3
    assert take(terms=terms()).rows == []


def test_an_ordered_endpoint_gets_nothing_until_all_that_was_held_waits_again(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.store.following.CHUNK", 2)
    endpoint_id = UUID(subscribe(topics=USAGE, ordered=True)["endpoint_id"])
    disable_endpoint(endpoint_id=endpoint_id)
    emit(count=3)
    relay_all()
    enable_endpoint(endpoint_id=endpoint_id)

    assert take(terms=terms()).rows == []
    assert follow() == 1
    [row] = take(terms=terms()).rows
    assert row.delivery_id == deliveries(db)[0].id


def test_an_ordered_endpoint_gets_what_a_fast_clock_told(db: Engine) -> None:
    """When it happened is a place in the order, and nothing to wait for."""
    subscribe(topics=USAGE, ordered=True)
    emit(count=2)

    [row] = take(terms=terms(), at=later(minutes=-1)).rows

    assert row.delivery_id == deliveries(db)[0].id


def rest_after_one(endpoint_ids: Iterable[UUID]) -> None:
    with database.transaction() as session:
        one_at_a_time = endpoint_health.Health(single=True)
        endpoint_health.keep(session, dict.fromkeys(endpoint_ids, one_at_a_time))


@pytest.mark.parametrize("why", ["owner", "lanes", "single", "rate"])
def test_endpoints_that_can_get_no_more_do_not_fill_a_claim(db: Engine, why: str) -> None:
    options: dict[str, Any] = {"rate_per_minute": 1} if why == "rate" else {}
    made = [UUID(subscribe(topics=USAGE, **options)["endpoint_id"]) for _ in range(3)]
    if why == "single":
        rest_after_one(made)
    emit(count=4)
    few = terms(rows=3, per_endpoint=1 if why == "lanes" else 5, per_owner=3)
    first = take(terms=few).rows
    assert {row.endpoint_id for row in first} == set(made)
    assert {row.unwell for row in first} == {why == "single"}
    subscribe(tenant_id="other")
    emit("other")
    if why == "owner":
        few = dataclasses.replace(few, taken={"acme": 3})

    # Its room is for three endpoints.
    assert [row.owner for row in take(terms=few).rows] == ["other"]


def test_what_holds_an_endpoint_while_a_claim_takes_its_locks_is_seen(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim looks before it has the lock: whoever had it may have written a hold since."""
    subscribe(topics=USAGE)
    probed = UUID(subscribe(topics=USAGE)["endpoint_id"])
    emit(count=2)
    held = {one: endpoint_health.Health(hold_until=later(hours=1)) for one in of_all(db)}
    held[probed] = endpoint_health.Health(probe_at=later(hours=1))
    ask = claim._asked

    def ask_later(endpoints: Sequence[Any], asked: claim.Terms) -> str:
        with database.Session(db) as other:
            endpoint_health.keep(other, held)
            other.commit()
        return ask(endpoints, asked)

    monkeypatch.setattr(claim, "_asked", ask_later)

    assert take(terms=terms()).rows == []


def of_all(db: Engine) -> list[UUID]:
    with db.connect() as connection:
        return list(connection.scalars(text("SELECT id FROM endpoints")))


def test_an_endpoint_that_failed_is_unwell_until_it_answers(db: Engine) -> None:
    subscribe(topics=USAGE)
    emit()
    first = take(terms=terms()).rows
    finish(first, Outcome.TIMEOUT)
    emit()
    second = take(terms=terms()).rows
    finish(second, Outcome.DELIVERED)
    emit()

    assert [row.unwell for row in (*first, *second)] == [False, True]
    assert [row.unwell for row in take(terms=terms()).rows] == [False]
