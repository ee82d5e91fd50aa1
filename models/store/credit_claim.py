"""Walking through what is over, chunk by chunk, without waiting for anybody."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session


class Due(StrEnum):
    """What has an end, by its table."""

    batches = "credit_batches"
    holds = "reservations"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a walk through what is due stands: behind this one."""

    expires_at: dt.datetime
    id: UUID


BEGINNING = Place(dt.datetime.min.replace(tzinfo=dt.UTC), UUID(int=0))
"""Before everything."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a chunk may end, and where to go on: `behind` is None when the walk is at its end.

    The accounts of `ids` are locked. `passed_over` were due but their account was in use.
    """

    ids: Sequence[UUID]
    passed_over: int
    behind: Place | None


def claim(session: Session, due: Due, *, behind: Place, at_most: int, now: dt.datetime) -> Claimed:
    """Lock the accounts of the next that are over at `now`, the longest over first.

    What is to be done with them belongs in a later statement: it sees what was committed before the
    locks were had. Both are to be planned for the chunk they are given (`database.planned_anew`).

    Args:
        behind: where the chunk before ended, or BEGINNING.
        at_most: rows to look at, and so the most accounts that are locked.
    """
    # Balances first, as everybody; one that is in use is passed over, so this walk waits for
    # nobody and can not be part of a deadlock.
    rows = session.execute(
        _CLAIM[due],
        {"now": now, "at": behind.expires_at, "id": behind.id, "at_most": at_most},
    ).all()
    ids = [row.id for row in rows if row.claimed]
    last = Place(rows[-1].expires_at, rows[-1].id) if len(rows) == at_most else None
    return Claimed(ids, len(rows) - len(ids), last)


_OPEN = {Due.batches: "ACTIVE", Due.holds: "held"}

_CLAIM = {
    due: text(f"""
    WITH due AS MATERIALIZED (
        SELECT id, tenant_id, product_key, expires_at
        FROM {due.value}
        WHERE state = '{_OPEN[due]}' AND expires_at <= :now AND (expires_at, id) > (:at, :id)
        ORDER BY expires_at, id
        LIMIT :at_most
    ), claimed AS MATERIALIZED (
        SELECT balance.tenant_id, balance.product_key
        FROM credit_balances AS balance
        WHERE (balance.tenant_id, balance.product_key) IN
            (SELECT tenant_id, product_key FROM due)
        ORDER BY balance.tenant_id, balance.product_key
        FOR UPDATE SKIP LOCKED
    )
    SELECT due.id, due.expires_at, claimed.tenant_id IS NOT NULL AS claimed
    FROM due LEFT JOIN claimed USING (tenant_id, product_key)
    ORDER BY due.expires_at, due.id
    """)  # noqa: S608 (constants of this module)
    for due in Due
}
