"""What a provider has to be told of an invoice, in which order, and what comes next."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final
from uuid import UUID

from models.rules.states import InvoiceState


@unique
class Step(StrEnum):
    """One thing that a provider is told."""

    customer = "customer"
    invoice = "invoice"
    items = "items"
    finalize = "finalize"
    credit_note = "credit_note"
    """What is not owed any more."""
    void = "void"
    write_off = "write_off"
    pay = "pay"
    refund_note = "refund_note"
    """What is taken back of what was paid."""


FIRST: Final = (Step.customer, Step.invoice, Step.items, Step.finalize)
"""What makes an invoice there, in this order; the rest follows what becomes of it."""


@dataclass(frozen=True, slots=True)
class Note:
    """A credit note: `reduced_minor` was not paid yet, `given_back_minor` was, also by credit."""

    id: UUID
    reduced_minor: int
    given_back_minor: int


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an invoice stands. `notes` are its credit notes, oldest first."""

    state: InvoiceState
    paid_minor: int
    notes: Sequence[Note] = ()


@dataclass(frozen=True, slots=True)
class Todo:
    """A step to be done; of a credit note, with the amount that the provider is told."""

    step: Step
    note_id: UUID | None = None
    amount_minor: int = 0

    @property
    def name(self) -> str:
        """What it is remembered by."""
        return self.step.value if self.note_id is None else f"{self.step.value}:{self.note_id}"


def next_todo(standing: Standing, done: Mapping[str, str]) -> Todo | None:
    """Return the first step that is missing; None if the provider has it all.

    An invoice that was withdrawn before it was sent is sent and withdrawn there as well: its number
    is used.
    """
    return next((todo for todo in _plan(standing) if todo.name not in done), None)


def key(step: str, subject: str, series: int) -> str:
    """Return the idempotency key of a step: the same whenever it is tried, by whomever.

    Args:
        step: as `Todo.name` says it.
        subject: the invoice's id.
        series: counts an operator's retries; a new one is a new request.
    """
    said = f"{step}\n{subject}\n{series}".encode()
    return f"billing-{step.partition(':')[0]}-{hashlib.sha256(said).hexdigest()[:32]}"


def _plan(standing: Standing) -> list[Todo]:
    plan = [Todo(step) for step in FIRST]
    plan += [
        Todo(Step.credit_note, note.id, note.reduced_minor)
        for note in standing.notes
        if note.reduced_minor
    ]
    match standing.state:
        case InvoiceState.void:
            plan.append(Todo(Step.void))
        case InvoiceState.uncollectible:
            plan.append(Todo(Step.write_off))
        case InvoiceState.paid:
            if standing.paid_minor:
                plan.append(Todo(Step.pay))
            plan += _refunds(standing)
    return plan


def _refunds(standing: Standing) -> list[Todo]:
    """What notes took back of money; of what prepaid credit paid the provider was never told."""
    left, refunds = standing.paid_minor, []
    for note in standing.notes:
        amount = min(note.given_back_minor, left)
        left -= amount
        if amount:
            refunds.append(Todo(Step.refund_note, note.id, amount))
    return refunds
