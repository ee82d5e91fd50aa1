"""That a nightly check ran, and how much it found: a check that never runs finds nothing either."""

import datetime as dt
import json

from models import database
from models.check import Check
from models.store import check as check_store


def enter(
    check: Check,
    *,
    began_at: dt.datetime,
    after: str | tuple[str, str],
    is_last: bool,
    findings: int,
) -> None:
    """Remember a part of a check's run, in a transaction of its own.

    Args:
        began_at: what all parts of the run call now.
        after: behind what the part began, as its message says it.
        is_last: whether nothing was left behind it.
        findings: how many were not as they must be.
    """
    part = check_store.Part(
        check=check,
        began_at=began_at,
        after=_text(after),
        is_last=is_last,
        findings=findings,
    )
    with database.transaction() as session:
        check_store.enter(session, part)


def _text(after: str | tuple[str, str]) -> str:
    if isinstance(after, str):
        return after
    return json.dumps(after) if any(after) else ""
