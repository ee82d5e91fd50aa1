"""A hold, locked with its account: what it set aside, as it is under that lock."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from models.credit import Reservation
from models.rules.states import CreditBatchState, ReservationState
from models.store import credit_account, ending, reservation
from models.store.credit_account import ACCOUNT_COLUMNS, Account
from models.store.ending import Part


@dataclass(frozen=True, slots=True)
class HeldSlice:
    """What was set aside of a batch, and the batch as it is: `remaining` is all that is in it."""

    batch_id: UUID
    amount: Decimal
    remaining: Decimal
    state: CreditBatchState
    expires_at: dt.datetime | None


@dataclass(frozen=True, slots=True)
class Hold:
    """A reservation as it is under its account's lock.

    `slices` are in the order they are charged; None when they have to be read.
    """

    id: UUID
    state: ReservationState
    amount: Decimal
    expires_at: dt.datetime
    details: Mapping[str, Any]
    slices: Sequence[HeldSlice] | None


def lock(session: Session, reservation_id: UUID, *, now: dt.datetime) -> tuple[Hold, Account]:
    """Lock the account of a reservation; return the reservation as it is under that lock.

    Raises:
        UnknownReservation: there is none by that id.
    """
    found = [row for row in ending.found(session) if row[0] is not None]
    if found:
        account = credit_account.account_of(found, looked=False)
        if account.is_current:
            return _hold(found[0][ACCOUNT_COLUMNS:]), account
    before = reservation.get(session, reservation_id)
    locked = credit_account.lock(
        session, tenant_id=before.tenant_id, product_key=before.product_key, now=now
    )
    if locked is None:
        raise LookupError(f"reservation {reservation_id} is of a balance that is gone")
    return _unread(reservation.get(session, reservation_id)), locked


def at_first(sent: Mapping[str, Any]) -> Part:
    """Have a command that is new lock the account of its `reservation_id` as it begins.

    `lock` with the instant of the command, which must come before anything else that is done with
    the account, then need not ask, unless it had to wait for somebody else.
    """
    return Part(_AT_FIRST, {"reservation_id": sent["reservation_id"]})


def slices_of(session: Session, hold: Hold) -> Sequence[HeldSlice]:
    """Return what a hold of a locked account set aside, with the batches as they are now."""
    rows = session.execute(_HELD, {"reservation_id": hold.id})
    return [_slice(row) for row in rows]


def _hold(columns: Sequence[Any]) -> Hold:
    id_, state, amount, expires_at, details, *arrays = columns
    return Hold(
        id=id_,
        state=ReservationState(state),
        amount=amount,
        expires_at=expires_at,
        details=details,
        slices=[_slice(row) for row in zip(*arrays, strict=True)],
    )


def _unread(found: Reservation) -> Hold:
    return Hold(
        id=found.id,
        state=ReservationState(found.state),
        amount=found.amount,
        expires_at=found.expires_at,
        details=found.details,
        slices=None,
    )


def _slice(row: Sequence[Any]) -> HeldSlice:
    batch_id, amount, remaining, state, expires_at = row
    return HeldSlice(batch_id, amount, remaining, CreditBatchState(state), expires_at)


_OF_HOLD: Final = "(SELECT {column} FROM reservations WHERE id = :reservation_id)"

# The balance is found by what the reservation says before it is locked. If that is not so any more
# when the lock is had, the balance has another version or, after a merge, is not there.
_AT_FIRST = credit_account.locking(
    _OF_HOLD.format(column="tenant_id"),
    # Behind the key, as always: only if it was claimed.
    _OF_HOLD.format(column="product_key") + " AND EXISTS (SELECT FROM claimed)",
    columns="hold.*, held.*",
    beside="""
CROSS JOIN LATERAL (
    SELECT id, state, amount, expires_at, metadata
    FROM reservations WHERE id = :reservation_id
) AS hold
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(batch_id ORDER BY nth), '{}') AS batch_ids,
           coalesce(array_agg(slice.amount ORDER BY nth), '{}') AS amounts,
           coalesce(array_agg(batch.remaining_amount ORDER BY nth), '{}') AS remaining,
           coalesce(array_agg(batch.state ORDER BY nth), '{}') AS states,
           coalesce(array_agg(batch.expires_at ORDER BY nth), '{}') AS ends
    FROM reservation_slices AS slice JOIN credit_batches AS batch ON batch.id = slice.batch_id
    WHERE slice.reservation_id = :reservation_id
) AS held""",
)

_HELD = text("""
SELECT slice.batch_id, slice.amount, batch.remaining_amount, batch.state, batch.expires_at
FROM reservation_slices AS slice JOIN credit_batches AS batch ON batch.id = slice.batch_id
WHERE slice.reservation_id = :reservation_id
ORDER BY slice.nth
""")
