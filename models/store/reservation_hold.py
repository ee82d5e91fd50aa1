"""Holds on credit: set aside, and given back. What is charged is in reservation_charge."""

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from models.rules import burndown, ids, money
from models.rules.states import ReservationState
from models.store import (
    credit_account,
    credit_funds,
    credit_ledger,
    ending,
    product,
    reservation_end,
    reservation_locking,
)
from models.store.credit_account import Account
from models.store.credit_change import Change
from models.store.credit_funds import Funds
from models.store.credit_ledger import Cause
from models.store.credit_spending import TooLittle
from models.store.ending import Part
from models.store.recordset import Recordset
from models.store.reservation_end import CAUSE, Ended
from models.store.reservation_locking import Hold


@dataclass(frozen=True, slots=True)
class Request:
    """What to set aside: `amount` units above 0, until `expires_at`, and what for."""

    tenant_id: str
    product_key: str
    amount: Decimal
    expires_at: dt.datetime
    reason: str | None
    details: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reserved:
    """A new hold. `available` is what can be spent or set aside besides it.

    `version` counts the changes of the balance; `lapsed` are holds that were ended because their
    time was over.
    """

    reservation_id: UUID
    slices: Sequence[burndown.Slice]
    balance: Decimal
    available: Decimal
    version: int
    lapsed: Sequence[Ended]


def reserve(session: Session, request: Request, *, now: dt.datetime) -> Reserved:
    """Set credit of usable batches aside, in the product's order: all of the amount or nothing.

    It can be charged until the hold ends, also when its batches end before. On a product of type
    period or unlimited nothing is set aside, but a usable batch is needed.

    It is the last that a transaction does with the account: in a command it is written together
    with the answer.

    Raises:
        UnknownProduct: there is no product by that key.
        TooLittle: the usable batches hold too little, or there are none.
    """
    account = credit_account.lock(
        session, tenant_id=request.tenant_id, product_key=request.product_key, now=now
    )
    if account is None:
        product.get(session, request.product_key)
        raise TooLittle(Decimal(0), request.amount)
    reservation_id = ids.uuid7(now)
    cause = Cause(CAUSE, str(reservation_id))
    funds = credit_funds.find(session, account, request.amount, cause=cause, now=now)
    slices = _plan(account, funds, request.amount, now)
    change = Change()
    if account.is_counted:
        for part in slices:
            change.hold(part.batch_id, part.amount)
    available = _available_besides(session, account, funds, request.amount, now)
    credit_ledger.write(session, account, change, cause=cause, details={}, now=now, ends=True)
    ending.leave_or_write(session, _holding(reservation_id, account, request, slices, now))
    return Reserved(
        reservation_id=reservation_id,
        slices=slices,
        balance=account.balance,
        available=available,
        version=account.version,
        lapsed=funds.lapsed,
    )


def release(
    session: Session, reservation_id: UUID, *, reason: str | None, now: dt.datetime
) -> tuple[ReservationState, Ended | None]:
    """Give back what a reservation holds; return its state now, and its end if this was it.

    One whose time is over has expired, whether it was swept or not.

    Raises:
        UnknownReservation: there is none by that id.
    """
    hold, account = reservation_locking.lock(session, reservation_id, now=now)
    if hold.state is not ReservationState.held:
        return hold.state, None
    ended = give_back(session, hold, account, reason=reason, now=now)
    return ended.state, ended


def give_back(
    session: Session,
    hold: Hold,
    account: Account,
    *,
    reason: str | None = None,
    now: dt.datetime,
) -> Ended:
    """End a hold of a locked account: released, or expired if its time is over.

    If the tenant is in debt, what comes back pays it.
    """
    expired = hold.expires_at <= now
    (ended,) = reservation_end.end(
        session,
        [hold.id],
        state=ReservationState.expired if expired else ReservationState.released,
        reason=None if expired else reason,
        now=now,
    )
    if account.debt:
        credit_funds.refresh(session, account, now=now)
        cause = Cause(CAUSE, str(hold.id))
        credit_funds.settle_debt(session, account, cause=cause, now=now)
    return ended


def _plan(
    account: Account, funds: Funds, amount: Decimal, now: dt.datetime
) -> list[burndown.Slice]:
    if not account.is_counted:
        if not funds.batches:
            raise TooLittle(Decimal(0), amount)
        return [burndown.Slice(funds.batches[0].id, amount)]
    if funds.available < amount:
        raise TooLittle(funds.available, amount, funds.lapsed)
    return burndown.plan(funds.batches, amount, now=now, policy=account.policy)


def _available_besides(
    session: Session, account: Account, funds: Funds, amount: Decimal, now: dt.datetime
) -> Decimal:
    if not funds.is_all:
        funds = Funds(credit_account.usable_batches(session, account, now=now), is_all=True)
    with money.exact():
        return funds.available - amount if account.is_counted else funds.available


def _holding(
    reservation_id: UUID,
    account: Account,
    request: Request,
    slices: Sequence[burndown.Slice],
    now: dt.datetime,
) -> Part:
    return Part(
        _inserting(_SLICES.shape(slices)),
        {
            "hold_id": reservation_id,
            "hold_tenant_id": account.tenant_id,
            "hold_product_key": account.product_key,
            "hold_amount": request.amount,
            "hold_reason": request.reason,
            "hold_ends": request.expires_at,
            "hold_begins": now,
            "hold_details": json.dumps(request.details),
            **_SLICES.parameters([(part.batch_id, part.amount) for part in slices]),
        },
    )


_SLICES = Recordset("slice", {"batch_id": "uuid", "amount": "numeric"})


@cache
def _inserting(slices: int) -> str:
    return f"""
hold AS (
    INSERT INTO reservations
        (id, tenant_id, product_key, amount, reason, expires_at, created_at, metadata)
    VALUES (:hold_id, :hold_tenant_id, :hold_product_key, :hold_amount, :hold_reason, :hold_ends,
            :hold_begins, CAST(:hold_details AS jsonb))
), set_aside AS (
    INSERT INTO reservation_slices (reservation_id, nth, batch_id, amount)
    SELECT CAST(:hold_id AS uuid), nth, batch_id, amount FROM {_SLICES.source(slices)}
)
"""  # noqa: S608 (constants of this module)
