"""What can pay: the usable batches of a locked account, brought up to the instant."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from sqlalchemy.orm import Session

from models.credit import Action
from models.rules import burndown, money
from models.rules.burndown import Batch
from models.store import credit_account, credit_ledger, reservation_end
from models.store.credit_account import FIRST_LOOK, Account
from models.store.credit_change import Change
from models.store.credit_ledger import Cause
from models.store.reservation_end import Ended


@dataclass(slots=True)
class Funds:
    """Usable batches in paying order. `is_all`: there are no others.

    `lapsed` are holds that were ended because their time was over.
    """

    batches: Sequence[Batch]
    is_all: bool
    lapsed: list[Ended] = field(default_factory=list)

    @property
    def available(self) -> Decimal:
        """What these can pay."""
        with money.exact():
            return sum((batch.available for batch in self.batches), Decimal(0))

    @property
    def remaining(self) -> Decimal:
        """What these can pay, and what holds have set aside of them: it may come back."""
        with money.exact():
            return sum((batch.remaining for batch in self.batches), Decimal(0))


def find(
    session: Session, account: Account, amount: Decimal, *, cause: Cause, now: dt.datetime
) -> Funds:
    """Return usable batches that can pay `amount`, and all of them if they hold no more than that.

    Holds whose time is over are ended first: that nobody has swept them yet must not change an
    answer. Then debt is paid.
    """
    lapsed: list[Ended] = []
    if account.has_overdue:
        lapsed = reservation_end.end_overdue(session, account, now=now)
        refresh(session, account, now=now)
    settle_debt(session, account, cause=cause, now=now)
    funds = _look(session, account, amount, now)
    funds.lapsed = lapsed
    return funds


def settle_debt(session: Session, account: Account, *, cause: Cause, now: dt.datetime) -> Decimal:
    """Pay what is owed from what is usable, in paying order; return how much was paid.

    Each payment is a pair of entries: one takes from the batch, one lessens the debt.
    """
    if not account.debt:
        return Decimal(0)
    funds = _look(session, account, account.debt, now)
    slices = burndown.plan_up_to(funds.batches, account.debt, now=now, policy=account.policy)
    if not slices:
        return Decimal(0)
    change = Change()
    for part in slices:
        change.take(part.batch_id, part.amount, Action.repay)
        change.forgive(part.amount, Action.repay)
    credit_ledger.write(session, account, change, cause=cause, details={}, now=now)
    return burndown.total(slices)


def refresh(session: Session, account: Account, *, now: dt.datetime) -> None:
    """Bring a locked account up to what this transaction's own statements have made of it."""
    found = credit_account.lock(
        session, tenant_id=account.tenant_id, product_key=account.product_key, now=now
    )
    if found is None:
        raise LookupError(f"the locked balance of {account.tenant_id!r} is gone")
    account.balance, account.held, account.debt = found.balance, found.held, found.debt
    account.version, account.first = found.version, found.first
    account.has_overdue = found.has_overdue


def _look(session: Session, account: Account, amount: Decimal, now: dt.datetime) -> Funds:
    """If the first few hold more than enough, those behind them change no answer."""
    first = Funds(credit_account.first_batches(session, account, now=now), is_all=False)
    if len(first.batches) < FIRST_LOOK:
        first.is_all = True
    elif first.available <= amount:
        return Funds(credit_account.usable_batches(session, account, now=now), is_all=True)
    return first
