"""A command's first statement: whose it is today, its key, and what it reads first."""

import dataclasses
import datetime as dt
from functools import cache
from typing import Any

from sqlalchemy.orm import Session

from models import hot
from models.store import ending, inbox
from models.store.ending import Part
from models.store.inbox import Call


def find_answer_of_today(
    session: Session, call: Call, *, now: dt.datetime, first: Part | None = None
) -> tuple[Call, dict[str, Any] | None]:
    """Do as `inbox.find_answer` does for whom the call's tenant became part of, if it did.

    Return the call as it is then, and the answer. Who the tenant is stays so until the transaction
    ends, as `alias.follow` with `hold` would see to in a statement of its own.

    Args:
        first: what is read with it if the key is new; `ending.found` then has its rows.

    Raises:
        IdempotencyConflict: the key was used for another request of this operation.
    """
    given = inbox.claim_of(call, now=now)
    if first is None:
        rows = hot.execute(session, _CLAIM, given)
    else:
        rows = hot.execute(session, _claiming(first.expressions), {**given, **first.parameters})
        ending.keep_found(session, [row[_COLUMNS:] for row in rows])
    owner, is_new = rows[0][:_COLUMNS]
    if owner is not None:
        call = dataclasses.replace(call, tenant_id=owner)
    return call, None if is_new else inbox.get_answer(session, call)


# The tenant's row first, then the key. As in `alias`, a row that was waited for is looked at again.
_OF_TODAY = """
    tenant AS MATERIALIZED (
        SELECT merged_into FROM tenants WHERE tenant_id = :tenant_id FOR KEY SHARE
    ), owner AS (
        SELECT coalesce((SELECT merged_into FROM tenant), :tenant_id) AS tenant_id
    ), claimed AS (
        INSERT INTO idempotency_keys (tenant_id, operation, key, request_hash, created_at)
        SELECT tenant_id, :operation, :key, :request_hash, CAST(:now AS timestamptz) FROM owner
        ON CONFLICT DO NOTHING
        RETURNING key
    )
"""

_COLUMNS = 2
"""Of a claim, before those of what is read with it."""

_TOLD = "(SELECT merged_into FROM tenant), EXISTS (SELECT FROM claimed)"

_CLAIM = hot.statement(f"WITH {_OF_TODAY} SELECT {_TOLD}")


@cache
def _claiming(first: str) -> hot.Statement:
    reading = f"WITH {_OF_TODAY}, first AS ({first}) SELECT {_TOLD}, first.*"
    return hot.statement(f"{reading} FROM (VALUES (0)) AS one LEFT JOIN first ON true")
