"""An archiver in a process of its own that ends itself with SIGKILL after so many steps.

A step is a statement, a commit, or a file that is synced or gets its name: whatever state that
leaves on the disk and in the database, the next process finds.

    python -m tests.integration.archive_child FOLDER STEPS AS_OF
"""

import dataclasses
import datetime as dt
import itertools
import os
import signal
import sys
from pathlib import Path
from typing import Any

from sqlalchemy import event

from models import database
from models.store import archive_lines
from tasks import archiving, config, purging
from tasks.config import Retention

AGE = dt.timedelta(days=60)
_steps = itertools.count(1)


def step(*_: Any) -> None:
    """Take a step, or die instead."""
    if next(_steps) > int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)


def main(folder: str, as_of: str) -> None:
    """Archive in small pieces until nothing is left to do, or until the last step."""
    database.configure(database.Options(url=os.environ["DATABASE_URL"]))
    retention = Retention(after=AGE, folder=Path(folder))
    config.use(dataclasses.replace(config.current(), retention=retention))
    archiving.EVENTS_OF_A_FILE, purging.PURGE_CHUNK = 2, 1
    archive_lines.CHUNK = 1  # type: ignore[misc]
    event.listen(database.engine(), "before_cursor_execute", step)
    event.listen(database.engine(), "commit", step)
    sync, rename = os.fsync, Path.replace

    def counted_sync(descriptor: int) -> None:
        step()
        sync(descriptor)

    def counted_rename(path: Path, target: Path) -> Path:
        step()
        return rename(path, target)

    os.fsync = counted_sync  # type: ignore[assignment]
    Path.replace = counted_rename  # type: ignore[method-assign, assignment]
    archiving.archive_usage(as_of=dt.datetime.fromisoformat(as_of))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[3])
