"""Drafts: drawn up, rewritten while usage arrives, numbered and frozen.

Whoever changes an invoice holds the lock of its tenant's row. Locks are taken in this order:
tenants by id (or, in `claim_drafts`, without waiting), aggregates, invoices, and the series last.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import func
from sqlalchemy import text as sql
from sqlalchemy.orm import Session

from models.invoice import Invoice
from models.rules import billing, ids
from models.rules.period import Period
from models.rules.states import InvoiceState
from models.store import invoice
from models.store.invoice import Header
from models.tenant import Tenant


@dataclass(frozen=True, slots=True)
class Drafted:
    """An invoice with its lines."""

    header: Header
    lines: Sequence[billing.Line]


def draft(
    *,
    tenant_id: str,
    currency: str,
    timezone: str,
    covers: Period,
    lines: Sequence[billing.Line],
    now: dt.datetime,
) -> Drafted:
    """Return an invoice that is not stored yet."""
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
    )
    return Drafted(header, lines)


def add(session: Session, drafts: Sequence[Drafted], *, now: dt.datetime) -> None:
    """Store new drafts with their lines, all in two statements."""
    if not drafts:
        return
    rows = [
        {
            "id": one.header.id,
            "tenant_id": one.header.tenant_id,
            "currency": one.header.currency,
            "timezone": one.header.timezone,
            "period_start": one.header.period.start,
            "period_end": one.header.period.end,
            "total_minor": one.header.total_minor,
        }
        for one in drafts
    ]
    session.execute(
        sql("""
            INSERT INTO invoices (id, tenant_id, currency, timezone, period_start, period_end,
                                  total_minor, created_at, updated_at)
            SELECT id, tenant_id, currency, timezone, period_start, period_end, total_minor,
                   :now, :now
            FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS new(
                id uuid, tenant_id text, currency text, timezone text, period_start timestamptz,
                period_end timestamptz, total_minor bigint)
        """),
        {"rows": _json(rows), "now": now},
    )
    _add_lines(session, drafts)


def rewrite(session: Session, drafts: Sequence[Drafted], *, now: dt.datetime) -> list[Drafted]:
    """Replace the lines and totals of stored drafts, and return them with their new versions."""
    if not drafts:
        return []
    session.execute(
        sql("DELETE FROM invoice_lines WHERE invoice_id = ANY(:ids)"),
        {"ids": [one.header.id for one in drafts]},
    )
    _add_lines(session, drafts)
    rows = [{"id": one.header.id, "total_minor": billing.total(one.lines)} for one in drafts]
    session.execute(
        sql("""
            UPDATE invoices
            SET total_minor = changed.total_minor, version = version + 1, updated_at = :now
            FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS changed(id uuid, total_minor bigint)
            WHERE invoices.id = changed.id AND state = 'draft'
        """),
        {"rows": _json(rows), "now": now},
    )
    return [
        Drafted(
            replace(
                one.header, total_minor=billing.total(one.lines), version=one.header.version + 1
            ),
            one.lines,
        )
        for one in drafts
    ]


def claim_drafts(
    session: Session,
    *,
    ended_by: dt.datetime,
    limit: int,
    excluding: Sequence[UUID],
    only: UUID | None = None,
) -> list[Header]:
    """Lock drafts whose period ended by an instant, and their tenants; oldest period first.

    What others hold is skipped, so that this neither waits nor deadlocks. A tenant is held by one
    worker at a time, so that the numbers of its invoices follow its periods.
    """
    statement = invoice.SELECT.join(Tenant, Tenant.tenant_id == Invoice.tenant_id).where(
        Invoice.state == InvoiceState.draft,
        Invoice.period_end <= ended_by,
        Invoice.id != func.all(list(excluding)),
    )
    if only is not None:
        statement = statement.where(Invoice.id == only)
    rows = session.execute(
        statement.order_by(Invoice.period_end, Invoice.tenant_id, Invoice.id)
        .limit(limit)
        .with_for_update(key_share=True, skip_locked=True)
    )
    return [invoice.read(row) for row in rows]


def finalize(
    session: Session, headers: Sequence[Header], *, series: str, now: dt.datetime
) -> list[Header]:
    """Number and freeze drafts in the given order, and return them as they are now.

    The series' row is locked here and given back by the commit: take it last. A transaction that
    is undone gives its numbers back with it, so none is ever missing.
    """
    if not headers:
        return []
    last: int = session.execute(
        sql("""
            INSERT INTO invoice_series (series, last_number) VALUES (:series, :count)
            ON CONFLICT (series)
            DO UPDATE SET last_number = invoice_series.last_number + excluded.last_number
            RETURNING last_number
        """),
        {"series": series, "count": len(headers)},
    ).scalar_one()
    first = last - len(headers) + 1
    rows = [
        {
            "id": header.id,
            "sequence": sequence,
            "number": billing.invoice_number(series, sequence),
        }
        for sequence, header in enumerate(headers, start=first)
    ]
    moved = session.execute(
        sql("""
            UPDATE invoices
            SET state = 'finalized', series = :series, sequence = given.sequence,
                number = given.number, version = version + 1, finalized_at = :now,
                updated_at = :now
            FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS given(
                id uuid, sequence bigint, number text)
            WHERE invoices.id = given.id AND state = 'draft'
            RETURNING invoices.id, invoices.number, invoices.version
        """),
        {"rows": _json(rows), "series": series, "now": now},
    )
    given = {row.id: row for row in moved}
    return [
        replace(
            header,
            state=InvoiceState.finalized,
            number=given[header.id].number,
            version=given[header.id].version,
            finalized_at=now,
        )
        for header in headers
    ]


def _add_lines(session: Session, drafts: Sequence[Drafted]) -> None:
    rows = [
        _line_row(one.header, position, line)
        for one in drafts
        for position, line in enumerate(one.lines, start=1)
    ]
    session.execute(
        sql("""
            INSERT INTO invoice_lines (invoice_id, position, kind, subscription_id, price_id,
                                       metric, description, quantity, unit_amount, currency,
                                       amount_minor, period_start, period_end, details)
            SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS new(
                invoice_id uuid, position integer, kind text, subscription_id uuid, price_id uuid,
                metric text, description text, quantity numeric, unit_amount numeric,
                currency text, amount_minor bigint, period_start timestamptz,
                period_end timestamptz, details jsonb)
        """),
        {"rows": _json(rows)},
    )


def _line_row(header: Header, position: int, line: billing.Line) -> dict[str, Any]:
    return {
        "invoice_id": header.id,
        "position": position,
        "kind": line.kind,
        "subscription_id": line.subscription_id,
        "price_id": line.price_id,
        "metric": line.metric,
        "description": line.description,
        "quantity": line.quantity,
        "unit_amount": line.unit_amount,
        "currency": header.currency,
        "amount_minor": line.amount_minor,
        "period_start": line.period.start,
        "period_end": line.period.end,
        "details": line.details,
    }


def _json(rows: Sequence[dict[str, Any]]) -> str:
    return orjson.dumps(rows, default=_number).decode()


def _number(value: object) -> str:
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in a row")
