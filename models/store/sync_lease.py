"""What the holder of a lease writes down: every try, each step, how it ended."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert
from sqlalchemy import text as sql
from sqlalchemy.orm import Session

from models.invoice_sync import InvoiceSyncAttempt
from models.store.sync_claim import Leased


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of one step."""

    step: str
    attempted_at: dt.datetime
    outcome: str
    status: int | None
    latency_ms: int
    code: str | None
    error: str | None


def keep_attempt(session: Session, leased: Leased, attempt: Attempt) -> None:
    """Keep how a try ended, whoever has the lease by now."""
    session.execute(
        insert(InvoiceSyncAttempt).values(
            invoice_id=leased.invoice_id,
            provider=leased.provider,
            step=attempt.step,
            attempted_at=attempt.attempted_at,
            outcome=attempt.outcome,
            status=attempt.status,
            latency_ms=attempt.latency_ms,
            code=attempt.code,
            error=attempt.error,
        )
    )


def keep_step(
    session: Session,
    leased: Leased,
    *,
    step: str,
    remote_id: str,
    lease: dt.timedelta,
    now: dt.datetime,
) -> Mapping[str, str] | None:
    """Remember that a step is done and go on with the lease; return all that is done.

    None if the lease is another's by now: then nothing was changed. The row is locked from here to
    the commit.
    """
    done: Mapping[str, str] | None = session.scalars(
        _KEEP_STEP,
        {**_mine(leased), "step": step, "remote_id": remote_id, "lease": lease, "now": now},
    ).one_or_none()
    return done


def finish(session: Session, leased: Leased, *, now: dt.datetime) -> int | None:
    """Say that the provider has all; return the version, None if the lease is another's."""
    version: int | None = session.scalars(_FINISH, {**_mine(leased), "now": now}).one_or_none()
    return version


def put_off(
    session: Session,
    leased: Leased,
    *,
    until: dt.datetime,
    spends: int,
    code: str,
    reason: str,
    now: dt.datetime,
) -> bool:
    """Try again at an instant; tell whether the lease was still ours.

    Args:
        spends: attempts that this one counts for, 1 or 0.
    """
    values = {"until": until, "spends": spends, "code": code, "reason": reason, "now": now}
    moved = session.scalars(_PUT_OFF, {**_mine(leased), **values}).one_or_none()
    return moved is not None


def give_up(
    session: Session, leased: Leased, *, code: str, reason: str, now: dt.datetime
) -> int | None:
    """Leave it to an operator; return the version, None if the lease is another's."""
    values = {**_mine(leased), "code": code, "reason": reason, "now": now}
    version: int | None = session.scalars(_GIVE_UP, values).one_or_none()
    return version


def give_back(session: Session, leased: Leased, *, now: dt.datetime) -> None:
    """End a lease without having tried anything more."""
    session.execute(_GIVE_BACK, {**_mine(leased), "now": now})


def _mine(leased: Leased) -> dict[str, Any]:
    return {
        "invoice_id": leased.invoice_id,
        "provider": leased.provider,
        "token": leased.lease_token,
    }


_IS_MINE = """
    WHERE invoice_id = :invoice_id AND provider = :provider AND lease_token = :token
      AND state = 'running'
"""

_KEEP_STEP = sql(f"""
    UPDATE invoice_syncs
    SET done = done || jsonb_build_object(CAST(:step AS text), CAST(:remote_id AS text)),
        attempts = 0, code = NULL, reason = NULL, updated_at = :now,
        leased_until = clock_timestamp() + CAST(:lease AS interval)
    {_IS_MINE} RETURNING done
""")  # noqa: S608 (a constant)

_FINISH = sql(f"""
    UPDATE invoice_syncs
    SET state = 'synced', lease_token = NULL, leased_until = NULL, synced_at = :now,
        attempts = 0, code = NULL, reason = NULL, version = version + 1, updated_at = :now
    {_IS_MINE} RETURNING version
""")  # noqa: S608 (a constant)

_PUT_OFF = sql(f"""
    UPDATE invoice_syncs
    SET state = 'pending', lease_token = NULL, leased_until = NULL, due_at = :until,
        attempts = attempts + :spends, code = :code, reason = :reason, updated_at = :now
    {_IS_MINE} RETURNING invoice_id
""")  # noqa: S608 (a constant)

_GIVE_UP = sql(f"""
    UPDATE invoice_syncs
    SET state = 'failed', lease_token = NULL, leased_until = NULL, attempts = attempts + 1,
        code = :code, reason = :reason, version = version + 1, updated_at = :now
    {_IS_MINE} RETURNING version
""")  # noqa: S608 (a constant)

_GIVE_BACK = sql(f"""
    UPDATE invoice_syncs
    SET state = 'pending', lease_token = NULL, leased_until = NULL, updated_at = :now
    {_IS_MINE}
""")  # noqa: S608 (a constant)
