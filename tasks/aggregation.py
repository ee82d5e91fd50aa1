"""Roll up what was used."""

import datetime as dt

from models import database


def roll_up_in(
    session: database.Session,
    *,
    now: dt.datetime,
    tenant_id: str | None = None,
) -> None:
    """Count the touched days in the caller's transaction."""
