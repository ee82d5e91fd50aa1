"""Waiting for what another transaction does."""

import threading

from sqlalchemy import text

from models import database

WAITING = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


def until_somebody_waits() -> None:
    """Return once a transaction of this database waits for a lock."""
    pause = threading.Event()
    for _ in range(500):
        with database.transaction() as session:
            if session.scalars(text(WAITING)).first():
                return
        pause.wait(0.01)
    raise AssertionError("nobody waits for a lock")
