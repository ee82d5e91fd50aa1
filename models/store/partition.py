"""Partitions of delivery_attempts: one for each UTC day, made before the day begins.

Two functions of the database make and drop them, as the owner of the tables: who calls them needs
no right to change tables (models/rights.py).
"""

import datetime as dt

from sqlalchemy import text
from sqlalchemy.orm import Session

_PREPARE = text("SELECT prepare_attempts_day(:day)")

_DROP = text("SELECT drop_attempts_day(:day)")

_EXISTS = text("SELECT to_regclass(:name) IS NOT NULL")


def ensure_day(session: Session, day: dt.date) -> int | None:
    """Make the partition of a UTC day unless there is one.

    Rows of that day that were kept in the default partition move into it.

    Returns:
        How many rows moved, or None when the partition was there.
    """
    moved: int | None = session.scalar(_PREPARE, {"day": day})
    return moved


def has_day(session: Session, day: dt.date) -> bool:
    """Tell whether a UTC day has a partition."""
    return bool(session.scalar(_EXISTS, {"name": f"delivery_attempts_{day:%Y%m%d}"}))


_DAYS = text("""
    SELECT right(relname, 8) AS day FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
    WHERE inhparent = 'delivery_attempts'::regclass AND relname ~ '^delivery_attempts_[0-9]{8}$'
      AND right(relname, 8) < :before
    ORDER BY 1
""")

_DELETE_STRAY = text("""
    DELETE FROM delivery_attempts_default WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM delivery_attempts_default WHERE attempted_at < :before LIMIT :most))
    RETURNING 1
""")


def days_before(session: Session, day: dt.date) -> list[dt.date]:
    """Return the UTC days before `day` that have a partition."""
    found = session.scalars(_DAYS, {"before": f"{day:%Y%m%d}"})
    return [dt.datetime.strptime(one, "%Y%m%d").replace(tzinfo=dt.UTC).date() for one in found]


def drop_day(session: Session, day: dt.date) -> bool:
    """Drop the partition of a UTC day with all that is in it; tell whether there was one.

    Raises:
        DBAPIError: somebody reads or writes attempts for longer than two seconds; see
            `failures.is_lock_timeout`.
    """
    return bool(session.scalar(_DROP, {"day": day}))


def delete_stray(session: Session, *, before: dt.datetime, most: int) -> int:
    """Delete attempts of the default partition that began before an instant; return how many."""
    return len(session.scalars(_DELETE_STRAY, {"before": before, "most": most}).all())
