"""Taking invoices that are due to be sent to a provider: one run at a time, a few at once."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text as sql
from sqlalchemy.orm import Session

from models.store.sync_health import FAILURES_ALLOWED

MOST: Final = 1_000
"""At once, whatever is asked for."""

LOOK: Final = 2_000
"""Due rows that one claim looks at: a tenant with many stands among the others, not before them."""


@dataclass(frozen=True, slots=True)
class Leased:
    """An invoice leased to one run.

    Args:
        done: the steps that the provider has carried out, with the id it gave for each.
        begun_at: when the provider was first asked for anything of this invoice.
        has_told: whether it was synced before.
    """

    invoice_id: UUID
    provider: str
    tenant_id: str
    lease_token: UUID
    attempts: int
    series: int
    done: Mapping[str, str]
    begun_at: dt.datetime
    has_told: bool


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claim took. `is_held`: the provider is left alone just now; `is_busy`: another run is
    at it; `reclaimed`: leases that had run out."""

    rows: Sequence[Leased]
    is_held: bool = False
    is_busy: bool = False
    reclaimed: int = 0


def claim(
    session: Session,
    *,
    provider: str,
    token: UUID,
    rows: int,
    lease: dt.timedelta,
    now: dt.datetime,
) -> Claim:
    """Lease invoices that are due to the caller.

    A provider that fails gets fewer, and one that failed too often a single one, once it may be
    asked again. Two of a tenant that has no customer there yet are not sent at once: they would
    make two.

    Args:
        token: names the run.
        rows: how many at most.
        lease: after this, by the database's clock, somebody else may go on with them.
        now: what is due then is taken.
    """
    # Held to the commit: claims come one after the other.
    session.execute(_BE_KNOWN, {"provider": provider, "now": now})
    health = session.execute(_HEALTH, {"provider": provider}).one()
    if health.hold_until is not None and health.hold_until > now:
        return Claim([], is_held=True)
    reclaimed = len(session.execute(_RECLAIM, {"provider": provider, "now": now}).all())
    at_work = session.execute(_AT_WORK, {"provider": provider, "token": token}).one()
    if at_work.others:
        return Claim([], is_busy=True, reclaimed=reclaimed)
    room = min(rows, _may_be_under_way(health) - at_work.mine)
    if room <= 0:
        return Claim([], reclaimed=reclaimed)
    found = session.execute(
        _LEASE,
        {
            "provider": provider,
            "token": token,
            "rows": room,
            "look": LOOK,
            "lease": lease,
            "now": now,
        },
    ).all()
    tenants = sorted({row.tenant_id for row in found})
    session.execute(_ASKED_FOR, {"provider": provider, "tenants": tenants, "now": now})
    leased = [
        Leased(
            invoice_id=row.invoice_id,
            provider=provider,
            tenant_id=row.tenant_id,
            lease_token=token,
            attempts=row.attempts,
            series=row.series,
            done=row.done,
            begun_at=row.begun_at,
            has_told=row.synced_at is not None,
        )
        for row in found
    ]
    return Claim(leased, reclaimed=reclaimed)


def _may_be_under_way(health: Any) -> int:
    """How many may be: one that asks whether it is well again, or as many as may yet fail."""
    if health.hold_until is not None:
        return 1
    return MOST if not health.failures else max(1, FAILURES_ALLOWED - health.failures)


_BE_KNOWN = sql("""
    INSERT INTO provider_health (provider, updated_at) VALUES (:provider, :now)
    ON CONFLICT DO NOTHING
""")

_HEALTH = sql(
    "SELECT hold_until, failures FROM provider_health WHERE provider = :provider FOR UPDATE"
)

# Rows that somebody changes just now are left to the next claim: nothing in here waits.
_RECLAIM = sql("""
    UPDATE invoice_syncs
    SET state = 'pending', lease_token = NULL, leased_until = NULL, updated_at = :now
    WHERE (invoice_id, provider) IN (
        SELECT invoice_id, provider FROM invoice_syncs
        WHERE provider = :provider AND state = 'running' AND leased_until <= clock_timestamp()
        FOR UPDATE SKIP LOCKED)
    RETURNING invoice_id
""")

_AT_WORK = sql("""
    SELECT count(*) FILTER (WHERE lease_token = :token) AS mine,
           count(*) FILTER (WHERE lease_token <> :token) AS others
    FROM invoice_syncs WHERE provider = :provider AND state = 'running'
""")

_LEASE = sql("""
    WITH due AS (
        SELECT invoice_id, tenant_id, due_at FROM invoice_syncs
        WHERE provider = :provider AND state = 'pending' AND due_at <= :now
        ORDER BY due_at, invoice_id LIMIT :look
    ), ranked AS (
        SELECT due.invoice_id, due.due_at, c.tenant_id, c.remote_id IS NOT NULL AS is_known,
               row_number() OVER (PARTITION BY due.tenant_id ORDER BY due_at, invoice_id) AS nth
        FROM due JOIN provider_customers c ON c.provider = :provider AND c.tenant_id = due.tenant_id
    ), chosen AS (
        SELECT s.invoice_id FROM ranked JOIN invoice_syncs s
            ON s.invoice_id = ranked.invoice_id AND s.provider = :provider AND s.state = 'pending'
        WHERE ranked.is_known OR (ranked.nth = 1 AND NOT EXISTS (
            SELECT 1 FROM invoice_syncs r WHERE r.provider = :provider AND r.state = 'running'
                AND r.tenant_id = ranked.tenant_id))
        ORDER BY ranked.nth, ranked.due_at, ranked.invoice_id
        LIMIT :rows FOR UPDATE OF s SKIP LOCKED
    )
    UPDATE invoice_syncs AS s
    SET state = 'running', lease_token = :token, begun_at = coalesce(s.begun_at, :now),
        leased_until = clock_timestamp() + CAST(:lease AS interval), updated_at = :now
    FROM chosen WHERE s.invoice_id = chosen.invoice_id AND s.provider = :provider
    RETURNING s.invoice_id, s.tenant_id, s.attempts, s.series, s.done, s.begun_at, s.synced_at
""")

_ASKED_FOR = sql("""
    UPDATE provider_customers SET begun_at = :now
    WHERE provider = :provider AND tenant_id = ANY(CAST(:tenants AS text[]))
      AND remote_id IS NULL AND begun_at IS NULL
""")
