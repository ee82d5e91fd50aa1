"""What a hold comes to: the actual amount is charged, the rest goes back."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import update
from sqlalchemy.orm import Session

from models.credit import Reservation
from models.rules import burndown, money
from models.rules.burndown import Slice
from models.rules.states import ReservationState
from models.store import credit_funds, credit_ledger, reservation, reservation_hold
from models.store.credit_account import Account
from models.store.credit_change import Loss
from models.store.credit_ledger import Cause
from models.store.reservation_bill import Above, Bill
from models.store.reservation_end import CAUSE, Ended


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

    Raises:
        UnknownReservation: there is none by that id.
        NotHeld: it was committed or released before, or its time is over.
        AboveHold: more was used than set aside, and `use` refuses that.
    """
    found, account = reservation.lock(session, reservation_id, now=now)
    _require_held(session, found, account, now)
    actual = found.amount if use.amount is None else use.amount
    if actual > found.amount and use.above is Above.refuse:
        raise AboveHold(found.amount, actual)
    cause = Cause(CAUSE, str(reservation_id))
    bill = Bill(account, use.above)
    bill.charge(session, found, actual, cause, now)
    depleted = bill.depletes(session, now)
    details = {**found.details, **use.details}
    credit_ledger.write(
        session, account, bill.change, cause=cause, details=details, now=now, depletes=depleted
    )
    if not bill.overdraft:
        credit_funds.settle_debt(session, account, cause=cause, now=now)
    with money.exact():
        amount = burndown.total(bill.slices) + bill.overdraft
    _close(session, reservation_id, amount, now)
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


def _require_held(session: Session, found: Reservation, account: Account, now: dt.datetime) -> None:
    """A hold whose time is over has expired, whether it was swept or not."""
    if found.state != ReservationState.held:
        raise NotHeld(ReservationState(found.state))
    if found.expires_at <= now:
        ended = reservation_hold.give_back(session, found, account, now=now)
        raise NotHeld(ReservationState.expired, ended)


def _close(session: Session, reservation_id: UUID, amount: Decimal, now: dt.datetime) -> None:
    """The compare-and-set that makes one of commit, release and expiry the winner."""
    session.execute(
        update(Reservation)
        .where(Reservation.id == reservation_id, Reservation.state == ReservationState.held.value)
        .values(state=ReservationState.committed.value, committed_amount=amount, closed_at=now)
        .returning(Reservation.id)
        .execution_options(synchronize_session=False)
    ).one()
