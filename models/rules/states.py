"""Life cycles: per machine one enum and one table of moves, also drawn in docs/states.md.

CHECK constraints repeat the enums; rows move by compare-and-set along the tables.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class CreditBatchState(StrEnum):
    """Life of a credit batch."""

    ACTIVE = "ACTIVE"
    EXHAUSTED = "EXHAUSTED"
    EXPIRED = "EXPIRED"
    REVOKED = "REVOKED"


class ReservationState(StrEnum):
    """Life of a hold on credit."""

    held = "held"
    committed = "committed"
    released = "released"
    expired = "expired"


class OrderState(StrEnum):
    """Life of an order."""

    pending = "pending"
    paid = "paid"
    refunded = "refunded"
    cancelled = "cancelled"


class InvoiceState(StrEnum):
    """Life of an invoice."""

    draft = "draft"
    finalized = "finalized"
    paid = "paid"
    void = "void"
    uncollectible = "uncollectible"


class EndpointState(StrEnum):
    """Life of a webhook endpoint."""

    enabled = "enabled"
    disabled = "disabled"
    deleted = "deleted"


class DeliveryState(StrEnum):
    """Life of one message on its way to one endpoint."""

    pending = "pending"
    sending = "sending"
    held = "held"
    delivered = "delivered"
    dead = "dead"
    cancelled = "cancelled"


class RejectedState(StrEnum):
    """Life of a refused message that waits for an operator."""

    open = "open"
    replayed = "replayed"
    discarded = "discarded"


class ArchiveState(StrEnum):
    """Life of archived usage: a file, and the events it takes the place of."""

    due = "due"
    written = "written"
    verified = "verified"
    purged = "purged"
    forgotten = "forgotten"


class InvoiceSyncState(StrEnum):
    """Life of an invoice on its way to a provider."""

    pending = "pending"
    running = "running"
    synced = "synced"
    failed = "failed"


@dataclass(frozen=True, slots=True)
class Machine:
    """A life cycle: where it starts, what each state means, and which event leads where.

    Every state is a key of `transitions` and of `meaning`; a terminal one has no events.
    """

    name: str
    states: type[StrEnum]
    initial: StrEnum
    transitions: Mapping[StrEnum, Mapping[str, StrEnum]]
    meaning: Mapping[StrEnum, str]

    @property
    def terminal(self) -> frozenset[StrEnum]:
        """The states that nothing leaves."""
        return frozenset(state for state, events in self.transitions.items() if not events)


def can_move(machine: Machine, source: StrEnum, target: StrEnum) -> bool:
    """Whether some event of `machine` leads from `source` to `target` in one step."""
    return target in machine.transitions[source].values()


def to_markdown() -> str:
    """The text of docs/states.md: a diagram and two tables for each machine."""
    return "\n".join([_HEADING, *(_section(machine) for machine in MACHINES)])


CREDIT_BATCH: Final = Machine(
    name="Credit batch",
    states=CreditBatchState,
    initial=CreditBatchState.ACTIVE,
    transitions={
        CreditBatchState.ACTIVE: {
            "exhaust": CreditBatchState.EXHAUSTED,
            "expire": CreditBatchState.EXPIRED,
            "revoke": CreditBatchState.REVOKED,
        },
        CreditBatchState.EXHAUSTED: {
            "return": CreditBatchState.ACTIVE,
            "expire": CreditBatchState.EXPIRED,
            "revoke": CreditBatchState.REVOKED,
        },
        CreditBatchState.EXPIRED: {},
        CreditBatchState.REVOKED: {},
    },
    meaning={
        CreditBatchState.ACTIVE: "Credit remains; it is spent from valid_from until expires_at, "
        "and ends by use, by time or by decision.",
        CreditBatchState.EXHAUSTED: "Nothing remains; credit that is returned makes it active "
        "again, else it stays as it is.",
        CreditBatchState.EXPIRED: "Its time is over and what was left, holds apart, is written "
        "off; credit that a late hold gives back is written off too.",
        CreditBatchState.REVOKED: "Taken back by a refund or an operator, with what was left; "
        "nothing follows.",
    },
)

RESERVATION: Final = Machine(
    name="Reservation",
    states=ReservationState,
    initial=ReservationState.held,
    transitions={
        ReservationState.held: {
            "commit": ReservationState.committed,
            "release": ReservationState.released,
            "expire": ReservationState.expired,
        },
        ReservationState.committed: {},
        ReservationState.released: {},
        ReservationState.expired: {},
    },
    meaning={
        ReservationState.held: "Slices of batches are set aside; commit, release or the end of "
        "its time comes next, exactly one of them.",
        ReservationState.committed: "The actual amount was debited and the rest given back; "
        "nothing follows.",
        ReservationState.released: "Everything was given back by the caller; nothing follows.",
        ReservationState.expired: "Its time ran out and everything was given back; nothing "
        "follows, a late commit is refused.",
    },
)

ORDER: Final = Machine(
    name="Order",
    states=OrderState,
    initial=OrderState.pending,
    transitions={
        OrderState.pending: {"pay": OrderState.paid, "cancel": OrderState.cancelled},
        OrderState.paid: {"refund": OrderState.refunded},
        OrderState.refunded: {},
        OrderState.cancelled: {},
    },
    meaning={
        OrderState.pending: "Priced from the catalogue and waiting for its payment; nothing is "
        "granted yet.",
        OrderState.paid: "Paid by one payment and granted once; only a refund can follow.",
        OrderState.refunded: "What remained of its credit is revoked; it can not be paid again.",
        OrderState.cancelled: "Given up before it was paid; nothing follows.",
    },
)

INVOICE: Final = Machine(
    name="Invoice",
    states=InvoiceState,
    initial=InvoiceState.draft,
    transitions={
        InvoiceState.draft: {"finalize": InvoiceState.finalized, "drop": InvoiceState.void},
        InvoiceState.finalized: {
            "pay": InvoiceState.paid,
            "void": InvoiceState.void,
            "write_off": InvoiceState.uncollectible,
        },
        InvoiceState.paid: {},
        InvoiceState.void: {},
        InvoiceState.uncollectible: {"pay": InvoiceState.paid},
    },
    meaning={
        InvoiceState.draft: "Computed anew while usage arrives; it is finalized when the grace "
        "period is over, or withdrawn if nothing is on it by then.",
        InvoiceState.finalized: "Numbered and never edited again; it waits for payment, "
        "corrections are credit notes.",
        InvoiceState.paid: "Settled in full; corrections are credit notes.",
        InvoiceState.void: "Withdrawn, but its number stays used; a draft that came to nothing "
        "never had one. Nothing follows.",
        InvoiceState.uncollectible: "Written off as a loss; a payment that comes after all still "
        "settles it.",
    },
)

ENDPOINT: Final = Machine(
    name="Endpoint",
    states=EndpointState,
    initial=EndpointState.enabled,
    transitions={
        EndpointState.enabled: {
            "disable": EndpointState.disabled,
            "delete": EndpointState.deleted,
        },
        EndpointState.disabled: {
            "enable": EndpointState.enabled,
            "delete": EndpointState.deleted,
        },
        EndpointState.deleted: {},
    },
    meaning={
        EndpointState.enabled: "It is sent what it subscribed to, until it fails for too long, "
        "answers 410 or an operator disables it.",
        EndpointState.disabled: "Its deliveries are held, not lost; enabling it sends them.",
        EndpointState.deleted: "It is sent nothing and its open deliveries are cancelled; the row "
        "stays for the record.",
    },
)

DELIVERY: Final = Machine(
    name="Delivery",
    states=DeliveryState,
    initial=DeliveryState.pending,
    transitions={
        DeliveryState.pending: {
            "claim": DeliveryState.sending,
            "hold": DeliveryState.held,
            "cancel": DeliveryState.cancelled,
            "skip": DeliveryState.cancelled,
        },
        DeliveryState.sending: {
            "succeed": DeliveryState.delivered,
            "retry": DeliveryState.pending,
            "lose_lease": DeliveryState.pending,
            "give_up": DeliveryState.dead,
            "hold": DeliveryState.held,
            "cancel": DeliveryState.cancelled,
        },
        DeliveryState.held: {
            "release": DeliveryState.pending,
            "cancel": DeliveryState.cancelled,
            "skip": DeliveryState.cancelled,
        },
        DeliveryState.delivered: {"replay": DeliveryState.pending},
        DeliveryState.dead: {"replay": DeliveryState.pending, "skip": DeliveryState.cancelled},
        DeliveryState.cancelled: {},
    },
    meaning={
        DeliveryState.pending: "Due now, or waiting for its next attempt; the sender claims it "
        "when it is due.",
        DeliveryState.sending: "Leased by one sender that is making an attempt: pending in its "
        "table, with a row in `delivery_leases`; the outcome moves it on, a lease that runs out "
        "makes it pending again.",
        DeliveryState.held: "Its endpoint is disabled or can not be signed for; it waits, without "
        "spending attempts, until that is mended.",
        DeliveryState.delivered: "The endpoint answered 2xx in time; nothing follows unless an "
        "operator sends it again.",
        DeliveryState.dead: "It spent its attempts; it waits for an operator to replay it and is "
        "kept at least 30 days.",
        DeliveryState.cancelled: "Its endpoint was deleted before it arrived, or an operator "
        "skipped it; nothing follows.",
    },
)

REJECTED: Final = Machine(
    name="Rejected message",
    states=RejectedState,
    initial=RejectedState.open,
    transitions={
        RejectedState.open: {
            "replay": RejectedState.replayed,
            "discard": RejectedState.discarded,
        },
        RejectedState.replayed: {},
        RejectedState.discarded: {},
    },
    meaning={
        RejectedState.open: "Refused with a reason and kept whole; an operator mends and replays "
        "it, or discards it.",
        RejectedState.replayed: "Sent again, mended or not, and taken; a replay that is refused "
        "leaves it open.",
        RejectedState.discarded: "An operator decided that it is not wanted; nothing follows.",
    },
)

ARCHIVE: Final = Machine(
    name="Archive of usage",
    states=ArchiveState,
    initial=ArchiveState.due,
    transitions={
        ArchiveState.due: {"write": ArchiveState.written},
        ArchiveState.written: {
            "verify": ArchiveState.verified,
            "write_again": ArchiveState.due,
        },
        ArchiveState.verified: {"purge": ArchiveState.purged},
        ArchiveState.purged: {"forget": ArchiveState.forgotten},
        ArchiveState.forgotten: {},
    },
    meaning={
        ArchiveState.due: "Its month is closed and its events are still to be written to a file.",
        ArchiveState.written: "The file is on disk; it is read back and compared with the events, "
        "and one that differs stays here until an operator has it written again.",
        ArchiveState.verified: "Every event was found in the file and its key is remembered; the "
        "events are purged next.",
        ArchiveState.purged: "The events are gone, the file and their keys are kept: an event that "
        "is sent again is known until the keys are forgotten.",
        ArchiveState.forgotten: "The keys are gone too; usage of its month is refused for ever, "
        "the file stays.",
    },
)

INVOICE_SYNC: Final = Machine(
    name="Invoice at a provider",
    states=InvoiceSyncState,
    initial=InvoiceSyncState.pending,
    transitions={
        InvoiceSyncState.pending: {"claim": InvoiceSyncState.running},
        InvoiceSyncState.running: {
            "finish": InvoiceSyncState.synced,
            "put_off": InvoiceSyncState.pending,
            "lose_lease": InvoiceSyncState.pending,
            "give_up": InvoiceSyncState.failed,
        },
        InvoiceSyncState.synced: {"change": InvoiceSyncState.pending},
        InvoiceSyncState.failed: {"retry": InvoiceSyncState.pending},
    },
    meaning={
        InvoiceSyncState.pending: "Steps are due now or wait for their next try; a run claims it "
        "when it is due.",
        InvoiceSyncState.running: "Leased by one run that does step after step; a lease that runs "
        "out makes it pending again, at the step that is missing.",
        InvoiceSyncState.synced: "The provider has all of it; a payment, withdrawal or credit note "
        "makes it pending again.",
        InvoiceSyncState.failed: "It spent its tries or the provider refused it; it waits for an "
        "operator.",
    },
)

MACHINES: Final = (
    CREDIT_BATCH,
    RESERVATION,
    ORDER,
    INVOICE,
    ENDPOINT,
    DELIVERY,
    REJECTED,
    ARCHIVE,
    INVOICE_SYNC,
)

FINAL_INVOICE_STATES: Final = frozenset(
    {InvoiceState.finalized, InvoiceState.paid, InvoiceState.uncollectible}
)
"""Invoices that charge for what is on them, and will not change any more."""

OWED_INVOICE_STATES: Final = frozenset({InvoiceState.finalized, InvoiceState.uncollectible})
"""Invoices that a payment can still settle."""

OPEN_DELIVERY_STATES: Final = frozenset(
    {DeliveryState.pending, DeliveryState.sending, DeliveryState.held}
)
"""Deliveries that have yet to arrive; deleting their endpoint cancels them."""

STORED_DELIVERY_STATES: Final = tuple(
    state for state in DeliveryState if state is not DeliveryState.sending
)
"""What a delivery's own row may say. One that is being sent is pending there, and has a lease."""

