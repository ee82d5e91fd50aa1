"""Life cycles: per machine one enum and one table of moves, also drawn in docs/states.md.

CHECK constraints repeat the enums; rows move by compare-and-set along the tables.
"""

from typing import Final

from models.rules.states.credit import CREDIT_BATCH, RESERVATION, CreditBatchState, ReservationState
from models.rules.states.delivery import (
    DELIVERY,
    ENDPOINT,
    OPEN_DELIVERY_STATES,
    REPLAYABLE_DELIVERY_STATES,
    SKIPPABLE_DELIVERY_STATES,
    STORED_DELIVERY_STATES,
    DeliveryState,
    EndpointState,
)
from models.rules.states.invoice import (
    FINAL_INVOICE_STATES,
    INVOICE,
    INVOICE_SYNC,
    OWED_INVOICE_STATES,
    InvoiceState,
    InvoiceSyncState,
)
from models.rules.states.machine import Machine
from models.rules.states.order import ORDER, OrderState
from models.rules.states.upkeep import ARCHIVE, REJECTED, ArchiveState, RejectedState

__all__ = [
    "ARCHIVE",
    "CREDIT_BATCH",
    "DELIVERY",
    "ENDPOINT",
    "FINAL_INVOICE_STATES",
    "INVOICE",
    "INVOICE_SYNC",
    "MACHINES",
    "OPEN_DELIVERY_STATES",
    "ORDER",
    "OWED_INVOICE_STATES",
    "REJECTED",
    "REPLAYABLE_DELIVERY_STATES",
    "RESERVATION",
    "SKIPPABLE_DELIVERY_STATES",
    "STORED_DELIVERY_STATES",
    "ArchiveState",
    "CreditBatchState",
    "DeliveryState",
    "EndpointState",
    "InvoiceState",
    "InvoiceSyncState",
    "Machine",
    "OrderState",
    "RejectedState",
    "ReservationState",
]

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
"""Every life cycle there is."""
