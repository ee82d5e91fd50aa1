"""Tasks that do what no task should, for a worker that is told to include them.

Never imported by the tests themselves: that would put them into the register of all tasks. What
they did is read from a diary, a file that outlives whoever wrote into it.
"""

import os
import signal
import time
from pathlib import Path

from sqlalchemy import text

from models import database
from tasks import contract
from tasks.queues import Queue


@contract.command("billing.test_die", queue=Queue.billing)
def die(session: database.Session, *, diary: str) -> None:
    """Kill the process that runs it, in mid-transaction."""
    session.execute(text("INSERT INTO tenants (tenant_id) VALUES ('half-made')"))
    _write(diary, "began")
    os.kill(os.getpid(), signal.SIGKILL)


@contract.command("billing.test_nap", queue=Queue.billing)
def nap(session: database.Session, *, diary: str, seconds: int) -> int:
    """Take a while and answer with the process' id."""
    _write(diary, "began")
    time.sleep(seconds)
    _write(diary, "woke")
    return os.getpid()


@contract.command("billing.test_connection", queue=Queue.billing)
def connection(session: database.Session, *, seconds: float) -> list[int]:
    """Answer with the ids of this process and of its server process in PostgreSQL."""
    time.sleep(seconds)
    return [os.getpid(), session.execute(text("SELECT pg_backend_pid()")).scalar_one()]


@contract.command("billing.test_break", queue=Queue.billing)
def break_(session: database.Session, *, statement: str, secret: str) -> None:
    """Give the database something that it refuses, and let what it says of it out."""
    session.execute(text(statement), {"secret": secret})


def _write(diary: str, word: str) -> None:
    with Path(diary).open("a") as file:
        file.write(f"{os.getpid()}\n{word}\n")
