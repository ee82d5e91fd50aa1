"""The discounts and taxes of invoices: written with their lines, and read with them again."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import func, select
from sqlalchemy import text as sql
from sqlalchemy.orm import Session

from models.invoice import Invoice, InvoiceDiscount, InvoiceLine, InvoiceTax
from models.rules.waterfall import Bill, Discount, Tax


def write(session: Session, bills: Mapping[UUID, Bill], currencies: Mapping[UUID, str]) -> None:
    """Store the discounts and taxes of invoices that have none yet; their lines hold the parts."""
    discounts = [
        {
            "invoice_id": invoice_id,
            "position": position,
            "redemption_id": one.redemption_id,
            "coupon_key": one.coupon_key,
            "name": one.name,
            "percent": one.percent,
            "currency": currencies[invoice_id],
            "amount_minor": one.amount_minor,
        }
        for invoice_id, bill in bills.items()
        for position, one in enumerate(bill.discounts, start=1)
    ]
    taxes = [
        {
            "invoice_id": invoice_id,
            "position": position,
            "tax_key": one.tax_key,
            "name": one.name,
            "percent": one.percent,
            "inclusive": one.inclusive,
            "currency": currencies[invoice_id],
            "taxable_minor": one.taxable_minor,
            "amount_minor": one.amount_minor,
        }
        for invoice_id, bill in bills.items()
        for position, one in enumerate(bill.taxes, start=1)
    ]
    if discounts:
        session.execute(_ADD_DISCOUNTS, {"rows": _json(discounts)})
    if taxes:
        session.execute(_ADD_TAXES, {"rows": _json(taxes)})


def clear(session: Session, invoice_ids: Sequence[UUID]) -> None:
    """Remove the discounts and taxes of drafts."""
    for table in ("invoice_discounts", "invoice_taxes"):
        session.execute(
            sql(f"DELETE FROM {table} WHERE invoice_id = ANY(:ids)"),  # noqa: S608 (ours)
            {"ids": list(invoice_ids)},
        )


def read(session: Session, invoice_ids: Sequence[UUID]) -> dict[UUID, Bill]:
    """Return the bills of invoices, by id, for all that there are."""
    ids = func.any(list(invoice_ids))
    notes = session.execute(select(Invoice.id, Invoice.tax_note).where(Invoice.id == ids)).all()
    lines = _by_invoice(
        session.execute(
            select(
                InvoiceLine.invoice_id,
                InvoiceLine.amount_minor,
                InvoiceLine.discounts_minor,
                InvoiceLine.taxes_minor,
            )
            .where(InvoiceLine.invoice_id == ids)
            .order_by(InvoiceLine.position)
        )
    )
    discounts = _by_invoice(
        session.scalars(
            select(InvoiceDiscount)
            .where(InvoiceDiscount.invoice_id == ids)
            .order_by(InvoiceDiscount.position)
            .execution_options(populate_existing=True)
        )
    )
    taxes = _by_invoice(
        session.scalars(
            select(InvoiceTax)
            .where(InvoiceTax.invoice_id == ids)
            .order_by(InvoiceTax.position)
            .execution_options(populate_existing=True)
        )
    )
    return {
        row.id: _bill(lines[row.id], discounts[row.id], taxes[row.id], row.tax_note)
        for row in notes
    }


def _by_invoice(rows: Any) -> dict[UUID, list[Any]]:
    found: dict[UUID, list[Any]] = defaultdict(list)
    for row in rows:
        found[row.invoice_id].append(row)
    return found


def _bill(
    lines: Sequence[Any],
    discounts: Sequence[InvoiceDiscount],
    taxes: Sequence[InvoiceTax],
    tax_note: str | None,
) -> Bill:
    return Bill(
        amounts_minor=tuple(line.amount_minor for line in lines),
        discounts=tuple(
            Discount(
                redemption_id=one.redemption_id,
                coupon_key=one.coupon_key,
                name=one.name,
                percent=one.percent,
                lines_minor=tuple(line.discounts_minor[place] for line in lines),
            )
            for place, one in enumerate(discounts)
        ),
        taxes=tuple(
            Tax(
                tax_key=one.tax_key,
                name=one.name,
                percent=one.percent,
                inclusive=one.inclusive,
                taxable_minor=one.taxable_minor,
                lines_minor=tuple(line.taxes_minor[place] for line in lines),
            )
            for place, one in enumerate(taxes)
        ),
        tax_note=tax_note,
    )


_ADD_DISCOUNTS = sql("""
    INSERT INTO invoice_discounts (invoice_id, position, redemption_id, coupon_key, name, percent,
                                   currency, amount_minor)
    SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS new(
        invoice_id uuid, position integer, redemption_id uuid, coupon_key text, name text,
        percent numeric, currency text, amount_minor bigint)
""")

_ADD_TAXES = sql("""
    INSERT INTO invoice_taxes (invoice_id, position, tax_key, name, percent, inclusive, currency,
                               taxable_minor, amount_minor)
    SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS new(
        invoice_id uuid, position integer, tax_key text, name text, percent numeric,
        inclusive boolean, currency text, taxable_minor bigint, amount_minor bigint)
""")


def _json(rows: Sequence[dict[str, Any]]) -> str:
    return orjson.dumps(rows, default=_number).decode()


def _number(value: object) -> str:
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in a row")
