"""Roll up what was used."""

import datetime as dt

from models import database


def roll_up_in(
    session: database.Session,  # noqa: ARG001
    *,
    now: dt.datetime,  # noqa: ARG001
    tenant_id: str | None = None,  # noqa: ARG001
) -> None:
    """Count the touched days in the caller's transaction."""
