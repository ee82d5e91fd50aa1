"""Late usage of invoices: noticed by roll-ups, read and forgotten by whoever bills it.

A row says that usage which an invoice covers was counted anew; whether the invoice is numbered by
then is looked at later, by whoever holds the tenant. So it does not matter which of a roll-up and a
finalization commits first: what the one does not see the other leaves a row for. Rows are read
before usage is counted, and only those that were read are forgotten after it was billed.
"""

import datetime as dt
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy import text as sql
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from models.invoice import Invoice, InvoiceLine
from models.late_usage import LateUsage
from models.rules import late
from models.rules.billing import Line
from models.rules.states import FINAL_INVOICE_STATES, InvoiceState
from models.store import invoice, invoice_line, late_credit
from models.store.invoice import Header


@dataclass(frozen=True, slots=True)
class Noticed:
    """Rows of the log that name one invoice."""

    ids: Sequence[int]
    header: Header

    @property
    def is_numbered(self) -> bool:
        """Whether the invoice charges for what is on it, and can not be changed any more."""
        return self.header.state in FINAL_INVOICE_STATES


def notice(session: Session, spans: Mapping[str, Any], *, now: dt.datetime) -> None:
    """Log the invoices whose period meets one of the spans that are counted anew.

    Args:
        spans: arrays, or their text: `tenant_ids`, `firsts` and `lasts`.
    """
    given = {name: spans[name] for name in ("tenant_ids", "firsts", "lasts")}
    session.execute(NOTICE, {**given, "now": now})


def of_tenants(session: Session, tenant_ids: Collection[str]) -> list[Noticed]:
    """Return what was noticed of tenants, oldest invoice first, whatever its state."""
    rows = session.execute(
        select(LateUsage.invoice_id, func.array_agg(LateUsage.id).label("ids"))
        .where(LateUsage.tenant_id == func.any(list(tenant_ids)))
        .group_by(LateUsage.invoice_id)
    ).all()
    ids = {row.invoice_id: row.ids for row in rows}
    if not ids:
        return []
    return [Noticed(ids[header.id], header) for header in invoice.of_ids(session, list(ids))]


def billed(session: Session, headers: Sequence[Header]) -> list[late.Billed]:
    """Return numbered invoices with what was billed or taken back since, in the same order."""
    ids = [header.id for header in headers]
    lines = invoice_line.lines(session, ids)
    since = _adjusted(session, ids)
    for invoice_id, line in late_credit.taken(session, ids):
        since[invoice_id].append(line)
    return [
        late.Billed(
            header.id,
            header.number or "",
            header.days,
            lines.get(header.id, []),
            since[header.id],
            header.timezone,
        )
        for header in headers
    ]


def is_adjusted(session: Session, invoice_id: UUID) -> bool:
    """Tell whether an invoice with a number bills late usage of this one."""
    return bool(_adjusted(session, [invoice_id]))


def takers(session: Session, tenant_ids: Collection[str]) -> dict[tuple[str, str], Header]:
    """Return the draft that late usage goes to, the oldest, by tenant and currency."""
    rows = session.execute(
        invoice.SELECT.where(
            Invoice.tenant_id == func.any(list(tenant_ids)), Invoice.state == InvoiceState.draft
        )
        .ext(distinct_on(Invoice.tenant_id, Invoice.currency))
        .order_by(Invoice.tenant_id, Invoice.currency, Invoice.period_end, Invoice.id)
    )
    return {(row.tenant_id, row.currency): invoice.read(row) for row in rows}


def forget(session: Session, noticed: Sequence[Noticed]) -> None:
    """Delete rows of the log, as they were read."""
    ids = [one for each in noticed for one in each.ids]
    if ids:
        session.execute(delete(LateUsage).where(LateUsage.id == func.any(ids)))


def claim_left(
    session: Session, *, now: dt.datetime, limit: int, excluding: Collection[str] = ()
) -> dict[str, str]:
    """Lock tenants with late usage that no invoice to come would bill; their timezones by id.

    Those have no draft in its currency, and no subscription that will be invoiced in it. What
    others hold is skipped. Nobody gets two closing invoices within a day.
    """
    rows = session.execute(
        CLAIM_LEFT,
        {
            "now": now,
            "limit": limit,
            "excluding": list(excluding),
            "final": sorted(FINAL_INVOICE_STATES),
        },
    )
    return {row.tenant_id: row.timezone for row in rows}


