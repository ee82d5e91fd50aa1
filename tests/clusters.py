"""Servers that need not be made: their data is a copy of a cluster that was migrated once.

To make a cluster and its tables takes two seconds of a processor; to copy them, a tenth of one.
"""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import create_engine

from models import migrations
from worker import local
from worker.local import guard, homes, postgres

_mould: Path | None = None


@contextlib.contextmanager
def moulded_in(folder: Path) -> Iterator[None]:
    """Keep in `folder` what this block's servers are copied from; the first of them makes it."""
    global _mould  # noqa: PLW0603 (a process has one)
    _mould = folder
    try:
        yield
    finally:
        _mould = None
        local.clear(folder)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[local.Servers]:
    """Run servers on `folder`, which has none yet, with a migrated database.

    Nothing waits for the disk. The data stays when the block ends: `local.clear` removes it.
    """
    assert _mould is not None
    if not (_mould / postgres.PASSWORD).exists():
        _make(_mould)
    _copy(_mould, folder)
    with local.running(folder, fsync=False) as servers:
        yield servers


def _make(mould: Path) -> None:
    with local.running(mould, fsync=False) as servers:
        engine = create_engine(servers.database_url)
        migrations.upgrade(engine)
        engine.dispose()


def _copy(mould: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    source = (mould / guard.DATA).resolve() / guard.POSTGRES.name
    target = homes.prepare(folder).data / guard.POSTGRES.name
    # With its owner: as root we are not the account that the server runs as.
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)
    shutil.copy2(mould / postgres.PASSWORD, folder / postgres.PASSWORD)
