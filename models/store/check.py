"""The nightly checks' runs: entered by whoever looked, read by whoever wants to trust them."""

import datetime as dt
from dataclasses import dataclass
from typing import Final

from sqlalchemy import text
from sqlalchemy.orm import Session

from models.check import Check

KEPT: Final = dt.timedelta(days=90)
"""How long a run is remembered."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one message's worth of a run looked at.

    Args:
        began_at: of the whole run: what all its parts call now.
        after: behind what this part began; empty for the first.
        is_last: whether nothing was left behind it.
        findings: how many were not as they must be.
    """

    check: Check
    began_at: dt.datetime
    after: str
    is_last: bool
    findings: int


@dataclass(frozen=True, slots=True)
class Run:
    """The newest whole run of a check: what it found, and all runs of a week, whole or not."""

    began_at: dt.datetime
    findings: int
    findings_in_week: int


_FORGET = text("DELETE FROM check_runs WHERE name = :name AND began_at < :before")

# A part whose message comes twice finds less the second time: what it had found is mended.
_ENTER = text("""
    INSERT INTO check_runs (name, began_at, after, is_last, findings)
    VALUES (:name, :began_at, :after, :is_last, :findings)
    ON CONFLICT (name, began_at, after) DO UPDATE
    SET is_last = excluded.is_last,
        findings = greatest(check_runs.findings, excluded.findings)
""")

_LAST = text("""
    WITH whole AS (
        SELECT name, began_at, sum(findings) AS findings FROM check_runs
        GROUP BY name, began_at HAVING bool_or(after = '') AND bool_or(is_last)
    ), newest AS (
        SELECT DISTINCT ON (name) name, began_at, findings FROM whole ORDER BY name, began_at DESC
    )
    SELECT name, began_at, CAST(findings AS bigint) AS findings,
           (SELECT CAST(coalesce(sum(every.findings), 0) AS bigint) FROM check_runs AS every
            WHERE every.name = newest.name AND every.began_at > :week_ago) AS findings_in_week
    FROM newest
""")

WEEK: Final = dt.timedelta(days=7)
"""How long drift is spoken of that was mended at once: somebody should have seen it."""


def enter(session: Session, part: Part) -> None:
    """Remember a part of a run, and forget runs of long ago. Twice is once."""
    session.execute(_FORGET, {"name": part.check, "before": part.began_at - KEPT})
    values = {
        "name": part.check,
        "began_at": part.began_at,
        "after": part.after,
        "is_last": part.is_last,
        "findings": part.findings,
    }
    session.execute(_ENTER, values)


def last_runs(session: Session, *, now: dt.datetime) -> dict[Check, Run]:
    """Return the newest whole run of each check that ever ran whole within `KEPT`."""
    rows = session.execute(_LAST, {"week_ago": now - WEEK})
    return {Check(row.name): Run(row.began_at, row.findings, row.findings_in_week) for row in rows}
