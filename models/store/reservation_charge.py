"""What a hold comes to: the actual amount is charged, the rest goes back."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from models.rules import burndown, money
from models.rules.burndown import Slice
from models.rules.states import ReservationState
from models.store import (
    credit_funds,
    credit_ledger,
    ending,
    reservation_hold,
    reservation_locking,
)
from models.store.credit_account import Account
from models.store.credit_change import Loss
from models.store.credit_ledger import Cause
from models.store.ending import Part
from models.store.reservation_bill import Above, Bill
from models.store.reservation_end import CAUSE, Ended
from models.store.reservation_locking import Hold


@dataclass(frozen=True, slots=True)
class Use:
    """What was used in the end: None is all that was set aside, 0 nothing."""

    amount: Decimal | None
    above: Above
    details: dict[str, Any]


class AboveHold(Exception):
    """More was used than set aside, and that was not to be charged; the hold goes on."""

    def __init__(self, held: Decimal, requested: Decimal) -> None:
        super().__init__(f"{requested} requested, {held} held: ask for less or allow more")
        self.held = held
        self.requested = requested


class NotHeld(Exception):
    """The hold had ended before, or its time was over: nothing was charged.

    `ended` is its end if it was this call that found that its time was over.
    """

    def __init__(self, state: ReservationState, ended: Ended | None = None) -> None:
        super().__init__(f"the reservation is {state}")
        self.state = state
        self.ended = ended


@dataclass(frozen=True, slots=True)
class Committed:
    """What was charged: `amount` in all, of which `overdraft` became debt.

    `returned` went back, `uncovered` was used but could not be charged. `losses` are of what went
    back to closed batches. `depleted`: this took the last that was usable. `lapsed` are other holds
    that were ended because their time was over.
    """

    tenant_id: str
    product_key: str
    amount: Decimal
    slices: Sequence[Slice]
    returned: Decimal
    overdraft: Decimal
    uncovered: Decimal
    balance: Decimal
    debt: Decimal
    version: int
    depleted: bool
    losses: Sequence[Loss]
    lapsed: Sequence[Ended]


def charge(session: Session, reservation_id: UUID, use: Use, *, now: dt.datetime) -> Committed:
    """Charge what was used, give back the rest of what was set aside.

    Batches are charged in the order they were set aside in, also those that have ended meanwhile.
    What goes back to one that was closed is written off at once.

    It is the last that a transaction does with the account: in a command it is written together
    with the answer.

    Raises:
        UnknownReservation: there is none by that id.
        NotHeld: it was committed or released before, or its time is over.
        AboveHold: more was used than set aside, and `use` refuses that.
    """
    hold, account = reservation_locking.lock(session, reservation_id, now=now)
    _require_held(session, hold, account, now)
    actual = hold.amount if use.amount is None else use.amount
    if actual > hold.amount and use.above is Above.refuse:
        raise AboveHold(hold.amount, actual)
    cause = Cause(CAUSE, str(reservation_id))
    bill = Bill(account, use.above)
    bill.charge(session, hold, actual, cause, now)
    settles = bool(account.debt) and not bill.overdraft
    credit_ledger.write(
        session,
        account,
        bill.change,
        cause=cause,
        details={**hold.details, **use.details},
        now=now,
        depletes=(depleted := bill.depletes(session, now)),
        ends=not settles,
    )
    if settles:
        credit_funds.settle_debt(session, account, cause=cause, now=now)
    with money.exact():
        amount = burndown.total(bill.slices) + bill.overdraft
    ending.leave_or_write(session, _closing(reservation_id, amount, now))
    return Committed(
        tenant_id=account.tenant_id,
        product_key=account.product_key,
        amount=amount,
        slices=burndown.merged(bill.slices),
        returned=burndown.total(bill.returned),
        overdraft=bill.overdraft,
        uncovered=bill.uncovered,
        balance=account.balance,
        debt=account.debt,
        version=account.version,
        depleted=depleted,
        losses=bill.losses,
        lapsed=bill.lapsed,
    )


def _require_held(session: Session, hold: Hold, account: Account, now: dt.datetime) -> None:
    """A hold whose time is over has expired, whether it was swept or not."""
    if hold.state is not ReservationState.held:
        raise NotHeld(hold.state)
    if hold.expires_at <= now:
        ended = reservation_hold.give_back(session, hold, account, now=now)
        raise NotHeld(ReservationState.expired, ended)


def _closing(reservation_id: UUID, amount: Decimal, now: dt.datetime) -> Part:
    return Part(
        _CLOSE, {"closed_hold": reservation_id, "committed_amount": amount, "closed_at": now}
    )


# The compare-and-set that makes one of commit, release and expiry the winner. That it is held was
# read under the lock; a state that is not makes no state, which the column refuses.
_CLOSE = """
closed AS (
    UPDATE reservations
    SET state = CASE state WHEN 'held' THEN 'committed' END,
        committed_amount = :committed_amount, closed_at = :closed_at
    WHERE id = :closed_hold
)
"""
