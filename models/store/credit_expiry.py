"""The end of credit: batches whose time is over are written off, chunk by chunk."""

import datetime as dt
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, TextClause, text
from sqlalchemy.orm import Session

from models import database
from models.credit import Action, Direction
from models.store import credit_claim, credit_ledger, outbox_rows
from models.store.credit_account import USABLE
from models.store.credit_claim import Place
from models.store.credit_ledger import Cause, Entry
from models.store.outbox_rows import Telling, Topic

MOST_BESIDE: Final = 20
"""Batches that go in the same transaction as one that the walk came by, of the same balance."""


@dataclass(frozen=True, slots=True)
class Expired:
    """A batch that ended with `amount` unspent. `balance` and `version` are those right after.

    The amount is 0 if holds had set all of it aside.
    """

    tenant_id: str
    product_key: str
    batch_id: UUID
    amount: Decimal
    balance: Decimal
    version: int
    expires_at: dt.datetime


@dataclass(frozen=True, slots=True)
class Tellings:
    """What a chunk tells subscribers.

    Args:
        expired: of each batch that had something left. Columns: tenant_id, product_key, batch_id,
            amount, balance, expires_at.
        depleted: of each balance that has had nothing usable since. Columns: tenant_id,
            product_key, reason.
    """

    expired: Telling
    depleted: Telling


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one chunk did, and where to go on: `behind` is None when the walk is at its end.

    `passed_over` batches were due but their balance was in use when the walk came by; it may have
    found them later, together with another of that balance, or the next one does. `told` are the
    numbers of events by topic.
    """

    expired: int
    told: Mapping[str, int]
    passed_over: int
    behind: Place | None


def most_told(at_most: int) -> int:
    """Return how many events of each topic a chunk of so many may tell at most."""
    return at_most * (1 + MOST_BESIDE)


def expire_chunk(
    session: Session, *, behind: Place, at_most: int, tellings: Tellings, now: dt.datetime
) -> Chunk:
    """Write off the next batches that are over at `now`, the longest over first, and tell of them.

    With each go others of the same balance that are over, so that it need not be locked and written
    anew for them. What a hold has set aside of a batch outlives it until the hold ends.

    Args:
        behind: where the chunk before ended, or BEGINNING.
        at_most: batches to look at, and so the most balances that are locked.
    """
    with database.planned_anew(session):
        claimed = credit_claim.claim(
            session, credit_claim.Due.batches, behind=behind, at_most=at_most, now=now
        )
        closed = _close_all(session, claimed.ids, tellings, now) if claimed.ids else _Closed(0, {})
    return Chunk(closed.expired, closed.told, claimed.passed_over, claimed.behind)


def write_off(session: Session, batch_ids: Sequence[UUID], *, now: dt.datetime) -> list[Expired]:
    """Write off those of some batches that are active, whose time must be over at `now`.

    Their balances must be locked. Subscribers are not told of it, nor of what was depleted.
    """
    if not batch_ids:
        return []
    rows = session.execute(_CLOSE, {"ids": batch_ids, "now": now}).all()
    _follow(session, rows, now)
    return [Expired(*row[:7]) for row in rows]


@dataclass(frozen=True, slots=True)
class _Closed:
    expired: int
    told: Mapping[str, int]


def _close_all(
    session: Session, ids: Sequence[UUID], tellings: Tellings, now: dt.datetime
) -> _Closed:
    """A later statement than the claim: it sees what was committed before the locks were had."""
    followed = credit_ledger.is_followed()
    topics = tellings.expired.topic, tellings.depleted.topic
    given = {
        "ids": ids,
        "beside": MOST_BESIDE,
        "now": now,
        **outbox_rows.parameters(tellings.expired, name="expired"),
        **outbox_rows.parameters(tellings.depleted, name="depleted"),
    }
    rows = session.execute(_closing(*topics, ROWS if followed else COUNT), given).all()
    _follow(session, rows, now)
    expired, written = (len(rows), _written(rows)) if followed else rows[0][:2]
    depleted = rows[0].depleted if rows else 0
    return _Closed(expired, {topics[0].type: written, topics[1].type: depleted})


def _written(rows: Sequence[Row[Any]]) -> int:
    return sum(row.entry_id is not None for row in rows)


def _follow(session: Session, rows: Sequence[Row[Any]], now: dt.datetime) -> None:
    if credit_ledger.is_followed():
        credit_ledger.follow(session, [_entry(row, now) for row in rows if row.entry_id])


def _entry(row: Row[Any], now: dt.datetime) -> Entry:
    return Entry(
        id=row.entry_id,
        tenant_id=row.tenant_id,
        product_key=row.product_key,
        direction=Direction.DEBIT.value,
        action=Action.expire.value,
        amount=row.gone,
        batch_id=row.id,
        balance_after=row.balance_after,
        cause=Cause("billing.expire_batches", str(row.id)),
        created_at=now,
    )


_COLUMNS = "id, tenant_id, product_key, expires_at, remaining_amount - held_amount AS gone"

_NAMED = f"""
    SELECT {_COLUMNS} FROM credit_batches
    WHERE id = ANY(CAST(:ids AS uuid[])) AND state = 'ACTIVE'
