"""PostgreSQL and a Redis-compatible server out of wheels: no Docker, no system package, no setup.

`running` starts both on loopback, with data that persists in a folder, and stops them with us. They
are gone after our death by `kill -9` too: a watcher (`worker.local_guard`) ends them, and should it
be killed as well, the next start does.

Below the folder: `data` (a link as root, see `worker.local_home`), `postgres.log`, `valkey.log`,
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

from worker import local_guard, local_home, local_postgres, local_valkey
from worker.local_guard import AlreadyRunning
from worker.local_home import NoSafeFolder, NotInstalled
from worker.local_process import ServerFailed

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
    with local_guard.holding(folder) as descriptor, _watched(folder, descriptor):
        home = local_home.prepare(folder)
        local_guard.end_leftovers(home.data)
        with (
            local_postgres.running(folder, home, fsync=fsync) as database_url,
            local_valkey.running(folder, home, fsync=fsync) as broker_url,
            _announced(folder, Servers(database_url=database_url, broker_url=broker_url)) as found,
        ):
            yield found


def find(folder: Path) -> Servers | None:
    """The servers that a live process of ours runs on `folder` right now; None when there are none.

    Raises PermissionError when they are another user's.
    """
    folder = folder.resolve()
    data = (folder / local_guard.DATA).resolve()
    if local_guard.holder(folder) is None:
        return None
    if any(local_guard.find_server(kind, data) is None for kind in local_guard.KINDS):
        return None
    try:
        stored = json.loads((folder / local_guard.STATE).read_text())
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
    with local_guard.holding(folder):
        local_guard.end_leftovers((folder / local_guard.DATA).resolve())
        local_home.clear(folder)
        # The lock stays: were it removed, two processes could each hold one of the same name.
        for name in (*local_postgres.FILES, *local_valkey.FILES, local_guard.STATE):
            (folder / name).unlink(missing_ok=True)


@contextlib.contextmanager
def _announced(folder: Path, servers: Servers) -> Iterator[Servers]:
    state = folder / local_guard.STATE
    urls = {"database_url": servers.database_url, "broker_url": servers.broker_url}
    local_guard.write_private(state, json.dumps(urls))
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
        [sys.executable, "-I", "-S", local_guard.__file__, *words],
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
        local_guard.end_own(folder, descriptor)
        watcher.kill()
        watcher.wait()