def notice_withdrawn(session: Session, invoice_id: UUID, *, now: dt.datetime) -> None:
    """Log the invoices that a withdrawn one adjusted: what it said of them is not billed now."""
    session.execute(NOTICE_WITHDRAWN, {"invoice_id": invoice_id, "now": now})


def sweep_withdrawn(session: Session) -> None:
    """Forget what was noticed of withdrawn invoices: they bill nothing, late or not."""
    session.execute(SWEEP)


def _adjusted(session: Session, ids: Sequence[UUID]) -> dict[UUID, list[Line]]:
    """The adjustments of invoices that other ones bill; drafts and withdrawn ones bill nothing."""
    rows = session.execute(
        select(*invoice_line.COLUMNS)
        .join(Invoice, Invoice.id == InvoiceLine.invoice_id)
        .where(
            InvoiceLine.adjusts_invoice_id == func.any(list(ids)),
            Invoice.state.in_(sorted(FINAL_INVOICE_STATES)),
        )
    )
    found: dict[UUID, list[Line]] = defaultdict(list)
    for row in rows:
        found[row.adjusts_invoice_id].append(invoice_line.read(row))
    return found


# Nearly all that is counted was used today, and no invoice covers today: a step down the index of
# each tenant's invoices, which leaves withdrawn ones out, says so. Who moved to another zone has
# periods that begin or end up to 26 hours away from where they are said to.
NOTICE = sql("""
    INSERT INTO late_usage (tenant_id, invoice_id, noticed_at)
    SELECT DISTINCT covering.tenant_id, covering.id, CAST(:now AS timestamptz)
    FROM (
        SELECT tenant_id, min(first_at) - away AS first_at, max(last_at) + away AS last_at
        FROM unnest(CAST(:tenant_ids AS text[]), CAST(:firsts AS timestamptz[]),
                    CAST(:lasts AS timestamptz[])) AS each(tenant_id, first_at, last_at)
        CROSS JOIN LATERAL (
            SELECT CASE WHEN tenant_id IN (SELECT moved.tenant_id FROM tenant_zones AS moved)
                        THEN interval '26 hours' ELSE interval '0' END AS away
        ) AS margin
        GROUP BY tenant_id, (first_at AT TIME ZONE 'UTC')::date, away
    ) AS span
    CROSS JOIN LATERAL (
        SELECT tenant_id, id FROM invoices
        WHERE invoices.tenant_id = span.tenant_id AND kind = 'subscription' AND state <> 'void'
          AND period_start <= span.last_at AND period_end > span.first_at
        OFFSET 0
    ) AS covering
""")

LEFT: Final = """
    late_usage AS late JOIN invoices AS billed ON billed.id = late.invoice_id
    WHERE billed.state = ANY(CAST(:final AS text[]))
      AND NOT EXISTS (
          SELECT FROM invoices AS other
          WHERE other.tenant_id = billed.tenant_id AND other.currency = billed.currency
            AND (other.state = 'draft' OR (other.kind = 'closing' AND other.period_end > :now))
      )
      AND NOT EXISTS (
          SELECT FROM subscriptions AS to_come
          WHERE to_come.tenant_id = billed.tenant_id
            AND to_come.currency = billed.currency AND next_invoice_at IS NOT NULL
      )
"""
"""What no invoice to come would bill; `:final` are the states of invoices with a number."""

CLAIM_LEFT = sql(f"""
    SELECT tenant_id, timezone FROM tenants
    WHERE tenant_id <> ALL(CAST(:excluding AS text[]))
      AND tenant_id IN (SELECT late.tenant_id FROM {LEFT})
    ORDER BY tenant_id
    LIMIT :limit
    FOR NO KEY UPDATE SKIP LOCKED
""")  # noqa: S608 (constants)

NOTICE_WITHDRAWN = sql("""
    INSERT INTO late_usage (tenant_id, invoice_id, noticed_at)
    SELECT DISTINCT adjusted.tenant_id, adjusted.id, CAST(:now AS timestamptz)
    FROM invoice_lines AS line JOIN invoices AS adjusted ON adjusted.id = line.adjusts_invoice_id
    WHERE line.invoice_id = :invoice_id
""")

SWEEP = sql("""
    DELETE FROM late_usage USING invoices
    WHERE invoices.id = late_usage.invoice_id AND invoices.state = 'void'
""")