"""  # noqa: S608 (constants of this module)

# Once a balance is locked, others of it that are over cost little more. In the order of the index
# that spending by expiry has, so that no more of a balance's batches are read than are taken.
_AND_BESIDE = f"""
    {_NAMED}
    UNION
    SELECT beside.*
    FROM (SELECT DISTINCT tenant_id, product_key FROM credit_batches
          WHERE id = ANY(CAST(:ids AS uuid[]))) AS balance
    CROSS JOIN LATERAL (
        SELECT {_COLUMNS} FROM credit_batches AS batch
        WHERE batch.tenant_id = balance.tenant_id AND batch.product_key = balance.product_key
          AND batch.state = 'ACTIVE' AND batch.expires_at <= :now
        ORDER BY batch.priority, batch.expires_at, batch.created_at, batch.id
        LIMIT :beside) AS beside
"""  # noqa: S608 (constants of this module)

# If subscribers were told at an instant that nothing is usable, only credit that ended later can
# have crossed again: a batch that ended before was no longer usable then.
_CROSSES = f"""
    (known.depleted_at IS NULL OR known.depleted_at < total.last_at) AND NOT EXISTS (
        SELECT FROM credit_batches AS batch
        WHERE batch.tenant_id = known.tenant_id AND batch.product_key = known.product_key
          AND {USABLE})
"""

# A batch that is held in full has nothing to write off: it is closed without an entry. All of the
# balances are locked, so what is read of them is still so when they are written.
_WRITE_OFF = """
WITH due AS MATERIALIZED (
    SELECT id, tenant_id, product_key, expires_at, gone, sum(gone) OVER walk AS gone_so_far,
           row_number() OVER walk AS nth, row_number() OVER everything AS place
    FROM ({batches}) AS batch
    WINDOW walk AS (PARTITION BY tenant_id, product_key ORDER BY expires_at, id),
           everything AS (ORDER BY tenant_id, product_key, expires_at, id)
), total AS (
    SELECT tenant_id, product_key, sum(gone) AS gone, count(*) AS batches,
           max(expires_at) AS last_at, min(place) AS place
    FROM due GROUP BY tenant_id, product_key
), account AS MATERIALIZED (
    SELECT total.*, known.balance AS was, known.version AS version_was, {crosses} AS crosses
    FROM total JOIN credit_balances AS known USING (tenant_id, product_key)
), closed AS (
    UPDATE credit_batches AS batch
    SET remaining_amount = batch.held_amount, state = 'EXPIRED', closed_at = :now
    FROM due
    WHERE batch.id = due.id
), balance AS (
    UPDATE credit_balances AS balance
    SET balance = account.was - account.gone,
        version = account.version_was + account.batches,
        depleted_at = CASE WHEN account.crosses THEN :now ELSE balance.depleted_at END,
        updated_at = :now
    FROM account
    WHERE balance.tenant_id = account.tenant_id AND balance.product_key = account.product_key
), change AS MATERIALIZED (
    SELECT due.tenant_id, due.product_key, due.id, due.gone, account.was - due.gone_so_far AS
           balance_after, account.version_was + due.nth AS version, due.expires_at, due.place
    FROM due JOIN account USING (tenant_id, product_key)
), entry AS (
    INSERT INTO ledger_entries
        (tenant_id, product_key, direction, amount, action, batch_id, balance_after,
         cause_type, cause_id, created_at)
    SELECT tenant_id, product_key, 'DEBIT', gone, 'expire', id, balance_after,
           'billing.expire_batches', id, :now
    FROM change
    WHERE gone > 0
    ORDER BY place
    RETURNING id, batch_id
){tells}
{answer}
"""

ROWS = """
SELECT change.tenant_id, change.product_key, change.id, change.gone, change.balance_after,
       change.version, change.expires_at, entry.id AS entry_id,
       (SELECT count(*) FROM account WHERE crosses) AS depleted
FROM change LEFT JOIN entry ON entry.batch_id = change.id
ORDER BY change.place
"""

COUNT = """
SELECT count(*) AS expired, count(*) FILTER (WHERE gone > 0) AS written,
       (SELECT count(*) FROM account WHERE crosses) AS depleted
FROM due
"""

_TOLD_EXPIRED = """
    SELECT tenant_id, version AS sequence, product_key, id AS batch_id, gone AS amount,
           balance_after AS balance, expires_at, place
    FROM change WHERE gone > 0
"""

_TOLD_DEPLETED = """
    SELECT tenant_id, version_was + batches AS sequence, product_key, 'expired' AS reason,
           place
    FROM account WHERE crosses
"""

_CLOSE = text(_WRITE_OFF.format(batches=_NAMED, crosses="false", tells="", answer=ROWS))


@functools.cache
def _closing(expired: Topic, depleted: Topic, answer: str) -> TextClause:
    """What is told is part of the statement: what it is told of never leaves the database."""
    told = (
        outbox_rows.expressions(expired, _TOLD_EXPIRED, name="expired"),
        outbox_rows.expressions(depleted, _TOLD_DEPLETED, name="depleted"),
    )
    return text(
        _WRITE_OFF.format(
            batches=_AND_BESIDE,
            crosses=_CROSSES,
            tells="".join(f", {one}" for one in told),
            answer=answer,
        )
    )
