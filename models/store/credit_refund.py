"""Giving back what a use took, to where it took it from."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import Row, insert, text
from sqlalchemy.orm import Session

from models.credit import Action, CreditBatch, Direction
from models.rules import ids, money, refund
from models.rules.refund import Part
from models.rules.refusal import Refusal
from models.rules.states import CreditBatchState
from models.store import credit_account, credit_funds, credit_ledger
from models.store.credit_account import Account
from models.store.credit_change import WRITE_OFF, Change, Loss
from models.store.credit_ledger import Cause

SOURCE = "refund"
"""Where a batch comes from that was made to give back what has paid a debt."""


class UnknownUse(Refusal):
    """No use of this name is in the ledger."""

    code: ClassVar[str] = "credit.unknown_use"


@dataclass(frozen=True, slots=True)
class Refunded:
    """What was given back, in `parts`; one without a batch lessened the debt.

    `losses` of it came to batches that had ended, `repaid` of it paid other debt at once.
    `refundable` is what can still be given back of the use.
    """

    tenant_id: str
    product_key: str
    amount: Decimal
    parts: Sequence[Part]
    losses: Sequence[Loss]
    repaid: Decimal
    refundable: Decimal
    balance: Decimal
    debt: Decimal
    version: int

    @property
    def written_off(self) -> Decimal:
        """What of it came to batches that had ended."""
        with money.exact():
            return sum((loss.amount for loss in self.losses), Decimal(0))


def give_back(
    session: Session,
    *,
    tenant_id: str,
    use: Cause,
    amount: Decimal | None,
    details: dict[str, Any],
    now: dt.datetime,
) -> Refunded:
    """Give back what a use took, the last taken first; the entries have the use as their cause.

    What became debt lessens the debt; as far as that was paid since, it comes back as a new batch
    that does not end. What comes back to a batch that has ended is written off at once. The rest
    pays what is owed before it can be spent.

    Args:
        use: the cause of the entries that took it.
        amount: how much, above 0; None is all that was not given back yet.

    Raises:
        UnknownUse: it is not in the ledger.
        ExceedsUse: it is more than is left of the use, or nothing is left of it.
    """
    account = _lock(session, tenant_id, use, now)
    # Of a tenant that became part of another: what goes back is entered there, and found there.
    tenant_id = account.tenant_id
    taken, given_back = _read(session, tenant_id, use)
    rest = refund.refundable(taken, given_back)
    wanted = rest if amount is None else amount
    if not rest:
        raise refund.ExceedsUse(rest, wanted)
    returning = _Returning(account, _ended(session, taken, now))
    for part in refund.plan(taken, given_back, wanted):
        returning.add(session, part, now)
    credit_ledger.write(session, account, returning.change, cause=use, details=details, now=now)
    repaid = credit_funds.settle_debt(session, account, cause=use, now=now)
    with money.exact():
        refundable = rest - wanted
    return Refunded(
        tenant_id=tenant_id,
        product_key=account.product_key,
        amount=wanted,
        parts=returning.parts,
        losses=returning.losses,
        repaid=repaid,
        refundable=refundable,
        balance=account.balance,
        debt=account.debt,
        version=account.version,
    )


class _Returning:
    """What goes back where, part by part."""

    def __init__(self, account: Account, ended: dict[UUID, Loss]) -> None:
        self.change = Change()
        self.parts: list[Part] = []
        self.losses: list[Loss] = []
        self._account = account
        self._ended = ended
        self._owed = account.debt

    def add(self, session: Session, part: Part, now: dt.datetime) -> None:
        """Give back one part of what the use took."""
        if part.batch_id is None:
            self._lessen_debt(session, part.amount, now)
            return
        self.parts.append(part)
        self.change.give(part.batch_id, part.amount, Action.refund)
        if part.batch_id in self._ended:
            loss = replace(self._ended[part.batch_id], amount=part.amount)
            self.losses.append(loss)
            self.change.take(part.batch_id, part.amount, WRITE_OFF[loss.state])

    def _lessen_debt(self, session: Session, amount: Decimal, now: dt.datetime) -> None:
        forgiven = min(self._owed, amount)
        with money.exact():
            self._owed -= forgiven
            paid_since = amount - forgiven
        if forgiven:
            self.parts.append(Part(None, forgiven))
            self.change.forgive(forgiven, Action.refund)
        if paid_since:
            batch_id = _make_batch(session, self._account, paid_since, now)
            self.parts.append(Part(batch_id, paid_since))
            self.change.grant(batch_id, paid_since, Action.refund)


def _lock(session: Session, tenant_id: str, use: Cause, now: dt.datetime) -> Account:
    rows = _entries(session, tenant_id, use)
    if not rows:
        raise UnknownUse(
            f"nothing was taken from tenant {tenant_id!r} by {use.type} {use.id!r}; name a use as "
            "it was sent"
        )
    account = credit_account.lock(
        session, tenant_id=tenant_id, product_key=rows[0].product_key, now=now
    )
    if account is None:
        raise LookupError(f"the balance that {use} was taken from is gone")
    return account


def _read(session: Session, tenant_id: str, use: Cause) -> tuple[list[Part], Decimal]:
    """What the use took, in the order it took it, and how much of it went back before."""
    rows = _entries(session, tenant_id, use)
    taken = [Part(row.batch_id, row.amount) for row in rows if row.direction == Direction.DEBIT]
    back = [row.amount for row in rows if row.direction == Direction.CREDIT]
    with money.exact():
        return taken, sum(back, Decimal(0))


def _entries(session: Session, tenant_id: str, use: Cause) -> Sequence[Row[Any]]:
    """The tenant's own; if it took nothing, those of one that became part of it, and what went back
    since."""
    rows = session.execute(_ENTRIES, {"tenant_id": tenant_id, "type": use.type, "id": use.id}).all()
    if all(row.tenant_id == tenant_id for row in rows):
        return rows
    takers = {row.tenant_id for row in rows if row.direction == Direction.DEBIT}
    taker = tenant_id if tenant_id in takers else min(takers)
    return [row for row in rows if row.tenant_id in {taker, tenant_id}]


def _ended(session: Session, taken: Sequence[Part], now: dt.datetime) -> dict[UUID, Loss]:
    """Those of the batches that have ended, by state or by time, with nothing lost of them yet."""
    batch_ids = [part.batch_id for part in taken if part.batch_id is not None]
    rows = session.execute(_ENDED, {"batch_ids": batch_ids, "now": now})
    return {
        row.id: Loss(
            batch_id=row.id,
            # Its time is over: that the sweep has not been there, or need not, changes nothing.
            state=CreditBatchState.REVOKED
            if row.state == CreditBatchState.REVOKED
            else CreditBatchState.EXPIRED,
            expires_at=row.expires_at,
            amount=Decimal(0),
        )
        for row in rows
    }


def _make_batch(session: Session, account: Account, amount: Decimal, now: dt.datetime) -> UUID:
    batch_id = ids.uuid7(now)
    session.execute(
        insert(CreditBatch).values(
            id=batch_id,
            tenant_id=account.tenant_id,
            product_key=account.product_key,
            initial_amount=amount,
            remaining_amount=amount,
            valid_from=now,
            source=SOURCE,
            created_at=now,
        )
    )
    return batch_id


_ENTRIES = text("""
SELECT tenant_id, product_key, direction, amount, batch_id
FROM ledger_entries
WHERE cause_id = :id AND cause_type = :type AND tenant_id IN (
    SELECT :tenant_id UNION ALL SELECT tenant_id FROM tenants WHERE merged_into = :tenant_id
)
  AND action IN ('consume', 'commit', 'overdraft', 'refund')
ORDER BY id
""")

_ENDED = text("""
SELECT id, state, expires_at
FROM credit_batches
WHERE id = ANY(CAST(:batch_ids AS uuid[]))
  AND (state IN ('EXPIRED', 'REVOKED') OR expires_at <= :now)
""")
