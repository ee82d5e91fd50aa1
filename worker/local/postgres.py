"""Embedded PostgreSQL: the cluster's making, its settings, its start."""

import contextlib
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from worker.local import guard, homes, process

LOG = "postgres.log"
PASSWORD = "password"  # noqa: S105 - the name of the file
FILES = (PASSWORD, LOG, f"{LOG}.1")

NAME = "billing"
"""Database and database user."""


@contextlib.contextmanager
def running(folder: Path, home: homes.Home, *, fsync: bool) -> Iterator[str]:
    """Run PostgreSQL; yields the SQLAlchemy URL of the database. Raises ServerFailed."""
    log = folder / LOG
    data = home.data / guard.POSTGRES.name
    password = _create_database(folder, home, log, fsync=fsync)
    plan = process.Plan(
        kind=guard.POSTGRES,
        command=lambda port: [
            str(home.postgres / "postgres"),
            "-D",
            str(data),
            *_settings(port, fsync=fsync),
        ],
        is_ready=lambda pid, _: _is_ready(data, pid),
    )
    with process.serving(plan, home.account, log) as port:
        yield f"postgresql+psycopg://{NAME}:{password}@{process.HOST}:{port}/{NAME}"


def _create_database(folder: Path, home: homes.Home, log: Path, *, fsync: bool) -> str:
    """Make the cluster, the database and the password where they are missing; the password."""
    data = home.data / guard.POSTGRES.name
    secret = folder / PASSWORD
    if data.is_dir() and secret.exists():
        return secret.read_text()
    password = secrets.token_urlsafe(24)
    if data.is_dir():  # the password alone was lost
        _set_up(data, home, log, [_password_statement(password)])
        guard.write_private(secret, password)
        return password
    building = _initialise(home, log, password, fsync=fsync)
    # The cluster gets its name last: cut short before that, the next start begins anew, and no
    # older password lies beside a newer cluster.
    guard.write_private(secret, password)
    building.rename(data)
    return password


def _initialise(home: homes.Home, log: Path, password: str, *, fsync: bool) -> Path:
    """Make a cluster with the database and the password, under a name that nobody starts."""
    for abandoned in home.data.glob("building-*"):
        shutil.rmtree(abandoned, ignore_errors=True)
    building = homes.make(home.data / f"building-{secrets.token_hex(4)}", home.account)
    command = [
        str(home.postgres / "initdb"),
        f"--pgdata={building}",
        f"--username={NAME}",
        "--encoding=UTF8",
        "--locale=C",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--auth-local=reject",
        "--auth-host=scram-sha-256",
        *([] if fsync else ["--no-sync"]),
    ]
    process.run(command, home.account, log, "")
    statements = [
        f"CREATE DATABASE {NAME};",
        # No DETAIL of a session's errors in the log: it quotes rows, and with them payloads. For
        # the role and not the server, whose own DETAIL tells why it does not start.
        f"ALTER ROLE {NAME} SET log_error_verbosity = 'terse';",
        _password_statement(password),
    ]
    _set_up(building, home, log, statements)
    return building


def _password_statement(password: str) -> str:
    return f"ALTER ROLE {NAME} PASSWORD '{password}';"


def _set_up(data: Path, home: homes.Home, log: Path, statements: list[str]) -> None:
    """Run statements, one a line, in a server of its own without any listener."""
    # Through standard input, and never into the log: one of them is the password.
    settings: dict[str, str | int] = {"exit_on_error": "on", "log_min_error_statement": "panic"}
    command = [
        str(home.postgres / "postgres"),
        "--single",
        "-D",
        str(data),
        *_as_options(settings),
        "postgres",
    ]
    process.run(command, home.account, log, "".join(f"{statement}\n" for statement in statements))


def _settings(port: int, *, fsync: bool) -> list[str]:
    # Loopback TCP and no Unix socket: a socket's path is limited to 107 bytes, which a data folder
    # easily exceeds, and every client speaks TCP. So that other users of the machine stay out, the
    # login needs a password (SCRAM), which lies in files only we can read.
    settings: dict[str, str | int] = {
        "listen_addresses": process.HOST,
        "port": port,
        "unix_socket_directories": "",
        "password_encryption": "scram-sha-256",
        # Sized for a development machine with two cores.
        "max_connections": 200,
        "shared_buffers": "256MB",
        "synchronous_commit": "on" if fsync else "off",
        "fsync": "on" if fsync else "off",
        "full_page_writes": "on" if fsync else "off",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }
    return _as_options(settings)


def _as_options(settings: dict[str, str | int]) -> list[str]:
    return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]


def _is_ready(data: Path, pid: int) -> bool:
    # What `pg_ctl --wait` looks at: PostgreSQL itself writes its state into the eighth line, and
    # the first one tells that it is the server we started and not one that died.
    try:
        lines = (data / guard.POSTGRES.pid_file).read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"
