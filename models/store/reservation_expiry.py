"""The end of holds whose time is over, chunk by chunk."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session

from models import database
from models.rules.states import ReservationState
from models.store import credit_account, credit_claim, credit_funds, reservation_end
from models.store.credit_claim import Place
from models.store.credit_ledger import Cause
from models.store.reservation_end import CAUSE, Ended


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one chunk did, and where to go on: `behind` is None when the walk is at its end.

    `passed_over` holds were due but their account was in use; the next walk finds them.
    """

    ended: Sequence[Ended]
    passed_over: int
    behind: Place | None


def expire_chunk(session: Session, *, behind: Place, at_most: int, now: dt.datetime) -> Chunk:
    """Give back the next holds that are over at `now`, the longest over first.

    Args:
        behind: where the chunk before ended, or BEGINNING.
        at_most: holds to look at, and so the most accounts that are locked.
    """
    ended: list[Ended] = []
    with database.planned_anew(session):
        claimed = credit_claim.claim(
            session, credit_claim.Due.holds, behind=behind, at_most=at_most, now=now
        )
        if claimed.ids:
            state = ReservationState.expired
            ended = reservation_end.end(session, claimed.ids, state=state, now=now)
            _settle_debts(session, ended, now)
    return Chunk(ended, claimed.passed_over, claimed.behind)


def _settle_debts(session: Session, ended: Sequence[Ended], now: dt.datetime) -> None:
    """What came back to a tenant in debt pays it, as with any other way that credit comes in."""
    indebted = session.execute(
        _INDEBTED,
        {
            "tenant_ids": [hold.tenant_id for hold in ended],
            "product_keys": [hold.product_key for hold in ended],
        },
    )
    causes = {(hold.tenant_id, hold.product_key): str(hold.reservation_id) for hold in ended}
    for row in indebted.all():
        cause = Cause(CAUSE, causes[row.tenant_id, row.product_key])
        account = credit_account.lock(
            session, tenant_id=row.tenant_id, product_key=row.product_key, now=now
        )
        if account is not None:
            credit_funds.settle_debt(session, account, cause=cause, now=now)


_INDEBTED = text("""
SELECT tenant_id, product_key
FROM credit_balances
WHERE debt > 0 AND (tenant_id, product_key) IN (
    SELECT * FROM unnest(CAST(:tenant_ids AS text[]), CAST(:product_keys AS text[])))
""")
