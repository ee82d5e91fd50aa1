"""Purging archived usage: keys remembered first, events deleted then, keys forgotten at last.

The keys of an archive are committed before the first of its events is deleted, and those who record
usage meanwhile are waited for in between (`horizon.wait_for_holders`): whoever looks for an event
finds it, or its key, or both.
"""

import datetime as dt
from collections.abc import Sequence

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from models.rules.states import ArchiveState
from models.store.recorded import METADATA_HASH
from models.usage_archive import UsageArchive


def remember(session: Session, archive: UsageArchive, lines: Sequence[bytes]) -> int:
    """Remember the keys of those events that are stored exactly as lines of a file say.

    Returns:
        How many that are: the number of lines, if the file is sound.
    """
    given = {
        "lines": f"[{b','.join(lines).decode()}]",
        "archive_id": archive.id,
        "tenant_id": archive.tenant_id,
        "starts_at": archive.period_start,
        "ends_at": archive.period_end,
    }
    return int(session.execute(REMEMBER, given).scalar_one())


def verify(session: Session, archive: UsageArchive) -> None:
    """Say that an archive's file holds what it should, and that its keys are remembered."""
    archive.state = ArchiveState.verified
    session.flush()


def purge(session: Session, archive_id: int, lines: Sequence[bytes]) -> int | None:
    """Delete the events that lines of a verified archive's file name.

    Returns:
        How many are gone now that were there; None if somebody else is at it, or it is done.
    """
    if _verified(session, archive_id) is None:
        return None
    given = {"lines": f"[{b','.join(lines).decode()}]", "archive_id": archive_id}
    return int(session.execute(PURGE, given).scalar_one())


def end(session: Session, archive_id: int, *, now: dt.datetime) -> None:
    """Say that every event of a verified archive's file is gone."""
    archive = _verified(session, archive_id)
    if archive is not None:
        archive.state = ArchiveState.purged
        archive.purged_at = now
        session.flush()


def forget(session: Session, *, purged_by: dt.datetime, now: dt.datetime) -> int | None:
    """Forget the keys of the archive that was purged longest ago, if that was by an instant.

    Not those of voided events: the void stays, and would be one of whatever came by that key.

    Returns:
        How many; None if no such archive is left, or others are at it.
    """
    archive = session.scalars(
        select(UsageArchive)
        .where(UsageArchive.state == ArchiveState.purged, UsageArchive.purged_at <= purged_by)
        .order_by(UsageArchive.purged_at)
        .limit(1)
        .with_for_update(skip_locked=True, key_share=True)
    ).first()
    if archive is None:
        return None
    forgotten = session.execute(FORGET, {"archive_id": archive.id}).scalar_one()
    archive.state = ArchiveState.forgotten
    archive.forgotten_at = now
    session.flush()
    return int(forgotten)


def _verified(session: Session, archive_id: int) -> UsageArchive | None:
    return session.scalars(
        select(UsageArchive)
        .where(UsageArchive.id == archive_id, UsageArchive.state == ArchiveState.verified)
        .with_for_update(skip_locked=True, key_share=True)
    ).first()


REMEMBER = text(f"""
    WITH held AS MATERIALIZED (
        SELECT usage_event_id(tenant_id, metric, idempotency_key) AS id, line.*
        FROM jsonb_to_recordset(CAST(:lines AS jsonb)) AS line(
            tenant_id text, metric text, idempotency_key text, amount numeric, at timestamptz,
            received_at timestamptz, metadata jsonb)
    ),
    kept AS (
        INSERT INTO usage_purged_keys (id, at, metadata_hash, archive_id, is_at_arrival, amount)
        SELECT event.id, event.at, {METADATA_HASH.format("event.metadata")}, :archive_id,
               event.at = event.received_at, event.amount
        FROM held JOIN usage_events AS event USING (id)
        WHERE event.tenant_id = :tenant_id AND event.at >= :starts_at AND event.at < :ends_at
          AND event.amount = held.amount AND event.at = held.at
          AND event.received_at = held.received_at AND event.metadata = held.metadata
        ON CONFLICT (id) DO NOTHING
        RETURNING id
    )
    SELECT count(*) FROM kept
""")  # noqa: S608 (a constant)

# What has a key of this archive may go, and nothing else: a trigger looks again. By an array of
# ids: joined instead, the planner was seen to read all events for some thousand of them.
PURGE = text("""
    WITH gone AS (
        DELETE FROM usage_events WHERE id = ANY(ARRAY(
            SELECT kept.id
            FROM jsonb_to_recordset(CAST(:lines AS jsonb)) AS line(
                tenant_id text, metric text, idempotency_key text)
            CROSS JOIN LATERAL (
                SELECT id, archive_id FROM usage_purged_keys
                WHERE id = usage_event_id(tenant_id, metric, idempotency_key) OFFSET 0
            ) AS kept
            WHERE kept.archive_id = :archive_id
        ))
        RETURNING id
    )
    SELECT count(*) FROM gone
""")

# An archive at once: a file's worth, which lies together.
FORGET = text("""
    WITH gone AS (
        DELETE FROM usage_purged_keys AS kept
        WHERE archive_id = :archive_id
          AND NOT EXISTS (SELECT FROM usage_voids WHERE event_id = kept.id)
        RETURNING id
    )
    SELECT count(*) FROM gone
""")
