"""Credit notes: a finalized invoice is never edited, it is taken back, whole or in part."""

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, ClassVar, Literal, TypedDict
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from models import database
from models.rules import crediting, money
from models.rules.decimals import plain
from models.rules.refusal import Refusal
from models.rules.states import InvoiceState
from models.settlement import CreditNote, CreditNoteLine
from models.store import bill, credit_note, issuer, settlement
from models.store.credit_note import Refund
from models.store.invoice import Header
from tasks import contract, fields, prepaid, standing
from tasks.announce import announce
from tasks.queues import Queue
from webhooks import events


class InvalidCreditNote(Refusal):
    """A credit note takes back lines, or an amount, or all, in whole minor units."""

    code: ClassVar[str] = "credit_note.invalid"


class LineToCredit(BaseModel):
    """Part of an invoice's line, or all that is left of it.

    Args:
        line: its place on the invoice, from 1.
        amount: as it was priced: without the taxes on top; in major units. All that is left, if
            absent.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    line: Annotated[int, Field(ge=1, le=100_000)]
    amount: fields.Amount | None = None


class CreditedLine(TypedDict):
    """What was taken back of a line."""

    line: int
    amount_minor: int
    tax_minor: int


class CreditNoteAnswer(TypedDict):
    """A credit note. Of the total, `reduced_minor` is not owed any more, `to_credit_minor` became
    prepaid credit, `payout_minor` is to be paid back."""

    credit_note_id: UUID
    number: str
    invoice_id: UUID
    tenant_id: str
    reason: str
    currency: str
    subtotal_minor: int
    tax_minor: int
    total_minor: int
    total: str
    reduced_minor: int
    to_credit_minor: int
    payout_minor: int
    created_at: dt.datetime
    lines: list[CreditedLine]


@contract.command("billing.create_credit_note", queue=Queue.billing)
def create_credit_note(
    session: database.Session,
    *,
    invoice_id: UUID,
    reason: fields.Reason,
    idempotency_key: fields.IdempotencyKey,  # noqa: ARG001 (the contract uses it)
    lines: Annotated[list[LineToCredit], Field(min_length=1, max_length=1000)] | None = None,
    amount: fields.Amount | None = None,
    refund: Literal["payout", "credit"] = "payout",
    as_of: fields.Instant = contract.NOW,
) -> CreditNoteAnswer:
    """Take back an invoice, some of its lines, or an amount, with the share of every tax.

    Runs when an operator sends it. What is not paid yet is not owed any more, and an invoice of
    which nothing is left to pay is paid. What was paid is paid back outside (`payout_minor` says
    how much) or becomes prepaid credit; what credit had paid becomes credit again. Never is more
    taken back than was billed, however many notes are made at once. Twice is harmless: the same key
    is one note. If it dies half way nothing has changed and no number is lost. Emits
    billing.credit_note.created, and billing.invoice.paid.

    Refused with code `invoice.unknown`, `invoice.not_open`, `credit_note.nothing_left`,
    `credit_note.exceeds_billed`, `credit_note.unknown_line`, `credit_note.invalid`,
    `prepaid.no_product`.

    Args:
        invoice_id: a finalized, paid or written-off invoice.
        reason: why; it is printed.
        lines: what is taken back of which line; or
        amount: in major units, taxes included, spread over the lines by what is left of them. All
            that is left of the invoice, if neither is given.
        refund: what becomes of money that was paid.
    """
    header = settlement.hold(session, invoice_id)
    _check_state(header)
    billed = credit_note.left(session, header, bill.read(session, [header.id])[header.id])
    parts = _parts(billed, header, lines, amount)
    note = issue(session, header, billed, parts, reason=reason, refund=refund, now=as_of)
    return _answer(note, credit_note.lines(session, [note.id])[note.id])


def issue(
    session: database.Session,
    header: Header,
    billed: crediting.Lines,
    parts: Sequence[crediting.Part],
    *,
    reason: str,
    refund: str = "payout",
    now: dt.datetime,
) -> CreditNote:
    """Make a credit note of parts of a numbered invoice, whose tenant is locked, and say so."""
    total = billed.total(parts)
    split = _split(session, header, total, refund)
    header = settlement.change(
        session,
        header,
        reduced_minor=split.reduced_minor,
        credited_minor=total,
        now=now,
    )
    if split.reduced_minor and header.open_minor == 0:
        standing.say(session, header, events.InvoicePaid, now=now)
    if split.to_credit_minor:
        prepaid.give(session, header, split.to_credit_minor, source="credit_note", now=now)
    note = credit_note.add(
        session,
        header,
        parts,
        of=billed,
        refund=split,
        reason=reason,
        issuer=issuer.get(session),
        now=now,
    )
    _announce(session, note, header, now=now)
    return note


@contract.command("billing.get_credit_note", queue=Queue.billing)
def get_credit_note(
    session: database.Session,
    *,
    credit_note_id: UUID,
    as_of: fields.Instant = contract.NOW,  # noqa: ARG001 (every task takes it)
) -> CreditNoteAnswer:
    """Answer with a credit note and its lines.

    Runs when someone asks. Twice is harmless and so is dying half way: it only reads.

    Args:
        credit_note_id: as `billing.create_credit_note` answered it.
    """
    note = credit_note.get(session, credit_note_id)
    return _answer(note, credit_note.lines(session, [note.id])[note.id])


def _check_state(header: Header) -> None:
    if header.state in (InvoiceState.draft, InvoiceState.void):
        raise settlement.InvoiceNotOpen(
            f"invoice {header.number or header.id} is {header.state.value}; only a finalized, paid "
            "or uncollectible invoice can be taken back",
            field="invoice_id",
        )


def _parts(
    billed: crediting.Lines,
    header: Header,
    lines: list[LineToCredit] | None,
    amount: Decimal | None,
) -> list[crediting.Part]:
    if lines is not None and amount is not None:
        raise InvalidCreditNote(
            "give lines or an amount, not both; neither takes back all that is left",
            field="amount",
        )
    if amount is not None:
        return crediting.by_amount(billed, _minor(amount, header, "amount"))
    if lines is None:
        return crediting.whole(billed)
    twice = [line for line, count in Counter(one.line for one in lines).items() if count > 1]
    if twice:
        raise crediting.UnknownLine(f"line {twice[0]} is named twice; name it once", field="lines")
    return crediting.by_line(
        billed, {one.line - 1: _line_minor(one, billed, header) for one in lines}
    )


def _line_minor(one: LineToCredit, billed: crediting.Lines, header: Header) -> int:
    if one.amount is not None:
        return _minor(one.amount, header, "lines")
    there = one.line <= len(billed.lines)
    return billed.lines[one.line - 1].net_left if there else 0


def _minor(amount: Decimal, header: Header, field: str) -> int:
    minor = money.to_minor(amount, header.currency)
    if money.from_minor(minor, header.currency) != amount:
        raise InvalidCreditNote(
            f"amount {plain(amount)} has more decimals than {header.currency}, which has "
            f"{money.minor_unit(header.currency)}",
            field=field,
        )
    return minor


def _split(session: database.Session, header: Header, total: int, refund: str) -> Refund:
    """What is not paid yet is not owed; of what was paid, money goes back first, then credit."""
    reduced = min(total, max(0, header.open_minor))
    rest = total - reduced
    money_left = header.paid_minor - credit_note.paid_back(session, header.id)
    payout = 0 if refund == "credit" else min(rest, money_left)
    return Refund(reduced, rest - payout, payout)


def _announce(
    session: database.Session, note: CreditNote, header: Header, *, now: dt.datetime
) -> None:
    event = events.CreditNoteCreated(
        tenant_id=note.tenant_id,
        credit_note_id=note.id,
        number=note.number,
        invoice_id=note.invoice_id,
        invoice_number=header.number or "",
        currency=note.currency,
        subtotal_minor=note.subtotal_minor,
        tax_minor=note.tax_minor,
        total_minor=note.total_minor,
        reduced_minor=note.reduced_minor,
        to_credit_minor=note.to_credit_minor,
        payout_minor=note.payout_minor,
        reason=note.reason,
    )
    announce(session, event, tenant_id=note.tenant_id, sequence=1, now=now)


def _answer(note: CreditNote, lines: Sequence[CreditNoteLine]) -> CreditNoteAnswer:
    return {
        "credit_note_id": note.id,
        "number": note.number,
        "invoice_id": note.invoice_id,
        "tenant_id": note.tenant_id,
        "reason": note.reason,
        "currency": note.currency,
        "subtotal_minor": note.subtotal_minor,
        "tax_minor": note.tax_minor,
        "total_minor": note.total_minor,
        "total": str(money.from_minor(note.total_minor, note.currency)),
        "reduced_minor": note.reduced_minor,
        "to_credit_minor": note.to_credit_minor,
        "payout_minor": note.payout_minor,
        "created_at": note.created_at,
        "lines": [
            {
                "line": one.position,
                "amount_minor": one.amount_minor,
                "tax_minor": sum(one.taxes_minor),
            }
            for one in lines
        ],
    }
