"""Spending prepaid credit: decided by models.rules.burndown, locked and written here."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy.orm import Session

from models.credit import Action
from models.rules import burndown, money
from models.store import credit_account, credit_funds, credit_ledger, product
from models.store.credit_account import Account
from models.store.credit_change import Change
from models.store.credit_funds import Funds
from models.store.credit_ledger import Cause
from models.store.reservation_end import Ended


@dataclass(frozen=True, slots=True)
class Debit:
    """What to take: `amount` units above 0 of a tenant's product, and why."""

    tenant_id: str
    product_key: str
    amount: Decimal
    cause: Cause
    details: dict[str, Any]
    action: Action = Action.consume


@dataclass(frozen=True, slots=True)
class Spent:
    """What each batch paid, what became debt, and the balance after it.

    `version` counts the changes of the balance. `depleted`: this took the last that was usable.
    `lapsed` are holds that were ended because their time was over.
    """

    slices: Sequence[burndown.Slice]
    overdraft: Decimal
    balance: Decimal
    debt: Decimal
    version: int
    depleted: bool
    lapsed: Sequence[Ended]


class TooLittle(burndown.InsufficientCredit):
    """The usable batches hold too little; nothing is taken.

    `lapsed` are holds that were ended because their time was over, and which did not help.
    """

    def __init__(
        self, available: Decimal, requested: Decimal, lapsed: Sequence[Ended] = ()
    ) -> None:
        super().__init__(available, requested)
        self.lapsed = lapsed


def consume(session: Session, debit: Debit, *, now: dt.datetime, ends: bool = False) -> Spent:
    """Spend from usable batches in the product's order, all of the amount or nothing.

    A product of type period or unlimited only needs a usable batch: its use is entered in the
    ledger and takes nothing away.

    Args:
        ends: the command does nothing else with the tenant's credit, so that this may be written
            together with its answer.

    Raises:
        UnknownProduct: there is no product by that key.
        TooLittle: the usable batches hold too little, or there are none.
    """
    account = credit_account.lock(
        session, tenant_id=debit.tenant_id, product_key=debit.product_key, now=now
    )
    if account is None:
        product.get(session, debit.product_key)
        raise TooLittle(Decimal(0), debit.amount)
    if not account.is_counted:
        allowing = credit_account.first_batches(session, account, now=now)
        if not allowing:
            raise TooLittle(Decimal(0), debit.amount)
        return _use(session, account, debit, allowing, now=now, ends=ends)
    funds = credit_funds.find(session, account, debit.amount, cause=debit.cause, now=now)
    if funds.available < debit.amount:
        raise TooLittle(funds.available, debit.amount, funds.lapsed)
    slices = burndown.plan(funds.batches, debit.amount, now=now, policy=account.policy)
    return _spend(session, account, debit, _Plan(slices, funds), now=now, ends=ends)


def deduct(session: Session, debit: Debit, *, now: dt.datetime, ends: bool = False) -> Spent:
    """Spend what is available, and let the rest become debt. The tenant must exist.

    The use of a product that is not counted is entered whether or not a batch allows it.

    Args:
        ends: as for `consume`.

    Raises:
        UnknownProduct: there is no product by that key.
    """
    product.get(session, debit.product_key)
    account = credit_account.lock_or_make(
        session, tenant_id=debit.tenant_id, product_key=debit.product_key, now=now
    )
    if not account.is_counted:
        allowing = credit_account.first_batches(session, account, now=now)
        return _use(session, account, debit, allowing, now=now, ends=ends)
    funds = credit_funds.find(session, account, debit.amount, cause=debit.cause, now=now)
    slices = burndown.plan_up_to(funds.batches, debit.amount, now=now, policy=account.policy)
    return _spend(session, account, debit, _Plan(slices, funds), now=now, ends=ends)


@dataclass(frozen=True, slots=True)
class _Plan:
    slices: Sequence[burndown.Slice]
    funds: Funds


def _spend(
    session: Session, account: Account, debit: Debit, plan: _Plan, *, now: dt.datetime, ends: bool
) -> Spent:
    slices, funds = plan.slices, plan.funds
    taken = burndown.total(slices)
    change = Change()
    for part in slices:
        change.take(part.batch_id, part.amount, debit.action)
    with money.exact():
        overdraft = debit.amount - taken
    if overdraft:
        change.owe(overdraft)
    # Credit in a hold counts as left: it may come back.
    depleted = bool(slices) and funds.is_all and funds.remaining == taken
    credit_ledger.write(
        session,
        account,
        change,
        cause=debit.cause,
        details=debit.details,
        now=now,
        depletes=depleted,
        ends=ends,
    )
    return _spent(account, slices, overdraft, depleted=depleted, lapsed=funds.lapsed)


def _use(
    session: Session,
    account: Account,
    debit: Debit,
    allowing: Sequence[burndown.Batch],
    *,
    now: dt.datetime,
    ends: bool,
) -> Spent:
    """Record a use that takes nothing away, on the batch that allows it if there is one."""
    slices = [burndown.Slice(batch.id, debit.amount) for batch in allowing[:1]]
    change = Change()
    change.use(slices[0].batch_id if slices else None, debit.amount, debit.action)
    credit_ledger.write(
        session, account, change, cause=debit.cause, details=debit.details, now=now, ends=ends
    )
    return _spent(account, slices, Decimal(0), depleted=False, lapsed=[])


def _spent(
    account: Account,
    slices: Sequence[burndown.Slice],
    overdraft: Decimal,
    *,
    depleted: bool,
    lapsed: Sequence[Ended],
) -> Spent:
    return Spent(
        slices=slices,
        overdraft=overdraft,
        balance=account.balance,
        debt=account.debt,
        version=account.version,
        depleted=depleted,
        lapsed=lapsed,
    )
