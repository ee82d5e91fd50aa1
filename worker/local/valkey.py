"""Embedded Valkey, which speaks Redis: its settings, its start."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

from worker.local import guard, homes, process

LOG = "valkey.log"
FILES = (LOG, f"{LOG}.1")

PING_SECONDS = 1.0


@contextlib.contextmanager
def running(folder: Path, home: homes.Home, *, fsync: bool) -> Iterator[str]:
    """Run Valkey; yields its redis:// URL. Raises ServerFailed."""
    data = homes.make(home.data / guard.VALKEY.name, home.account)
    plan = process.Plan(
        kind=guard.VALKEY,
        command=lambda port: [str(home.valkey), *_settings(data, port, fsync=fsync)],
        is_ready=_is_ready,
    )
    with process.serving(plan, home.account, folder / LOG) as port:
        yield f"redis://{process.HOST}:{port}/0"


def _settings(data: Path, port: int, *, fsync: bool) -> list[str]:
    settings = {
        "bind": process.HOST,
        "port": str(port),
        "protected-mode": "yes",
        "dir": str(data),
        "pidfile": str(data / guard.VALKEY.pid_file),
        "appendonly": "yes",
        "appendfsync": "everysec" if fsync else "no",
        "save": "",
        "maxmemory-policy": "noeviction",
        # Its command line stays as given: that is how a leftover is told from a stranger.
        "set-proc-title": "no",
    }
    return [word for name, value in settings.items() for word in (f"--{name}", value)]


def _is_ready(pid: int, port: int) -> bool:
    # PONG comes once the append-only file is loaded; the pid tells that it is ours and not
    # a server that took the port in between.
    wanted = f"process_id:{pid}\r\n".encode()
    answer = b""
    try:
        with socket.create_connection((process.HOST, port), PING_SECONDS) as connection:
            connection.sendall(b"PING\r\nINFO server\r\nQUIT\r\n")
            while chunk := connection.recv(4096):
                answer += chunk
    except OSError:
        return False
    return answer.startswith(b"+PONG\r\n") and wanted in answer
