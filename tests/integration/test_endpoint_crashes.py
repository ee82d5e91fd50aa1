"""Dying at each statement of what operators do to endpoints leaves all as it was, or all done."""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from models import database
from models.store import partition
from tasks.delivery import skip_delivery
from tasks.endpoint_secrets import revoke_endpoint_secret, rotate_endpoint_secret
from tasks.endpoint_update import update_endpoint
from tasks.endpoints import create_endpoint, delete_endpoint, disable_endpoint, enable_endpoint
from tasks.pings import ping_endpoint
from tasks.purge import purge
from tasks.replays import replay_deliveries, replay_delivery
from tests.integration.contents import rows_of
from tests.integration.outbox_world import deliveries, emit, execute, now, relay_all, subscribe
from tests.integration.test_credit_crashes import die_after_commit, die_before, ends_by_kill

TABLES = (
    "endpoints",
    "endpoint_secrets",
    "endpoint_health",
    "deliveries",
    "delivery_attempts",
    "outbox_messages",
    "outbox_pending",
    "idempotency_keys",
)

MOST_STATEMENTS = 60
LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
AS_OF = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)

pytestmark = pytest.mark.slow


@dataclass(frozen=True, slots=True)
class World:
    """An endpoint with a spare key, a disabled one, one that came too late, and dead deliveries."""

    endpoint_id: UUID
    disabled_id: UUID
    spare_key: UUID
    delivery_id: int


@pytest.fixture
def world(db: Engine) -> World:
    made = subscribe()
    disabled = subscribe()
    emit(count=3)
    relay_all()
    disable_endpoint(endpoint_id=UUID(disabled["endpoint_id"]), as_of=AS_OF)
    execute(
        db,
        "UPDATE deliveries SET state = 'dead', completed_at = now() WHERE endpoint_id = :one",
        one=made["endpoint_id"],
    )
    rotate_endpoint_secret(
        endpoint_id=UUID(made["endpoint_id"]), idempotency_key="before", as_of=now()
    )
    subscribe(tenant_id=None)
    return World(
        endpoint_id=UUID(made["endpoint_id"]),
        disabled_id=UUID(disabled["endpoint_id"]),
        spare_key=UUID(made["secret_id"]),
        delivery_id=deliveries(db)[0].id,
    )


CALLS: dict[str, Callable[[World], Any]] = {
    "create": lambda _: create_endpoint(
        url="http://127.0.0.1:9/new",
        topics=["*"],
        tenant_id="acme",
        idempotency_key="new",
        as_of=AS_OF,
    ),
    "update": lambda world: update_endpoint(
        endpoint_id=world.endpoint_id,
        url="http://127.0.0.1:9/other",
        headers={"x-a": "b"},
        as_of=AS_OF,
    ),
    "disable": lambda world: disable_endpoint(endpoint_id=world.endpoint_id, as_of=AS_OF),
    "enable": lambda world: enable_endpoint(endpoint_id=world.disabled_id, as_of=AS_OF),
    "delete": lambda world: delete_endpoint(endpoint_id=world.disabled_id, as_of=AS_OF),
    "rotate": lambda world: rotate_endpoint_secret(
        endpoint_id=world.endpoint_id, idempotency_key="rotate", as_of=now()
    ),
    "revoke": lambda world: revoke_endpoint_secret(
        endpoint_id=world.endpoint_id,
        secret_id=world.spare_key,
        idempotency_key="revoke",
        as_of=now(),
    ),
    "ping": lambda world: ping_endpoint(
        endpoint_id=world.endpoint_id, idempotency_key="ping", as_of=AS_OF
    ),
    "replay one": lambda world: replay_delivery(
        delivery_id=world.delivery_id, idempotency_key="one", as_of=AS_OF
    ),
    "replay what is dead": lambda _: replay_deliveries(
        tenant_id="acme", since=LONG_AGO, idempotency_key="dead"
    ),
    "replay what is missing": lambda _: replay_deliveries(
        everybody=True, since=LONG_AGO, states=["missing"], idempotency_key="missing"
    ),
    "skip": lambda world: skip_delivery(
        delivery_id=world.delivery_id, reason="a test", as_of=AS_OF
    ),
}


def contents(engine: Engine) -> dict[str, list[str]]:
    return rows_of(engine, TABLES)


@pytest.mark.parametrize("name", CALLS)
def test_dying_between_two_statements_leaves_nothing(db: Engine, world: World, name: str) -> None:
    before = contents(db)

    for number in range(MOST_STATEMENTS):
        if not ends_by_kill(die_before(number), lambda: CALLS[name](world)):
            break
        assert contents(db) == before
    else:
        pytest.fail(f"{name} needs more than {MOST_STATEMENTS} statements")

    assert number >= 2
    assert contents(db) != before


@pytest.mark.parametrize("name", CALLS)
def test_dying_after_the_commit_leaves_all_and_the_call_comes_again(
    db: Engine, world: World, name: str
) -> None:
    assert ends_by_kill(die_after_commit, lambda: CALLS[name](world))
    done = contents(db)

    CALLS[name](world)

    assert contents(db) == done


def test_a_purge_that_dies_at_any_statement_is_finished_by_the_next(db: Engine) -> None:
    """It goes in chunks: each is whole, and what is owed is never touched."""
    later = now() + dt.timedelta(days=400)
    owed = told(db)
    keep = owed_of(db)
    deaths = 0
    for number in range(MOST_STATEMENTS):
        if not ends_by_kill(die_before(number), lambda: purge(as_of=later)):
            break
        deaths += 1
        assert owed_of(db) == keep
    else:
        pytest.fail(f"a purge needs more than {MOST_STATEMENTS} statements")

    assert deaths >= 8
    assert owed_of(db) == keep
    with db.connect() as connection:
        left = connection.scalars(text("SELECT id FROM outbox_messages")).all()
    assert set(left) == owed


def told(db: Engine) -> set[UUID]:
    """Let events be delivered, dead, held and waiting; return the ids of those that are owed."""
    with database.transaction() as session:
        partition.ensure_day(session, now().date() - dt.timedelta(days=40))
    made = subscribe()
    emit(count=9)
    relay_all()
    rows = deliveries(db)
    for row, state in zip(rows, ["delivered"] * 3 + ["dead"] * 2 + ["held"] * 2, strict=False):
        execute(
            db,
            "UPDATE deliveries SET state = :state, completed_at = CASE WHEN :state <> 'held' "
            "THEN now() END WHERE id = :id",
            state=state,
            id=row.id,
        )
        execute(
            db,
            "INSERT INTO delivery_attempts (id, attempted_at, delivery_id, endpoint_id, "
            "attempt_number, outcome, latency_ms) VALUES (gen_random_uuid(), "
            "now() - interval '40 days', :id, :endpoint, 1, 'delivered', 1)",
            id=row.id,
            endpoint=made["endpoint_id"],
        )
    return {row.message_id for row in rows[5:]}


def owed_of(db: Engine) -> list[Any]:
    with db.connect() as connection:
        return list(
            connection.execute(
                text(
                    "SELECT d.*, m.body FROM deliveries d JOIN outbox_messages m "
                    "ON m.id = d.message_id WHERE d.state IN ('pending', 'held') ORDER BY d.id"
                )
            )
        )
