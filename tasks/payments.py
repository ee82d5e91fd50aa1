"""After finalization: payments, withdrawal, writing off."""

import datetime as dt
from decimal import Decimal
from typing import ClassVar, Literal, TypedDict
from uuid import UUID

from models import database
from models.rules import money, states
from models.rules.decimals import plain
from models.rules.refusal import Refusal
from models.settlement import Payment
from models.store import drafting, late_usage, settlement
from models.store.invoice import Header
from models.store.settlement import Receipt
from tasks import contract, fields, prepaid
from tasks.announce import announce_all
from tasks.invoice_events import announcement
from tasks.queues import Queue
from webhooks import events


class NotWholeUnits(Refusal):
    """An amount of money has no more decimals than its currency, and is the invoice's."""

    code: ClassVar[str] = "payment.amount_invalid"


class PaymentExceedsDue(Refusal):
    """More was paid than is due."""

    code: ClassVar[str] = "payment.exceeds_due"


class InvoiceTouched(Refusal):
    """An invoice that was paid or credited in part is not withdrawn; it is credited."""

    code: ClassVar[str] = "invoice.touched"


class StandingAnswer(TypedDict):
    """Where an invoice stands. `open_minor` is what is still to be paid, 0 of one that is void."""

    invoice_id: UUID
    tenant_id: str
    number: str | None
    state: str
    currency: str
    total_minor: int
    amount_due_minor: int
    paid_minor: int
    credited_minor: int
    open_minor: int
    version: int


class PaymentAnswer(StandingAnswer):
    """A payment, and where its invoice stands now. `excess_minor` of it became credit."""

    payment_id: str
    method: str
    amount_minor: int
    excess_minor: int
    received_at: dt.datetime


@contract.command("billing.record_payment", queue=Queue.billing)
def record_payment(
    session: database.Session,
    *,
    invoice_id: UUID,
    payment_id: fields.IdempotencyKey,
    amount: fields.Amount,
    currency: fields.Currency | None = None,
    method: fields.Key64 = "manual",
    excess: Literal["refuse", "credit"] = "refuse",
    received_at: fields.Instant | None = None,
    metadata: fields.Metadata | None = None,
    as_of: fields.Instant = contract.NOW,
) -> PaymentAnswer:
    """Enter money that came for an invoice, all of what is due or part of it.

    Runs when an operator or a payment provider's webhook sends it. When nothing is left to pay the
    invoice is paid, also one that was written off. Twice is harmless: a method's payment id is
    entered once, and what was entered comes back. If it dies half way nothing was entered, and the
    message comes back. Emits billing.invoice.paid.

    Refused with code `payment.exceeds_due` (unless the excess is to be credit), `payment.conflict`
    (the id is known with another amount or invoice), `payment.amount_invalid`, `invoice.unknown`,
    `invoice.not_open`, `prepaid.no_product`.

    Args:
        invoice_id: what was paid.
        payment_id: the payment's name where it was made, 1 to 128 characters.
        amount: in major units, above 0, whole minor units of the invoice's currency.
        currency: to be checked against the invoice's.
        method: where the payment id comes from, such as "stripe" or "bank".
        excess: what becomes of money above what is due: it is refused, or kept as prepaid credit.
        received_at: when the money came; `as_of`, if absent.
        metadata: kept with the payment.
    """
    header = settlement.hold(session, invoice_id)
    amount_minor = _minor(amount, currency, header)
    known = settlement.find_payment(session, method=method, payment_id=payment_id)
    if known is not None:
        _check_same(known, header, amount_minor)
        return _answer(header, known)
    over = _excess(header, amount_minor, excess)
    receipt = Receipt(
        method=method,
        payment_id=payment_id,
        currency=header.currency,
        amount_minor=amount_minor,
        excess_minor=over,
        received_at=received_at or as_of,
        details=metadata or {},
    )
    settlement.add_payment(session, header, receipt, now=as_of)
    if amount_minor > over:
        header = settlement.change(session, header, paid_minor=amount_minor - over, now=as_of)
        if header.open_minor == 0:
            say(session, header, events.InvoicePaid, now=as_of)
    if over:
        prepaid.give(session, header, over, source="overpayment", now=as_of)
    return _answer(header, receipt)