SKIPPABLE_DELIVERY_STATES: Final = frozenset(
    {DeliveryState.pending, DeliveryState.held, DeliveryState.dead}
)
"""Deliveries that an operator can give up; one that is under way is waited for."""

REPLAYABLE_DELIVERY_STATES: Final = frozenset({DeliveryState.delivered, DeliveryState.dead})
"""Deliveries that an operator can send again under the same id."""

_HEADING: Final = """\
# States

Drawn from `models/rules/states.py`; a test keeps them equal. A row moves along an arrow or not at
all: each move names the state it leaves and changes nothing when the row is no longer in it.
"""


def _section(machine: Machine) -> str:
    return "\n".join(
        [
            f"## {machine.name}",
            "",
            "```mermaid",
            "stateDiagram-v2",
            *(f"    {line}" for line in _arrows(machine)),
            "```",
            "",
            "| state | meaning |",
            "|---|---|",
            *(f"| `{state}` | {machine.meaning[state]} |" for state in machine.states),
            "",
            "| from | event | to |",
            "|---|---|---|",
            *(
                f"| `{source}` | {event} | `{target}` |"
                for source, event, target in _moves(machine)
            ),
            "",
        ]
    )


def _arrows(machine: Machine) -> list[str]:
    return [
        f"[*] --> {machine.initial}",
        *(f"{source} --> {target}: {event}" for source, event, target in _moves(machine)),
        *(f"{state} --> [*]" for state in machine.states if state in machine.terminal),
    ]


def _moves(machine: Machine) -> list[tuple[StrEnum, str, StrEnum]]:
    return [
        (source, event, target)
        for source in machine.states
        for event, target in machine.transitions[source].items()
    ]
