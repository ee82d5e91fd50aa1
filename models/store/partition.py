"""Partitions of delivery_attempts: one for each UTC day, made before the day begins."""

import datetime as dt

from sqlalchemy import text
from sqlalchemy.orm import Session

_PREFIX = "delivery_attempts_"

# One maker at a time: the second finds what the first has made.
_LOCK = text("SELECT pg_advisory_xact_lock(hashtext('delivery_attempts partitions'))")

_EXISTS = text("SELECT to_regclass(:name) IS NOT NULL")

# Made beside the parent and attached: that way writers are not kept out of the parent while rows
# move. The default partition is locked, since rows of this day that are in it must move and none
# may join them; writers to other days go on.
_LOCK_DEFAULT = text("LOCK TABLE delivery_attempts_default IN ACCESS EXCLUSIVE MODE")


def ensure_day(session: Session, day: dt.date) -> int | None:
    """Make the partition of a UTC day unless there is one.

    Rows of that day that were kept in the default partition move into it.

    Returns:
        How many rows moved, or None when the partition was there.
    """
    session.execute(_LOCK)
    name = f"{_PREFIX}{day:%Y%m%d}"
    if session.scalar(_EXISTS, {"name": name}):
        return None
    session.execute(_LOCK_DEFAULT)
    # The name and the bounds are made of a date alone; DDL takes no parameters.
    start, end = f"'{day} 00:00+00'", f"'{day + dt.timedelta(days=1)} 00:00+00'"
    session.execute(text(f"CREATE TABLE {name} (LIKE delivery_attempts INCLUDING ALL)"))
    moved = session.scalars(text(_MOVE.format(name=name, start=start, end=end))).one()
    session.execute(
        text(
            f"ALTER TABLE delivery_attempts ATTACH PARTITION {name} "
            f"FOR VALUES FROM ({start}) TO ({end})"
        )
    )
    return int(moved)


def has_day(session: Session, day: dt.date) -> bool:
    """Tell whether a UTC day has a partition."""
    return bool(session.scalar(_EXISTS, {"name": f"{_PREFIX}{day:%Y%m%d}"}))


_MOVE = """
    WITH gone AS (
        DELETE FROM delivery_attempts_default
        WHERE attempted_at >= {start} AND attempted_at < {end} RETURNING *
    ), moved AS (
        INSERT INTO {name} SELECT * FROM gone RETURNING 1
    )
    SELECT count(*) FROM moved
"""

# The parent is locked for as long as it takes to forget a table; nobody waits longer for that.
_PATIENCE = text("SET LOCAL lock_timeout = '2s'")

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
            `database.is_lock_timeout`.
    """
    session.execute(_LOCK)
    name = f"{_PREFIX}{day:%Y%m%d}"
    if not session.scalar(_EXISTS, {"name": name}):
        return False
    session.execute(_PATIENCE)
    session.execute(text(f"DROP TABLE {name}"))
    return True


def delete_stray(session: Session, *, before: dt.datetime, most: int) -> int:
    """Delete attempts of the default partition that began before an instant; return how many."""
    return len(session.scalars(_DELETE_STRAY, {"before": before, "most": most}).all())
