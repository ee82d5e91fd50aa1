"""Drafts numbered and frozen, with all that they have to say for ever; empty ones withdrawn."""

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import orjson
from sqlalchemy import text as sql
from sqlalchemy.orm import Session

from models.rules import numbering, period
from models.rules.states import InvoiceState
from models.store import series
from models.store.invoice import Header
from models.store.issuer import Issuer


def finalize(
    session: Session, headers: Sequence[Header], *, issuer: Issuer, now: dt.datetime
) -> list[Header]:
    """Number and freeze drafts in the given order, and return them as they are now.

    What prepaid credit paid of each is in its header. An invoice that is not over after that is
    open; one of which nothing is due is paid.
    """
    if not headers:
        return []
    due_at = now + dt.timedelta(days=issuer.payment_days)
    # The series' row is locked from here to the commit: nothing that can wait comes after it.
    first = series.take(session, issuer.invoice_series, count=len(headers))
    final = [
        replace(
            header,
            state=InvoiceState.finalized,
            number=number,
            version=header.version + 1,
            finalized_at=now,
            due_at=due_at,
        )
        for number, header in zip(_numbers(headers, issuer, first, now), headers, strict=True)
    ]
    rows = [
        {
            "id": header.id,
            "version": header.version,
            "sequence": sequence,
            "number": header.number,
            "credit_minor": header.credit_minor,
        }
        for sequence, header in enumerate(final, start=first)
    ]
    session.execute(
        _FINALIZE,
        {
            "rows": orjson.dumps(rows).decode(),
            "series": issuer.invoice_series,
            "issuer": orjson.dumps(issuer.snapshot()).decode(),
            "due_at": due_at,
            "now": now,
        },
    )
    return final


def drop(session: Session, headers: Sequence[Header], *, now: dt.datetime) -> list[Header]:
    """Withdraw drafts that have no line left, and return them as they are now: they are void, and
    never had a number. Their period is free for another invoice."""
    if not headers:
        return []
    session.execute(_DROP, {"ids": [header.id for header in headers], "note": NOTHING, "now": now})
    return [
        replace(
            header,
            state=InvoiceState.void,
            version=header.version + 1,
            closed_at=now,
            closing_note=NOTHING,
        )
        for header in headers
    ]


NOTHING: Final = "nothing is left to be billed"
"""Why a draft is withdrawn."""

_DROP = sql("""
    UPDATE invoices
    SET state = 'void', version = version + 1, closed_at = :now, closing_note = :note,
        updated_at = :now
    WHERE id = ANY(:ids) AND state = 'draft'
      AND NOT EXISTS (SELECT FROM invoice_lines WHERE invoice_id = invoices.id)
""")

_FINALIZE = sql("""
    UPDATE invoices
    SET state = 'finalized', series = :series, sequence = given.sequence, number = given.number,
        credit_minor = given.credit_minor,
        amount_due_minor = invoices.total_minor - given.credit_minor,
        issuer = CAST(:issuer AS jsonb),
        billed_to = jsonb_build_object('name', tenants.name, 'address', tenants.address,
                                       'tax_number', tenants.tax_number),
        version = given.version, finalized_at = :now, due_at = :due_at, updated_at = :now
    FROM json_to_recordset(CAST(:rows AS json)) AS given(
             id uuid, version integer, sequence bigint, number text, credit_minor bigint)
         JOIN invoices AS draft ON draft.id = given.id
         JOIN tenants ON tenants.tenant_id = draft.tenant_id
    WHERE invoices.id = given.id AND invoices.state = 'draft'
""")


def _numbers(
    headers: Sequence[Header], issuer: Issuer, first: int, now: dt.datetime
) -> Iterator[str]:
    """The invoices' numbers in their order, by the local day of each."""
    days = {
        timezone: period.local_day(now, period.zone(timezone))
        for timezone in {header.timezone for header in headers}
    }
    for sequence, header in enumerate(headers, start=first):
        yield numbering.number(
            issuer.number_format,
            series=issuer.invoice_series,
            sequence=sequence,
            day=days[header.timezone],
        )
