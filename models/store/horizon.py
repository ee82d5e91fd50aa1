"""Up to when tenants' usage is closed: what was used before is final, and may have left.

Whoever records or voids usage holds the horizons, from the statement that reads them until it has
committed; whoever moves one, or merges a tenant into another, waits for all of these, and those who
come meanwhile wait for that short transaction. So nothing is recorded behind a horizon, and what
was is seen by whoever closes. Only tenants that were ever closed have a row: to the others all of
this costs nothing.
"""

import datetime as dt
from collections.abc import Collection, Mapping
from typing import ClassVar, NamedTuple

from sqlalchemy import text
from sqlalchemy.orm import Session

from models.rules.refusal import Refusal


class UsageArchived(Refusal):
    """What was used at that time is closed: invoiced for good, and archived."""

    code: ClassVar[str] = "usage.archived"


def late(at: dt.datetime, closed_until: dt.datetime) -> UsageArchived:
    """Return the refusal of usage that happened at an instant which is closed."""
    return UsageArchived(
        f"{at.isoformat()} lies before {closed_until.isoformat()}, and what the tenant used until "
        "then is invoiced for good and archived; to bill it after all, send it with a later "
        "instant, or correct the invoice",
        field="at",
    )


class Entered(NamedTuple):
    """Whether some usage of any of the tenants is closed, and those that are aliases, of whom."""

    is_closed: bool
    aliases: Mapping[str, str] | None


def enter(session: Session, tenant_ids: Collection[str], *, now: dt.datetime) -> Entered:
    """Create the tenants that do not exist, with defaults, and hold the horizons.

    Nobody becomes an alias of somebody else until the transaction ends.
    """
    given = {"tenant_ids": sorted(tenant_ids), "now": now}
    return Entered(*session.execute(ENTER, given).one())


def hold(session: Session, tenant_id: str) -> dt.datetime | None:
    """Hold the horizons, and return the instant before which the tenant's usage is closed."""
    return session.execute(HOLD, {"tenant_id": tenant_id}).scalar()


def of_tenants(session: Session, tenant_ids: Collection[str]) -> Mapping[str, dt.datetime]:
    """Return the instant before which usage is closed, of those tenants that have one."""
    rows = session.execute(READ, {"tenant_ids": sorted(tenant_ids)})
    return {row.tenant_id: row.closed_until for row in rows}


def wait_for_holders(session: Session, *, patience: dt.timedelta) -> None:
    """Return once nobody holds the horizons; nobody else does until the transaction ends.

    What is committed by then, whoever holds them later sees. Keep the transaction short.

    Args:
        patience: after which it gives up, so that those who come meanwhile do not wait for long:
            `failures.is_lock_timeout` tells that error.
    """
    milliseconds = round(patience / dt.timedelta(milliseconds=1))
    session.execute(
        text("SELECT set_config('lock_timeout', :limit, true)"), {"limit": f"{milliseconds}ms"}
    )
    session.execute(text("LOCK TABLE usage_horizons IN EXCLUSIVE MODE"))


# Looked for first: an insert that runs into its conflict leaves a dead row, and nearly every tenant
# exists. In order of their ids, so that two transactions that meet new tenants do not deadlock.
# FOR KEY SHARE locks the table too, in ROW SHARE mode, also where it finds no row; and a statement
# has its locks before it looks at anything. One row is enough.
ENTER = text("""
    WITH made AS (
        INSERT INTO tenants (tenant_id, created_at, updated_at)
        SELECT tenant_id, :now, :now
        FROM unnest(CAST(:tenant_ids AS text[])) AS given(tenant_id)
        WHERE NOT EXISTS (SELECT FROM tenants AS known WHERE known.tenant_id = given.tenant_id)
        ORDER BY tenant_id
        ON CONFLICT (tenant_id) DO NOTHING
    ),
    held AS MATERIALIZED (
        SELECT tenant_id FROM usage_horizons WHERE tenant_id = ANY(CAST(:tenant_ids AS text[]))
        LIMIT 1 FOR KEY SHARE
    )
    SELECT EXISTS (SELECT FROM held), (
        SELECT jsonb_object_agg(tenant_id, merged_into) FROM tenants
        WHERE tenant_id = ANY(CAST(:tenant_ids AS text[])) AND merged_into IS NOT NULL
    )
""")

HOLD = text("""
    SELECT closed_until FROM usage_horizons WHERE tenant_id = :tenant_id FOR KEY SHARE
""")

READ = text("""
    SELECT tenant_id, closed_until FROM usage_horizons
    WHERE tenant_id = ANY(CAST(:tenant_ids AS text[]))
""")
