"""What a provider of invoices is told, step by step, and what it answers.

Whoever speaks to one has a method a step. Each is one try: it raises nothing for what the provider
does or says, and may be made again, by anybody, under the same key.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import Protocol


@unique
class Verdict(StrEnum):
    """How a try of a step ended."""

    done = "done"
    """The provider has it."""
    later = "later"
    """Not now: the provider is away, busy or unwell, or may have it without having said so."""
    blocked = "blocked"
    """Nothing was sent: the provider's address is refused."""
    refused = "refused"
    """It will not have it, however often it is sent."""


@unique
class RemoteState(StrEnum):
    """Where an invoice stands at the provider."""

    draft = "draft"
    open = "open"
    paid = "paid"
    void = "void"
    uncollectible = "uncollectible"


@dataclass(frozen=True, slots=True)
class Try:
    """One try of a step.

    Args:
        key: the step's idempotency key.
        now: when it is made; what the provider says to wait is counted from there.
        look_first: the provider may have forgotten the key: ask whether it has the thing already.
    """

    key: str
    now: dt.datetime
    look_first: bool = False


@dataclass(frozen=True, slots=True)
class Customer:
    """Who is billed, as the invoice says it. Its repr shows no address."""

    tenant_id: str
    name: str
    address: Sequence[str] = field(default=(), repr=False)
    email: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Item:
    """A row of an invoice: a priced line, a discount, a tax, or what prepaid credit paid.

    `start` and `end` are the instants a priced line covers.
    """

    description: str
    amount_minor: int
    start: dt.datetime | None = None
    end: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class Invoice:
    """A numbered invoice; its items sum to what is due. Amounts are minor units (ISO 4217)."""

    invoice_id: str
    number: str
    tenant_id: str
    currency: str
    due_minor: int
    items: Sequence[Item] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Note:
    """What is taken back of an invoice: of what is still open, or of what was paid."""

    credit_note_id: str
    number: str
    currency: str
    amount_minor: int
    reason: str
    of_paid: bool


@dataclass(frozen=True, slots=True)
class Remote:
    """What the provider has: its id and, of an invoice, the state and total it answered."""

    id: str
    state: RemoteState | None = None
    total_minor: int | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a step did not succeed: no secret, no content of ours."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Answer:
    """How a try ended.

    Args:
        status: the last HTTP status, if one came.
        retry_after: how long the provider asks to be left alone.
        unwell: the provider itself is to blame, not this invoice: all others would fare alike.
        remote: what it has now, when done.
    """

    verdict: Verdict
    status: int | None
    latency_ms: int
    fault: Fault | None = None
    retry_after: dt.timedelta | None = None
    unwell: bool = False
    remote: Remote | None = None


class Provider(Protocol):
    """Somebody's API of invoices. `invoice` and `customer` are ids that it gave."""

    def put_customer(
        self, one: Try, who: Customer, *, known: str | None, key_to_make: str
    ) -> Answer:
        """Make the customer, unless its id is known, and bring what is said of it up to date.

        `key_to_make` is the same for all invoices of a tenant: whichever comes first, there is one.
        """

    def make_invoice(self, one: Try, what: Invoice, *, customer: str) -> Answer:
        """Make a draft without items."""

    def add_items(self, one: Try, what: Invoice, *, invoice: str) -> Answer:
        """Put the items on the draft; refused if its total is another one than what is due."""

    def finalize(self, one: Try, what: Invoice, *, invoice: str) -> Answer:
        """Make the draft final; refused if its total is another one than what is due."""

    def void(self, one: Try, *, invoice: str) -> Answer:
        """Withdraw the invoice."""

    def write_off(self, one: Try, *, invoice: str) -> Answer:
        """Say that nobody will pay the invoice."""

    def mark_paid(self, one: Try, *, invoice: str) -> Answer:
        """Say that the invoice was paid elsewhere, unless it knows that it is paid."""

    def credit(self, one: Try, note: Note, *, invoice: str) -> Answer:
        """Take back part of the invoice."""

    def close(self) -> None:
        """Close the connections."""
