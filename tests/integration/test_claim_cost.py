"""What a claim reads: as much of a dead endpoint's half a million rows as of its first few."""

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, text

from models import database
from models.store import claim
from tests.integration.outbox_world import (
    TERMS,
    emit,
    execute,
    later,
    now,
    relay_all,
    subscribe,
    take,
)

FEW, MANY = 20, 10_000
HEALTHY = 3

DEEPER = 2 * (HEALTHY + 2)
"""Pages that the levels of a larger index may add, of two looks at each endpoint."""

READ = """
    SELECT heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read
    FROM pg_statio_user_tables WHERE relname = 'deliveries'
"""

BACKLOG = """
    WITH message AS (
        INSERT INTO outbox_messages (id, type, tenant_id, schema_version, sequence, body)
        SELECT gen_random_uuid(), 'billing.ping', 'dead', 1, 1, '{}'
        FROM generate_series(1, :count) RETURNING id
    )
    INSERT INTO deliveries (message_id, endpoint_id, due_at)
    SELECT id, :endpoint, now() - interval '1 day' FROM message
"""

# Ten deliveries each of many others, all to come, none beside another of the same endpoint: where
# statistics know of so few, a planner would rather read all that an endpoint has, and sort it.
OTHERS = """
    WITH other AS (
        INSERT INTO endpoints (id, tenant_id, url, topics)
        SELECT gen_random_uuid(), 'dead', 'http://127.0.0.2:9/', '{none}'
        FROM generate_series(1, 200) RETURNING id
    ), message AS (
        INSERT INTO outbox_messages (id, type, tenant_id, schema_version, sequence, body)
        SELECT gen_random_uuid(), 'billing.ping', 'dead', 1, 1, '{}'
        FROM generate_series(1, 10) RETURNING id
    )
    INSERT INTO deliveries (message_id, endpoint_id, due_at)
    SELECT message.id, other.id, now() + interval '1 day' FROM message CROSS JOIN other
    ORDER BY message.id, other.id
"""

UNWELL = "INSERT INTO endpoint_health (endpoint_id, probe_at) VALUES (:endpoint, :probe_at)"


@pytest.fixture
def dead(db: Engine) -> Iterator[UUID]:
    """A dead endpoint before all healthy ones, in tables that nobody counts meanwhile."""
    execute(db, "ALTER TABLE deliveries SET (autovacuum_enabled = false)")
    made = UUID(subscribe(tenant_id="dead")["endpoint_id"])
    for number in range(HEALTHY):
        subscribe(tenant_id=f"t{number}")
    execute(db, OTHERS)
    yield made
    execute(db, "ALTER TABLE deliveries RESET (autovacuum_enabled)")


def is_resting(db: Engine, endpoint_id: UUID) -> int:
    execute(db, UNWELL, endpoint=endpoint_id, probe_at=later(hours=1))
    return 0


def is_probed(db: Engine, endpoint_id: UUID) -> int:
    execute(db, UNWELL, endpoint=endpoint_id, probe_at=later(hours=-1))
    return 1


def has_all_its_lanes_full(_: Engine, endpoint_id: UUID) -> int:
    assert sum(one.endpoint_id == endpoint_id for one in take().rows) == TERMS.per_endpoint
    return 0


@pytest.mark.parametrize("standing", [is_resting, is_probed, has_all_its_lanes_full])
def test_what_a_claim_reads_does_not_grow_with_a_dead_endpoints_backlog(
    db: Engine, dead: UUID, standing: Callable[[Engine, UUID], int]
) -> None:
    execute(db, BACKLOG, count=FEW, endpoint=dead)
    gets = standing(db, dead)
    # What the planner knows stays as it is now: few rows of each, as before a flood.
    execute(db, "ANALYZE deliveries, delivery_leases, endpoints, endpoint_health")
    before = pages_of_a_claim(db, dead, gets)

    execute(db, BACKLOG, count=MANY, endpoint=dead)

    assert pages_of_a_claim(db, dead, gets) <= before + DEEPER


def pages_of_a_claim(db: Engine, dead: UUID, gets: int) -> int:
    """Count the pages of deliveries and their indexes that one claim looks at, and undo it."""
    for number in range(HEALTHY):
        emit(f"t{number}")
    relay_all()
    start = read(db)
    found = claimed_and_undone(db, now())
    assert sum(one.endpoint_id == dead for one in found) == gets
    assert len({one.endpoint_id for one in found} - {dead}) == HEALTHY
    return read(db) - start


def claimed_and_undone(db: Engine, at: dt.datetime) -> Sequence[claim.Claimed]:
    with database.transaction() as session:
        session.execute(text("SELECT pg_stat_force_next_flush()"))
        taken = claim.claim(
            session,
            terms=TERMS,
            cursor=None,
            token=(token := uuid4()),
            lease=dt.timedelta(seconds=60),
            now=at,
        )
    execute(db, "DELETE FROM delivery_leases WHERE lease_token = :token", token=token)
    return taken.rows


def read(db: Engine) -> int:
    with db.connect() as connection:
        return int(connection.execute(text(READ)).scalar_one())