@contract.command("billing.void_invoice", queue=Queue.billing)
def void_invoice(
    session: database.Session,
    *,
    invoice_id: UUID,
    reason: fields.Reason,
    as_of: fields.Instant = contract.NOW,
) -> StandingAnswer:
    """Withdraw a finalized invoice that nobody has paid; its number stays used.

    Runs when an operator sends it. Credit that paid of it is given back, without an end; a coupon
    that was on it can be used again, and late usage of other periods goes to the next invoice.
    `billing.generate_monthly_invoice` bills its period anew. Twice is harmless: it is void
    already. If it dies half way nothing has changed. Emits
    billing.invoice.voided.

    Refused with code `invoice.not_open` for a draft, a paid or a written-off invoice, and
    `invoice.touched` when something was paid or credited, or adjusted on another invoice: correct
    it with a credit note.

    Args:
        invoice_id: what is withdrawn.
        reason: why; it is kept.
    """
    header = settlement.hold(session, invoice_id)
    if header.state is states.InvoiceState.void:
        return standing(header)
    is_open = header.state is states.InvoiceState.finalized
    if is_open and (header.paid_minor or header.credited_minor):
        raise InvoiceTouched(
            f"invoice {header.number} was paid or credited in part; take the rest back with "
            "billing.create_credit_note",
            field="invoice_id",
        )
    if is_open and late_usage.is_adjusted(session, header.id):
        raise InvoiceTouched(
            f"late usage of invoice {header.number} is on another invoice already, which would be "
            "wrong without it; take it back with billing.create_credit_note",
            field="invoice_id",
        )
    header = settlement.change(session, header, event="void", note=reason, now=as_of)
    late_usage.notice_withdrawn(session, header.id, now=as_of)
    if header.credit_minor > 0:
        prepaid.give(session, header, header.credit_minor, source="invoice.voided", now=as_of)
    say(session, header, events.InvoiceVoided, now=as_of)
    return standing(header)


@contract.command("billing.write_off_invoice", queue=Queue.billing)
def write_off_invoice(
    session: database.Session,
    *,
    invoice_id: UUID,
    reason: fields.Reason,
    as_of: fields.Instant = contract.NOW,
) -> StandingAnswer:
    """Write a finalized invoice off as a loss; a payment that comes after all still settles it.

    Runs when an operator sends it. Twice is harmless: it is written off already. If it dies half
    way nothing has changed. Emits billing.invoice.uncollectible.

    Refused with code `invoice.not_open` unless the invoice is finalized and not paid.

    Args:
        invoice_id: what is written off.
        reason: why; it is kept.
    """
    header = settlement.hold(session, invoice_id)
    if header.state is states.InvoiceState.uncollectible:
        return standing(header)
    header = settlement.change(session, header, event="write_off", note=reason, now=as_of)
    say(session, header, events.InvoiceUncollectible, now=as_of)
    return standing(header)


def say(
    session: database.Session,
    header: Header,
    topic: type[events.InvoiceEvent],
    *,
    now: dt.datetime,
) -> None:
    """Announce what became of an invoice."""
    announce_all(session, [announcement(topic, drafting.get(session, header))], now=now)


def standing(header: Header) -> StandingAnswer:
    """Return where an invoice stands, as tasks answer it."""
    return {
        "invoice_id": header.id,
        "tenant_id": header.tenant_id,
        "number": header.number,
        "state": header.state.value,
        "currency": header.currency,
        "total_minor": header.total_minor,
        "amount_due_minor": header.amount_due_minor,
        "paid_minor": header.paid_minor,
        "credited_minor": header.credited_minor,
        "open_minor": header.open_minor,
        "version": header.version,
    }


def _minor(amount: Decimal, currency: str | None, header: Header) -> int:
    if currency not in (None, header.currency):
        raise NotWholeUnits(
            f"invoice {header.number} is in {header.currency}, the payment in {currency}",
            field="currency",
        )
    minor = money.to_minor(amount, header.currency)
    if money.from_minor(minor, header.currency) != amount:
        raise NotWholeUnits(
            f"amount {plain(amount)} has more decimals than {header.currency}, which has "
            f"{money.minor_unit(header.currency)}",
            field="amount",
        )
    return minor


def _excess(header: Header, amount_minor: int, excess: str) -> int:
    """How much of a payment is above what is due, which must be allowed."""
    closed = (states.InvoiceState.draft, states.InvoiceState.void)
    if header.state in closed:
        raise settlement.InvoiceNotOpen(
            f"invoice {header.number or header.id} is {header.state.value}; it must be finalized "
            "or uncollectible to be paid",
            field="invoice_id",
        )
    due = max(0, header.open_minor)
    if amount_minor <= due:
        return 0
    if excess == "refuse":
        raise PaymentExceedsDue(
            f"{money.format_minor(amount_minor, header.currency)} is more than is due of invoice "
            f"{header.number}, {money.format_minor(due, header.currency)}; send that, or say "
            "excess='credit' to keep the rest as prepaid credit",
            field="amount",
        )
    return amount_minor - due


def _check_same(known: Payment, header: Header, amount_minor: int) -> None:
    if (known.invoice_id, known.amount_minor) != (header.id, amount_minor):
        raise settlement.PaymentConflict(
            f"payment {known.payment_id!r} by {known.method!r} was entered with "
            f"{money.format_minor(known.amount_minor, known.currency)} for invoice "
            f"{known.invoice_id}; give this one an id of its own",
            field="payment_id",
        )


def _answer(header: Header, payment: Payment | Receipt) -> PaymentAnswer:
    return {
        **standing(header),
        "payment_id": payment.payment_id,
        "method": payment.method,
        "amount_minor": payment.amount_minor,
        "excess_minor": payment.excess_minor,
        "received_at": payment.received_at,
    }
