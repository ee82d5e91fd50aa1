"""Who bills: read when an invoice is finalized, and changed in between."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models.issuer import Issuer as Row
from models.rules import numbering

KEY = "default"


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who bills, with what was not said at its default.

    `printed` holds what people read: address, tax_number, email, payment_instructions, footer.
    """

    name: str | None = None
    printed: Mapping[str, str] = field(default_factory=dict)
    payment_days: int = 14
    invoice_series: str = numbering.SERIES
    credit_note_series: str = numbering.CREDIT_NOTE_SERIES
    number_format: str = numbering.FORMAT

    def snapshot(self) -> dict[str, Any]:
        """Return what is kept with an invoice, so that it reads the same for ever."""
        return {"name": self.name, **self.printed}


def get(session: Session) -> Issuer:
    """Return the issuer."""
    row = session.get(Row, KEY)
    if row is None:
        return Issuer()
    return Issuer(
        name=row.name,
        printed=row.printed,
        payment_days=row.payment_days,
        invoice_series=row.invoice_series,
        credit_note_series=row.credit_note_series,
        number_format=row.number_format,
    )


def change(session: Session, issuer: Issuer, *, now: dt.datetime) -> None:
    """Make the issuer be what is given."""
    values = {
        "name": issuer.name,
        "printed": dict(issuer.printed),
        "payment_days": issuer.payment_days,
        "invoice_series": issuer.invoice_series,
        "credit_note_series": issuer.credit_note_series,
        "number_format": issuer.number_format,
    }
    session.execute(
        insert(Row)
        .values(issuer_key=KEY, created_at=now, updated_at=now, **values)
        .on_conflict_do_nothing()
    )
    row = session.scalars(select(Row).where(Row.issuer_key == KEY).with_for_update()).one()
    for name, value in values.items():
        setattr(row, name, value)
    if session.is_modified(row):
        row.version += 1
        row.updated_at = now
        session.flush()
