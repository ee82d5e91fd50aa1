"""Life cycles of an invoice: ours, and on its way to a provider."""

from enum import StrEnum
from typing import Final

from models.rules.states.machine import Machine


class InvoiceState(StrEnum):
    """Life of an invoice."""

    draft = "draft"
    finalized = "finalized"
    paid = "paid"
    void = "void"
    uncollectible = "uncollectible"


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


FINAL_INVOICE_STATES: Final = frozenset(
    {InvoiceState.finalized, InvoiceState.paid, InvoiceState.uncollectible}
)
"""Invoices that charge for what is on them, and will not change any more."""


OWED_INVOICE_STATES: Final = frozenset({InvoiceState.finalized, InvoiceState.uncollectible})
"""Invoices that a payment can still settle."""


class InvoiceSyncState(StrEnum):
    """Life of an invoice on its way to a provider."""

    pending = "pending"
    running = "running"
    synced = "synced"
    failed = "failed"


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
