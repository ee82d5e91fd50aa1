"""Life cycles of credit: batches, and holds on them."""

from enum import StrEnum
from typing import Final

from models.rules.states.machine import Machine


class CreditBatchState(StrEnum):
    """Life of a credit batch."""

    ACTIVE = "ACTIVE"
    EXHAUSTED = "EXHAUSTED"
    EXPIRED = "EXPIRED"
    REVOKED = "REVOKED"


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


class ReservationState(StrEnum):
    """Life of a hold on credit."""

    held = "held"
    committed = "committed"
    released = "released"
    expired = "expired"


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
