"""What tasks answer of holds on credit."""

import datetime as dt
from typing import Literal, TypedDict
from uuid import UUID


class BatchAmount(TypedDict):
    """A part of one batch."""

    batch_id: UUID
    amount: str


class Reserved(TypedDict):
    """Credit was set aside; `available` is left besides it."""

    reserved: Literal[True]
    reservation_id: UUID
    amount: str
    expires_at: dt.datetime
    balance: str
    available: str


class NotReserved(TypedDict):
    """Nothing was set aside: there is nothing usable, or too little."""

    reserved: Literal[False]
    reason: Literal["quota_exhausted", "insufficient_funds"]
    available: str


class Committed(TypedDict):
    """What was charged, and what went back.

    Of the amount, `overdraft` became debt. `uncovered` was used beyond it and not charged.
    """

    committed: Literal[True]
    reservation_id: UUID
    amount: str
    returned: str
    overdraft: str
    uncovered: str
    balance: str
    debt: str
    batches: list[BatchAmount]


class NotCommitted(TypedDict):
    """Nothing was charged. After `above_hold` the hold goes on; otherwise it says how it ended."""

    committed: Literal[False]
    reservation_id: UUID
    reason: Literal["above_hold", "committed", "released", "expired"]


class Released(TypedDict):
    """What was set aside went back."""

    released: Literal[True]
    reservation_id: UUID
    amount: str
    balance: str


class NotReleased(TypedDict):
    """There was nothing to give back any more: how the hold has ended."""

    released: Literal[False]
    reservation_id: UUID
    reason: Literal["committed", "released", "expired"]
