"""What is to happen to one account: decided here, written by credit_ledger in one statement."""

import datetime as dt
from dataclasses import dataclass, field
from decimal import Decimal
from uuid import UUID

from models.credit import Action, Direction
from models.rules import money
from models.rules.states import CreditBatchState

WRITE_OFF = {
    CreditBatchState.EXPIRED: Action.expire,
    CreditBatchState.REVOKED: Action.revoke,
}
"""What the ledger calls it when credit comes back to a batch that has ended, by how it ended."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Credit that came back to a batch that had ended, and was written off at once.

    `state` and `expires_at` are the batch's.
    """

    batch_id: UUID
    state: CreditBatchState
    expires_at: dt.datetime | None
    amount: Decimal


@dataclass(slots=True)
class Shift:
    """What a change adds to a batch, or takes off it with a minus."""

    remaining: Decimal = Decimal(0)
    held: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Posting:
    """An entry to be written. Without a batch it is of the debt."""

    direction: Direction
    action: Action
    amount: Decimal
    batch_id: UUID | None

    @property
    def moved(self) -> Decimal:
        """What it adds to the balance; a minus takes off."""
        match self.direction:
            case Direction.CREDIT:
                return self.amount
            case Direction.DEBIT:
                return self.amount.copy_negate()
            case Direction.USE:
                return Decimal(0)


@dataclass(slots=True)
class Change:
    """What is to happen to one account, in order; every amount is above zero."""

    postings: list[Posting] = field(default_factory=list)
    shifts: dict[UUID, Shift] = field(default_factory=dict)
    debt: Decimal = Decimal(0)

    def grant(self, batch_id: UUID, amount: Decimal, action: Action) -> None:
        """Enter a new batch, which holds the amount already."""
        self._post(Direction.CREDIT, action, amount, batch_id)

    def take(self, batch_id: UUID, amount: Decimal, action: Action) -> None:
        """Take from what is available of a batch."""
        self._post(Direction.DEBIT, action, amount, batch_id)
        self._shift(batch_id, remaining=amount.copy_negate())

    def take_held(self, batch_id: UUID, amount: Decimal, action: Action) -> None:
        """Take from what a hold has set aside of a batch."""
        self.take(batch_id, amount, action)
        self.free(batch_id, amount)

    def give(self, batch_id: UUID, amount: Decimal, action: Action) -> None:
        """Put back into a batch what was taken from it."""
        self._post(Direction.CREDIT, action, amount, batch_id)
        self._shift(batch_id, remaining=amount)

    def hold(self, batch_id: UUID, amount: Decimal) -> None:
        """Set aside of a batch. Holds are not in the ledger: nothing has moved yet."""
        self._shift(batch_id, held=amount)

    def free(self, batch_id: UUID, amount: Decimal) -> None:
        """Set aside no more."""
        self._shift(batch_id, held=amount.copy_negate())

    def owe(self, amount: Decimal) -> None:
        """Take what nobody has: it becomes debt."""
        self._post(Direction.DEBIT, Action.overdraft, amount, None)
        self._add_debt(amount)

    def forgive(self, amount: Decimal, action: Action) -> None:
        """Lessen the debt."""
        self._post(Direction.CREDIT, action, amount, None)
        self._add_debt(amount.copy_negate())

    def use(self, batch_id: UUID | None, amount: Decimal, action: Action) -> None:
        """Record a use that takes nothing away, on the batch that allows it."""
        self._post(Direction.USE, action, amount, batch_id)

    def _post(
        self, direction: Direction, action: Action, amount: Decimal, batch_id: UUID | None
    ) -> None:
        self.postings.append(Posting(direction, action, amount, batch_id))

    def _shift(
        self, batch_id: UUID, *, remaining: Decimal = Decimal(0), held: Decimal = Decimal(0)
    ) -> None:
        shift = self.shifts.setdefault(batch_id, Shift())
        with money.exact():
            shift.remaining += remaining
            shift.held += held

    def _add_debt(self, amount: Decimal) -> None:
        with money.exact():
            self.debt += amount
