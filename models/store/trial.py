"""Trials that were had, found by any of the hashes their identities are known under."""

import datetime as dt
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, select, text
from sqlalchemy.orm import Session

from models.rules import ids
from models.rules.trial import Mark
from models.trial import Trial, TrialIdentity

_KEY_BYTES = 8
"""Of a hash, as the key of an advisory lock: two that share them only wait for each other."""


def lock(session: Session, digests: Sequence[bytes]) -> None:
    """Let nobody else look for or enter any of these until the transaction ends.

    Under every pepper that is known, so that a process which enters under the old one and a
    process which enters under the new one still meet.
    """
    keys = sorted({int.from_bytes(one[:_KEY_BYTES], signed=True) for one in digests})
    session.execute(_LOCK, {"keys": keys})


def find(session: Session, digests: Sequence[bytes]) -> dict[bytes, UUID]:
    """Return those hashes that are known, each with its trial."""
    found = session.execute(
        select(TrialIdentity.digest, TrialIdentity.trial_id).where(
            TrialIdentity.digest.in_(digests)
        )
    )
    return {row.digest: row.trial_id for row in found}


def get(session: Session, trial_id: UUID) -> tuple[Trial, int]:
    """Return a trial that there is, and the number of its identities."""
    trial = session.get_one(Trial, trial_id)
    number = session.scalars(select(func.count()).where(TrialIdentity.trial_id == trial_id)).one()
    return trial, number


def add(
    session: Session,
    marks: Sequence[Mark],
    *,
    trial_id: UUID,
    tenant_id: str,
    sku: str,
    batch_ids: Sequence[UUID],
    details: dict[str, Any],
    now: dt.datetime,
) -> None:
    """Enter a trial with its identities, which are locked and not known yet."""
    session.execute(
        insert(Trial).values(
            id=trial_id,
            tenant_id=tenant_id,
            sku=sku,
            batch_ids=list(batch_ids),
            details=details,
            created_at=now,
        )
    )
    session.execute(
        insert(TrialIdentity),
        [
            {"digest": mark.digest, "pepper_id": mark.pepper_id, "trial_id": trial_id}
            for mark in marks
        ],
    )


def pepper_ids(session: Session) -> set[str]:
    """Return which peppers identities were hashed with."""
    return set(session.scalars(select(TrialIdentity.pepper_id).distinct()))


def new_id(now: dt.datetime) -> UUID:
    """Return the id of a trial that begins now."""
    return ids.uuid7(now)


_LOCK = text("SELECT pg_advisory_xact_lock(key) FROM unnest(CAST(:keys AS bigint[])) AS one(key)")
