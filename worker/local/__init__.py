"""PostgreSQL and a Redis-compatible server out of wheels: no Docker, no system package, no setup.

`running` starts both on loopback, with data that persists in a folder, and stops them with us. They
are gone after our death by `kill -9` too: a watcher (`worker.local.guard`) ends them, and should it
be killed as well, the next start does.

Below the folder: `data` (a link as root, see `worker.local.homes`), `postgres.log`, `valkey.log`,
`password` (of the database, readable by us alone), `lock` (who holds the folder) and, while the
servers run, `servers.json`.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from worker.local import guard, homes, postgres, valkey
from worker.local.guard import AlreadyRunning
from worker.local.homes import NotInstalled
from worker.local.process import ServerFailed
from worker.local.refuges import NoSafeFolder

__all__ = [
    "AlreadyRunning",
    "NoSafeFolder",
    "NotInstalled",
    "ServerFailed",
    "Servers",
    "clear",
    "find",
    "running",
]


@dataclass(frozen=True, slots=True)
class Servers:
    """Where the running servers listen. The database's URL holds its password: keep it from logs.

    `database_url` is for SQLAlchemy with psycopg 3, database and user "billing", an owner of all
    rights; `broker_url` is for Celery and redis-py.
    """

    database_url: str = field(repr=False)
    broker_url: str


@contextlib.contextmanager
def running(folder: Path, *, fsync: bool = True) -> Iterator[Servers]:
    """Run both servers on the data of `folder` (made when missing) for as long as the block does.

    With `fsync` False nothing waits for the disk: quicker, and lost when the machine crashes; for
    tests. Raises AlreadyRunning when another live process (or block of ours) holds the folder,
    ServerFailed with the end of its log when a server does not start, NotInstalled without the
    wheels, NoSafeFolder when we are root and the servers' account can reach no folder of ours.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with guard.holding(folder) as descriptor, _watched(folder, descriptor):
        home = homes.prepare(folder)
        guard.end_leftovers(home.data)
        with (
            postgres.running(folder, home, fsync=fsync) as database_url,
            valkey.running(folder, home, fsync=fsync) as broker_url,
            _announced(folder, Servers(database_url=database_url, broker_url=broker_url)) as found,
        ):
            yield found


def find(folder: Path) -> Servers | None:
    """The servers that a live process of ours runs on `folder` right now; None when there are none.

    Raises PermissionError when they are another user's.
    """
    folder = folder.resolve()
    data = (folder / guard.DATA).resolve()
    if guard.holder(folder) is None:
        return None
    if any(guard.find_server(kind, data) is None for kind in guard.KINDS):
        return None
    try:
        stored = json.loads((folder / guard.STATE).read_text())
    except FileNotFoundError:
        return None
    return Servers(database_url=stored["database_url"], broker_url=stored["broker_url"])


def clear(folder: Path) -> None:
    """End the leftovers of a crash and remove the data and logs; nothing happens without any.

    Raises AlreadyRunning while a live process holds the folder.
    """
    folder = folder.resolve()
    if not folder.is_dir():
        return
    with guard.holding(folder):
        guard.end_leftovers((folder / guard.DATA).resolve())
        homes.clear(folder)
        # The lock stays: were it removed, two processes could each hold one of the same name.
        for name in (*postgres.FILES, *valkey.FILES, guard.STATE):
            (folder / name).unlink(missing_ok=True)


@contextlib.contextmanager
def _announced(folder: Path, servers: Servers) -> Iterator[Servers]:
    state = folder / guard.STATE
    urls = {"database_url": servers.database_url, "broker_url": servers.broker_url}
    guard.write_private(state, json.dumps(urls))
    try:
        yield servers
    finally:
        state.unlink(missing_ok=True)


@contextlib.contextmanager
def _watched(folder: Path, descriptor: int) -> Iterator[None]:
    words = [str(folder), str(descriptor), str(os.getpid())]
    # By path and isolated (-I -S): as a module it would import the whole worker, and beside
    # `worker/celery.py` on the search path nothing finds Celery any more.
    watcher = subprocess.Popen(
        [sys.executable, "-I", "-S", guard.__file__, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        pass_fds=[descriptor],
        start_new_session=True,
    )
    try:
        yield
    finally:
        # None are left, unless a second Ctrl-C cut short the stopping.
        guard.end_own(folder, descriptor)
        watcher.kill()
        watcher.wait()
