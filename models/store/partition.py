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


_MOVE = """
    WITH gone AS (
        DELETE FROM delivery_attempts_default
        WHERE attempted_at >= {start} AND attempted_at < {end} RETURNING *
    ), moved AS (
        INSERT INTO {name} SELECT * FROM gone RETURNING 1
    )
    SELECT count(*) FROM moved
"""
