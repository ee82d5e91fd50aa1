"""Ledger entries, and what moves in balance and batches with them: one statement writes it all."""

import datetime as dt
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from models import database
from models.rules import money
from models.store import ending
from models.store.credit_account import Account
from models.store.credit_change import Change, Posting, Shift
from models.store.ending import Part
from models.store.recordset import Recordset

_FOLLOWED = "ledger_entries"


@dataclass(frozen=True, slots=True)
class Cause:
    """What made a ledger entry: a kind, such as a command's name, and which one of that kind."""

    type: str
    id: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A ledger entry as it was written, but for its metadata."""

    id: int
    tenant_id: str
    product_key: str
    direction: str
    action: str
    amount: Decimal
    batch_id: UUID | None
    balance_after: Decimal
    cause: Cause
    created_at: dt.datetime


def write(
    session: Session,
    account: Account,
    change: Change,
    *,
    cause: Cause,
    details: dict[str, Any],
    now: dt.datetime,
    depletes: bool = False,
    ends: bool = False,
) -> None:
    """Carry out a change of a locked account, which then says what it has come to.

    A batch of which nothing remains is EXHAUSTED, one that got something back ACTIVE again; one
    that is closed stays so.

    Args:
        details: a producer's own data, kept with every entry.
        depletes: nothing usable is left from now on, and subscribers are told.
        ends: nothing else of the transaction reads or changes the account, so that this may be
            written when the command ends.
    """
    with money.exact():
        held = sum((shift.held for shift in change.shifts.values()), Decimal(0))
        after = _running(account.balance, change.postings)
        balance = after[-1] if after else account.balance
        account.held += held
        account.debt += change.debt
    part = Part(
        _writing(_SHIFTS.shape(change.shifts), _POSTINGS.shape(change.postings)),
        {
            "account_tenant_id": account.tenant_id,
            "product_key": account.product_key,
            "balance": balance,
            "account_held": account.held,
            "debt": account.debt,
            "depletes": depletes,
            "cause_type": cause.type,
            "cause_id": cause.id,
            "details": json.dumps(details),
            "now": now,
            **_SHIFTS.parameters([_shift(*one) for one in change.shifts.items()]),
            **_POSTINGS.parameters(
                [_posting(*one) for one in zip(change.postings, after, strict=True)]
            ),
        },
    )
    account.balance, account.version, account.first = balance, account.version + 1, None
    if depletes:
        account.depleted_at = now
    if ends and ending.gathers(session) and not (change.postings and is_followed()):
        ending.leave(session, part)
        return
    written = ending.write(session, [part], _NUMBERS)
    if is_followed():
        lines = zip((row[0] for row in written), change.postings, after, strict=True)
        follow(session, [_entry(account, cause, now, one) for one in lines])


Follower = Callable[[Sequence[Entry]], None]
Teller = Callable[[Session, Sequence[Entry]], None]

_follower: Follower | None = None
_teller: Teller | None = None


def hand_to(follower: Follower | None) -> None:
    """Let `follower` be told the entries of each transaction that has committed; None: nobody."""
    global _follower  # noqa: PLW0603 (the process has one)
    _follower = follower


def tell_within(teller: Teller | None) -> None:
    """Let `teller` be told entries in the transaction that writes them; None: nobody."""
    global _teller  # noqa: PLW0603 (the process has one)
    _teller = teller


def is_followed() -> bool:
    """Whether anybody is told what is entered."""
    return _follower is not None or _teller is not None


def follow(session: Session, entries: Sequence[Entry]) -> None:
    """Have entries told that were written in this transaction: in it, and once it has committed."""
    if _teller is not None:
        _teller(session, entries)
    if _follower is not None:
        # A new list: a savepoint that is undone goes back to the one there was.
        session.info[_FOLLOWED] = [*session.info.get(_FOLLOWED, ()), *entries]
        database.after_commit(session, "tell ledger entries", lambda: _tell(session))


def _tell(session: Session) -> None:
    if _follower is not None:
        _follower(session.info[_FOLLOWED])


def _running(balance: Decimal, postings: Sequence[Posting]) -> list[Decimal]:
    after: list[Decimal] = []
    for posting in postings:
        balance += posting.moved
        after.append(balance)
    return after


def _shift(batch_id: UUID, shift: Shift) -> tuple[Any, ...]:
    return batch_id, shift.remaining, shift.held


def _posting(posting: Posting, balance_after: Decimal) -> tuple[Any, ...]:
    return (
        posting.direction.value,
        posting.action.value,
        posting.amount,
        posting.batch_id,
        balance_after,
    )


def _entry(
    account: Account, cause: Cause, now: dt.datetime, written: tuple[int, Posting, Decimal]
) -> Entry:
    number, posting, balance_after = written
    return Entry(
        id=number,
        tenant_id=account.tenant_id,
        product_key=account.product_key,
        direction=posting.direction.value,
        action=posting.action.value,
        amount=posting.amount,
        batch_id=posting.batch_id,
        balance_after=balance_after,
        cause=cause,
        created_at=now,
    )


_SHIFTS = Recordset("shift", {"batch_id": "uuid", "remaining": "numeric", "held": "numeric"})

_POSTINGS = Recordset(
    "posting",
    {
        "direction": "text",
        "action": "text",
        "amount": "numeric",
        "batch_id": "uuid",
        "balance_after": "numeric",
    },
)


_NUMBERS = Part("SELECT id FROM entry ORDER BY id", {})


@cache
def _writing(shifts: int, postings: int) -> str:
    """Return the expressions that write rows of these shapes.

    One round trip however many batches and entries. All was decided under the balance's lock, which
    is still held, so the balance is set and not added to.
    """
    return f"""
batch AS (
    UPDATE credit_batches AS batch
    SET remaining_amount = batch.remaining_amount + shift.remaining,
        held_amount = batch.held_amount + shift.held,
        state = CASE WHEN batch.state IN ('EXPIRED', 'REVOKED') THEN batch.state
                     WHEN batch.remaining_amount + shift.remaining = 0 THEN 'EXHAUSTED'
                     ELSE 'ACTIVE' END,
        closed_at = CASE WHEN batch.state IN ('EXPIRED', 'REVOKED') THEN batch.closed_at
                         WHEN batch.remaining_amount + shift.remaining = 0
                         THEN coalesce(batch.closed_at, CAST(:now AS timestamptz)) END
    FROM {_SHIFTS.source(shifts)}
    WHERE batch.id = shift.batch_id
), balance AS (
    UPDATE credit_balances
    SET balance = :balance, held = :account_held, debt = :debt, version = version + 1,
        depleted_at = CASE WHEN :depletes THEN CAST(:now AS timestamptz) ELSE depleted_at END,
        updated_at = :now
    WHERE tenant_id = :account_tenant_id AND product_key = :product_key
), entry AS (
    INSERT INTO ledger_entries
        (tenant_id, product_key, direction, amount, action, batch_id, balance_after,
         cause_type, cause_id, metadata, created_at)
    SELECT :account_tenant_id, :product_key, direction, amount, action, batch_id, balance_after,
           :cause_type, :cause_id, CAST(:details AS jsonb), CAST(:now AS timestamptz)
    FROM {_POSTINGS.source(postings)}
    ORDER BY nth
    RETURNING id
)
"""  # noqa: S608 (constants of this module)
