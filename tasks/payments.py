"""Money that came for invoices."""

import datetime as dt
from decimal import Decimal
from typing import ClassVar, Literal
from uuid import UUID

from models import database
from models.rules import money, states
from models.rules.decimals import plain
from models.rules.refusal import Refusal
from models.settlement import Payment
from models.store import settlement
from models.store.invoice import Header
from models.store.settlement import Receipt
from tasks import contract, fields, prepaid, standing
from tasks.queues import Queue
from tasks.standing import StandingAnswer
from webhooks import events


class NotWholeUnits(Refusal):
    """An amount of money has no more decimals than its currency, and is the invoice's."""

    code: ClassVar[str] = "payment.amount_invalid"


class PaymentExceedsDue(Refusal):
    """More was paid than is due."""

    code: ClassVar[str] = "payment.exceeds_due"


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
            standing.say(session, header, events.InvoicePaid, now=as_of)
    if over:
        prepaid.give(session, header, over, source="overpayment", now=as_of)
    return _answer(header, receipt)


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
        **standing.of(header),
        "payment_id": payment.payment_id,
        "method": payment.method,
        "amount_minor": payment.amount_minor,
        "excess_minor": payment.excess_minor,
        "received_at": payment.received_at,
    }
