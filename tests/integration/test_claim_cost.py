"""What a claim reads: of a dead endpoint's half a million rows, and of all that is kept, a few."""

import datetime as dt
from collections.abc import Callable, Iterator
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

FEW, MANY = 20, 30_000
MINUTE = dt.timedelta(minutes=1)
HEALTHY = 3

OTHER = 200

DEEPER = OTHER + 5 * (HEALTHY + 1)
"""Pages that one more level of a larger index adds, one for each look at an endpoint. To read the
backlog, or its messages, would be three times as many."""

WIDER = 10 * (HEALTHY + 1)
"""The same of several indexes, where no others are."""

OFTEN = 7
"""The driver has a statement prepared when it comes for the sixth time."""

TABLES = ("deliveries", "outbox_messages")

# Of this session alone, and of its transaction: what others look at meanwhile is not among them.
READ = text("""
    SELECT sum(pg_stat_get_xact_blocks_fetched(oid)) FROM pg_class
    WHERE oid IN ('deliveries'::regclass, 'outbox_messages'::regclass)
       OR oid IN (SELECT indexrelid FROM pg_index
                  WHERE indrelid IN ('deliveries'::regclass, 'outbox_messages'::regclass))
""")

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
        FROM generate_series(1, :others) RETURNING id
    ), message AS (
        INSERT INTO outbox_messages (id, type, tenant_id, schema_version, sequence, body)
        SELECT gen_random_uuid(), 'billing.ping', 'dead', 1, 1, '{}'
        FROM generate_series(1, 10) RETURNING id
    )
    INSERT INTO deliveries (message_id, endpoint_id, due_at)
    SELECT message.id, other.id, now() + interval '1 day' FROM message CROSS JOIN other
    ORDER BY message.id, other.id
"""

ANALYZE = "ANALYZE deliveries, outbox_messages, delivery_leases, endpoints, endpoint_health"

UNWELL = "INSERT INTO endpoint_health (endpoint_id, probe_at) VALUES (:endpoint, :probe_at)"


@pytest.fixture
def dead(db: Engine) -> Iterator[UUID]:
    """A dead endpoint before all healthy ones, in tables that nobody counts meanwhile."""
    for table in TABLES:
        execute(db, f"ALTER TABLE {table} SET (autovacuum_enabled = false)")
    with db.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        # Of what other tests have left in their indexes.
        connection.execute(text("VACUUM deliveries, outbox_messages"))
    made = UUID(subscribe(tenant_id="dead")["endpoint_id"])
    for number in range(HEALTHY):
        subscribe(tenant_id=f"t{number}")
    yield made
    for table in TABLES:
        execute(db, f"ALTER TABLE {table} RESET (autovacuum_enabled)")


def is_resting(db: Engine, endpoint_id: UUID) -> int:
    execute(db, UNWELL, endpoint=endpoint_id, probe_at=later(hours=1))
    return 0


def is_probed(db: Engine, endpoint_id: UUID) -> int:
    execute(db, UNWELL, endpoint=endpoint_id, probe_at=later(hours=-1))
    return 1


def has_all_its_lanes_full(_: Engine, endpoint_id: UUID) -> int:
    assert sum(one.endpoint_id == endpoint_id for one in take().rows) == TERMS.per_endpoint
    for number in range(HEALTHY):
        emit(f"t{number}")
    return 0


@pytest.mark.parametrize("standing", [is_resting, is_probed, has_all_its_lanes_full])
def test_what_a_claim_reads_does_not_grow_with_a_dead_endpoints_backlog(
    db: Engine, dead: UUID, standing: Callable[[Engine, UUID], int]
) -> None:
    execute(db, OTHERS, others=OTHER)
    gets = before_the_flood(db, dead, standing)
    before = pages_of_a_claim(db, dead, gets)

    execute(db, BACKLOG, count=MANY, endpoint=dead)

    assert pages_of_a_claim(db, dead, gets) <= before + DEEPER


def test_what_a_claim_reads_does_not_grow_with_the_messages_that_are_kept(
    db: Engine, dead: UUID
) -> None:
    """Where there are few endpoints, the planner expects thousands of rows of each."""
    gets = before_the_flood(db, dead, is_resting)
    before = pages_of_a_claim(db, dead, gets)

    execute(db, BACKLOG, count=MANY, endpoint=dead)

    assert pages_of_a_claim(db, dead, gets) <= before + WIDER  # by the plan of before
    execute(db, ANALYZE)
    assert pages_of_a_claim(db, dead, gets) <= before + WIDER


def before_the_flood(db: Engine, dead: UUID, standing: Callable[[Engine, UUID], int]) -> int:
    """Give each endpoint a little, and let the planner know of that alone.

    Return how many of the dead one's a claim gets.
    """
    execute(db, BACKLOG, count=FEW, endpoint=dead)
    for number in range(HEALTHY):
        emit(f"t{number}")
    gets = standing(db, dead)
    relay_all()
    execute(db, ANALYZE)
    return gets


def pages_of_a_claim(db: Engine, dead: UUID, gets: int) -> int:
    """Count the pages of deliveries and messages that one claim looks at, and undo it.

    One of many: a statement that comes again and again has a plan for any values.
    """
    for _ in range(OFTEN):
        pages = pages_of_one(db, dead, gets)
    return pages


def pages_of_one(db: Engine, dead: UUID, gets: int) -> int:
    token = uuid4()
    with database.transaction() as session:
        start = session.scalar(READ)
        taken = claim.claim(
            session, terms=TERMS, cursor=None, token=token, lease=MINUTE, now=now()
        ).rows
        pages = session.scalar(READ) - start
    execute(db, "DELETE FROM delivery_leases WHERE lease_token = :token", token=token)
    assert sum(one.endpoint_id == dead for one in taken) == gets
    assert len({one.endpoint_id for one in taken} - {dead}) == HEALTHY
    return int(pages)
