"""Stripe's objects: what is put into them, and what is read out of what it answers."""

from collections.abc import Callable, Sequence
from typing import Final

from webhooks import stripe_wire
from webhooks.caller import Reply
from webhooks.provider import Answer, Fault, Invoice, Item, Note, Remote, RemoteState, Verdict
from webhooks.stripe_wire import Form, Json

ITEMS_MAX: Final = 250
"""What Stripe takes at once, and on one invoice."""
TEXT_CHARACTERS: Final = 500


def folded(items: Sequence[Item]) -> list[Item]:
    """Return items that Stripe takes at once: the last ones of very many become one."""
    if len(items) <= ITEMS_MAX:
        return list(items)
    kept, rest = items[: ITEMS_MAX - 1], items[ITEMS_MAX - 1 :]
    total = sum(item.amount_minor for item in rest)
    return [*kept, Item(f"{len(rest)} more lines", total)]


def line(item: Item, currency: str) -> Form:
    """Return an item as a line to be added.

    Raises:
        AmountRefused: Stripe has no unit for its amount.
    """
    period = None
    if item.start is not None and item.end is not None:
        period = {"start": stripe_wire.unix(item.start), "end": stripe_wire.unix(item.end)}
    return {
        "description": item.description[:TEXT_CHARACTERS],
        "amount": stripe_wire.to_remote(item.amount_minor, currency),
        "discountable": False,
        "period": period,
    }


def remote_in(currency: str | None) -> Callable[[Json], Remote | None]:
    """Return how to read an answered object; an invoice's total, if its currency is said."""

    def read(answered: Json) -> Remote | None:
        remote_id, status, total = (answered.get(name) for name in ("id", "status", "total"))
        if not isinstance(remote_id, str) or not remote_id:
            return None
        is_invoice = answered.get("object") == "invoice" and isinstance(status, str)
        minor = None
        if currency is not None and isinstance(total, int):
            same = answered.get("currency") == currency.lower()
            minor = stripe_wire.from_remote(total, currency) if same else None
        return Remote(remote_id, _STATES.get(str(status)) if is_invoice else None, minor)

    return read


_STATES: Final = {state.value: state for state in RemoteState}


def compared(answer: Answer, what: Invoice) -> Answer:
    """Refuse an invoice whose total there is not what is due here."""
    if answer.remote is None or answer.remote.total_minor == what.due_minor:
        return answer
    total = answer.remote.total_minor
    there = "none in this currency" if total is None else f"{total} minor units"
    return Answer(
        Verdict.refused,
        answer.status,
        answer.latency_ms,
        Fault(
            "provider.total_differs",
            f"the provider's total of {answer.remote.id} is {there}, due are {what.due_minor} "
            f"{what.currency} minor units",
        ),
    )


def refused(code: str, reason: str, reply: Reply | None = None) -> Answer:
    """Return the answer of a step that no further try would help."""
    status = None if reply is None else reply.status
    return Answer(
        Verdict.refused, status, 0 if reply is None else reply.latency_ms, Fault(code, reason)
    )


def note_metadata(note: Note) -> dict[str, str]:
    """Return what a credit note is found again by."""
    return {
        "billing_credit_note_id": note.credit_note_id,
        "part": "paid" if note.of_paid else "open",
    }


def listed(reply: Reply) -> list[Json] | None:
    """Return the objects of a list; None if the reply is none."""
    read = stripe_wire.read(reply) if reply.status == 200 else None
    data = None if read is None else read.get("data")
    if not isinstance(data, list):
        return None
    return [each for each in data if isinstance(each, dict)]
