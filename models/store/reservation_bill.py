"""Drawing up what a commit is to change: who pays what, and what goes back where."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from sqlalchemy.orm import Session

from models.credit import Action
from models.rules import burndown, money
from models.rules.burndown import Slice
from models.rules.states import CreditBatchState
from models.store import credit_account, credit_funds, reservation_locking
from models.store.credit_account import Account
from models.store.credit_change import WRITE_OFF, Change, Loss
from models.store.credit_funds import Funds
from models.store.credit_ledger import Cause
from models.store.reservation_end import Ended
from models.store.reservation_locking import HeldSlice, Hold


class Above(StrEnum):
    """What happens when more was used than set aside."""

    refuse = "refuse"
    take_available = "take_available"
    overdraft = "overdraft"


@dataclass(frozen=True, slots=True)
class _Batch:
    """A batch that is charged or gets something back."""

    remaining: Decimal
    state: CreditBatchState
    expires_at: dt.datetime | None


class Bill:
    """What a commit is to change, and how it came to that."""

    def __init__(self, account: Account, above: Above) -> None:
        self.change = Change()
        self.slices: list[Slice] = []
        self.returned: list[Slice] = []
        self.losses: list[Loss] = []
        self.lapsed: Sequence[Ended] = ()
        self.overdraft = self.uncovered = Decimal(0)
        self._account = account
        self._above = above
        self._batches: dict[UUID, _Batch] = {}

    def charge(
        self, session: Session, hold: Hold, actual: Decimal, cause: Cause, now: dt.datetime
    ) -> None:
        """Draw up who pays what, and what goes back where."""
        with money.exact():
            beyond = actual - hold.amount
        funds, slices = None, hold.slices
        if self._account.is_counted and beyond > 0:
            # Before the hold's batches are read: it may end other holds on them.
            funds = credit_funds.find(session, self._account, beyond, cause=cause, now=now)
            slices = None
        if slices is None:
            slices = reservation_locking.slices_of(session, hold)
        if not self._account.is_counted:
            self._use(slices, actual)
            return
        self._charge_hold(slices, actual)
        if funds is not None:
            self._charge_beyond(funds, beyond, now)

    def depletes(self, session: Session, now: dt.datetime) -> bool:
        """Tell whether this takes the last usable credit, and nobody has been told of that.

        A closed batch was told of when it was closed; one whose time was over when subscribers were
        last told was not usable then.
        """
        told = self._account.depleted_at
        drained = [
            batch_id
            for batch_id, shift in self.change.shifts.items()
            if self._batches[batch_id].remaining == shift.remaining.copy_negate()
        ]
        ended = [self._batches[batch_id] for batch_id in drained]
        if not any(
            batch.state is CreditBatchState.ACTIVE
            and (told is None or batch.expires_at is None or told < batch.expires_at)
            for batch in ended
        ):
            return False
        return not credit_account.has_others(session, self._account, drained, now=now)

    def _use(self, held: Sequence[HeldSlice], actual: Decimal) -> None:
        if actual:
            (allowing,) = held
            self.slices = [Slice(allowing.batch_id, actual)]
            self.change.use(allowing.batch_id, actual, Action.commit)

    def _charge_hold(self, held: Sequence[HeldSlice], actual: Decimal) -> None:
        for part in held:
            self._batches[part.batch_id] = _Batch(part.remaining, part.state, part.expires_at)
        slices = [Slice(part.batch_id, part.amount) for part in held]
        self.slices, self.returned = burndown.split(slices, actual)
        for paid in self.slices:
            self.change.take_held(paid.batch_id, paid.amount, Action.commit)
        for back in self.returned:
            self.change.free(back.batch_id, back.amount)
            batch = self._batches[back.batch_id]
            if batch.state in WRITE_OFF:
                self.change.take(back.batch_id, back.amount, WRITE_OFF[batch.state])
                self.losses.append(Loss(back.batch_id, batch.state, batch.expires_at, back.amount))

    def _charge_beyond(self, funds: Funds, amount: Decimal, now: dt.datetime) -> None:
        self.lapsed = funds.lapsed
        policy = self._account.policy
        slices = burndown.plan_up_to(funds.batches, amount, now=now, policy=policy)
        usable = {batch.id: batch for batch in funds.batches}
        for part in slices:
            batch = usable[part.batch_id]
            self._batches[part.batch_id] = _Batch(
                batch.remaining, CreditBatchState.ACTIVE, batch.expires_at
            )
            self.change.take(part.batch_id, part.amount, Action.commit)
        self.slices += slices
        with money.exact():
            rest = amount - burndown.total(slices)
        if rest and self._above is Above.overdraft:
            self.overdraft = rest
            self.change.owe(rest)
        else:
            self.uncovered = rest
