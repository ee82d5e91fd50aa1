"""Rows of a system before this one: which were taken over, and as what."""

import datetime as dt
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class Taken:
    """A row that was taken over before. `made_id` is what it became, if that has an id."""

    tenant_id: str
    row_hash: bytes
    made_id: str | None
    imported_at: dt.datetime


def claim(
    session: Session,
    *,
    kind: str,
    source_id: str,
    tenant_id: str,
    row_hash: bytes,
    now: dt.datetime,
) -> Taken | None:
    """Claim a row for this transaction, or return how it was taken over before.

    Who takes over the same row at the same time waits here until this transaction has ended. The
    tenant must exist.
    """
    given = {"kind": kind, "source_id": source_id}
    rest = {"tenant_id": tenant_id, "row_hash": row_hash, "now": now}
    if session.execute(_CLAIM, {**given, **rest}).first() is not None:
        return None
    return Taken(*session.execute(_READ, given).one())


def keep(session: Session, *, kind: str, source_id: str, made_id: str | None) -> None:
    """Say what a claimed row became."""
    given = {"kind": kind, "source_id": source_id, "made_id": made_id}
    session.execute(_KEEP, given)


_CLAIM = text("""
    INSERT INTO legacy_rows (kind, migration_source_id, tenant_id, row_hash, imported_at)
    VALUES (:kind, :source_id, :tenant_id, :row_hash, :now)
    ON CONFLICT DO NOTHING
    RETURNING kind
""")

_READ = text("""
    SELECT tenant_id, row_hash, made_id, imported_at FROM legacy_rows
    WHERE kind = :kind AND migration_source_id = :source_id
""")

_KEEP = text("""
    UPDATE legacy_rows SET made_id = :made_id
    WHERE kind = :kind AND migration_source_id = :source_id
""")
