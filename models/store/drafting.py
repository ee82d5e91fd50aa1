"""Drafts: drawn up, rewritten while usage arrives, numbered and frozen.

Whoever changes an invoice holds the lock of its tenant's row. Locks are taken in this order:
tenants by id (or, in `claim_drafts`, without waiting), aggregates, invoices, balances of credit by
(tenant, product), and the series last.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import func, select
from sqlalchemy import text as sql
from sqlalchemy.orm import Session

from models.invoice import Invoice, InvoiceKind
from models.rules import billing, ids
from models.rules.period import Period
from models.rules.states import InvoiceState
from models.rules.waterfall import Bill
from models.store import bill, invoice, invoice_line, line_rows
from models.store.invoice import Header
from models.tenant import Tenant


@dataclass(frozen=True, slots=True)
class Drafted:
    """An invoice with its lines, and what coupons and taxes make of them."""

    header: Header
    lines: Sequence[billing.Line]
    bill: Bill


def draft(
    *,
    tenant_id: str,
    currency: str,
    timezone: str,
    covers: Period,
    lines: Sequence[billing.Line],
    now: dt.datetime,
    kind: InvoiceKind = InvoiceKind.subscription,
) -> Drafted:
    """Return an invoice that is not stored yet, before coupons and taxes."""
    header = Header(
        id=ids.uuid7(now),
        tenant_id=tenant_id,
        currency=currency,
        timezone=timezone,
        period=covers,
        state=InvoiceState.draft,
        total_minor=billing.total(lines),
        version=1,
        created_at=now,
        kind=kind,
    )
    return computed(header, lines)


def computed(header: Header, lines: Sequence[billing.Line]) -> Drafted:
    """Return an invoice with the lines that it is to have, before coupons and taxes."""
    return Drafted(header, lines, Bill(tuple([line.amount_minor for line in lines])))


def get(session: Session, header: Header) -> Drafted:
    """Return an invoice as it is stored."""
    return get_all(session, [header])[0]


def get_all(session: Session, headers: Sequence[Header]) -> list[Drafted]:
    """Return invoices as they are stored, in their order."""
    ids = [header.id for header in headers]
    lines, bills = invoice_line.lines(session, ids), bill.read(session, ids)
    return [Drafted(header, lines.get(header.id, []), bills[header.id]) for header in headers]


def content(one: Drafted) -> line_rows.Content:
    """Return what an invoice says, as `line_rows` takes it."""
    return one.header.id, one.header.currency, one.lines, one.bill


def add(session: Session, drafts: Sequence[Drafted], *, now: dt.datetime) -> None:
    """Store new drafts with their lines, in a few statements whatever their number."""
    if not drafts:
        return
    lines = line_rows.Rows()
    rows = [
        {
            "id": one.header.id,
            "tenant_id": one.header.tenant_id,
            "kind": one.header.kind,
            "currency": one.header.currency,
            "timezone": one.header.timezone,
            "period_start": one.header.period.start,
            "period_end": one.header.period.end,
            "fingerprint": lines.add(*content(one)),
            **_figures(one.bill),
        }
        for one in drafts
    ]
    session.execute(_ADD, {"rows": _json(rows), "now": now})
    lines.store(session)
    _add_bills(session, drafts)


def rewrite(session: Session, drafts: Sequence[Drafted], *, now: dt.datetime) -> list[Drafted]:
    """Replace the lines and totals of stored drafts, and return them with their new versions."""
    if not drafts:
        return []
    session.execute(
        sql("DELETE FROM invoice_lines WHERE invoice_id = ANY(:ids)"),
        {"ids": [one.header.id for one in drafts]},
    )
    bill.clear(session, [one.header.id for one in drafts])
    lines = line_rows.Rows()
    rows = [
        {
            "id": one.header.id,
            "fingerprint": lines.add(*content(one)),
            **_figures(one.bill),
        }
        for one in drafts
    ]
    lines.store(session)
    _add_bills(session, drafts)
    session.execute(_REWRITE, {"rows": _json(rows), "now": now})
    return [
        replace(one, header=replace(one.header, version=one.header.version + 1)) for one in drafts
    ]


def claim_drafts(
    session: Session,
    *,
    ended_by: dt.datetime,
    limit: int,
    excluding: Sequence[str] = (),
    only: UUID | None = None,
) -> list[Header]:
    """Lock drafts whose period ended by an instant, and their tenants; oldest period first.

    Drafts of the tenants to be excluded are left. What others hold is skipped, so that this neither
    waits nor deadlocks. A tenant is held by one worker at a time, so that the numbers of its
    invoices follow its periods; for that, a draft is left too if an older one of its tenant is.
    """
    statement = invoice.SELECT.join(Tenant, Tenant.tenant_id == Invoice.tenant_id).where(
        Invoice.state == InvoiceState.draft,
        Invoice.period_end <= ended_by,
        Invoice.tenant_id != func.all(list(excluding)),
    )
    if only is not None:
        statement = statement.where(Invoice.id == only)
    rows = session.execute(
        statement.order_by(Invoice.period_end, Invoice.tenant_id, Invoice.id)
        .limit(limit)
        .with_for_update(key_share=True, skip_locked=True)
    )
    claimed = [invoice.read(row) for row in rows]
    waiting = _older(session, claimed)
    return [
        header
        for header in claimed
        if header.period.end <= waiting.get(header.tenant_id, header.period.end)
    ]


def of_tenants(session: Session, tenant_ids: Sequence[str]) -> list[Header]:
    """Return the drafts of tenants that the caller holds, oldest period first."""
    rows = session.execute(
        invoice.SELECT.where(
            Invoice.tenant_id == func.any(list(tenant_ids)), Invoice.state == InvoiceState.draft
        ).order_by(Invoice.period_end, Invoice.tenant_id, Invoice.id)
    )
    return [invoice.read(row) for row in rows]


def _older(session: Session, claimed: Sequence[Header]) -> dict[str, dt.datetime]:
    """When the oldest other draft of each of the tenants ends.

    It was skipped if its tenant came free only after that; its number comes first all the same.
    """
    if not claimed:
        return {}
    rows = session.execute(
        select(Invoice.tenant_id, func.min(Invoice.period_end).label("period_end"))
        .where(
            Invoice.tenant_id == func.any(sorted({header.tenant_id for header in claimed})),
            Invoice.state == InvoiceState.draft,
            Invoice.id != func.all([header.id for header in claimed]),
        )
        .group_by(Invoice.tenant_id)
    )
    return {row.tenant_id: row.period_end for row in rows}


def _figures(of: Bill) -> dict[str, Any]:
    return {
        "subtotal_minor": of.subtotal_minor,
        "discount_minor": of.discount_minor,
        "tax_minor": of.tax_minor,
        "included_tax_minor": of.included_tax_minor,
        "tax_note": of.tax_note,
        "total_minor": of.total_minor,
    }


def _add_bills(session: Session, drafts: Sequence[Drafted]) -> None:
    bill.write(
        session,
        {one.header.id: one.bill for one in drafts},
        {one.header.id: one.header.currency for one in drafts},
    )


def _json(rows: Sequence[dict[str, Any]]) -> str:
    return orjson.dumps(rows).decode()


_FIGURES = (
    "subtotal_minor, discount_minor, tax_minor, included_tax_minor, tax_note, total_minor, "
    "fingerprint"
)

_FIGURE_TYPES = (
    "subtotal_minor bigint, discount_minor bigint, tax_minor bigint, included_tax_minor bigint, "
    "tax_note text, total_minor bigint, fingerprint text"
)

_ADD = sql(f"""
    INSERT INTO invoices (id, tenant_id, kind, currency, timezone, period_start, period_end,
                          created_at, updated_at, amount_due_minor, {_FIGURES})
    SELECT id, tenant_id, kind, currency, timezone, period_start, period_end, :now, :now,
           total_minor, {_FIGURES}
    FROM json_to_recordset(CAST(:rows AS json)) AS new(
        id uuid, tenant_id text, kind text, currency text, timezone text,
        period_start timestamptz, period_end timestamptz, {_FIGURE_TYPES})
""")  # noqa: S608 (constants)

_REWRITE = sql(f"""
    UPDATE invoices
    SET ({_FIGURES}) = (SELECT {_FIGURES} FROM (SELECT changed.*) AS figures),
        amount_due_minor = changed.total_minor, version = version + 1, updated_at = :now
    FROM json_to_recordset(CAST(:rows AS json)) AS changed(id uuid, {_FIGURE_TYPES})
    WHERE invoices.id = changed.id AND state = 'draft'
""")  # noqa: S608 (constants)
