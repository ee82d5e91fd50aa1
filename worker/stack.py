"""A whole system on one machine: the servers it needs, its settings, its processes."""

import contextlib
import functools
import secrets
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from models import database, migrations
from tasks.queues import Queue
from webhooks import keyring
from worker import boot, local, processes, programs, secret_files, settings

LOOPBACK = "127.0.0.1"

SOFT_SHUTDOWN_SECONDS = 5
"""Shorter than in production: a developer waits for it after Ctrl-C."""

EXTRA_PATIENCE_SECONDS = 10.0
"""What a worker needs beyond its soft shutdown before it is killed."""

CONCURRENCY = 2

WORKER, SENDER, BEAT, FLOWER = "worker", "webhooks", "beat", "flower"
"""The names of the processes: who works, who sends webhooks, who rings, who shows."""

STOPS = ((BEAT,), (WORKER,), (SENDER, FLOWER))
"""The order in which they end: first nothing new is rung; then what runs is done; then what that
has told of is sent, as far as it can be. The servers they all need come last."""

FLOWER_USER = "billing"
FLOWER_STATE = Path("flower", "state")
"""In the data folder: what Flower has seen, over a restart."""

BEAT_STATE = Path("beat", "state.json")
"""In the data folder: what beat has rung, over a restart."""

MASTER_KEY_ID = "development"


class PortTaken(RuntimeError):
    """Flower's port is in use."""


@contextlib.contextmanager
def servers(chosen: settings.Settings) -> Iterator[dict[str, str]]:
    """Yield where database and broker are, as variables; run embedded ones for what is not set.

    Raises:
        AlreadyRunning, NoSafeFolder, NotInstalled, ServerFailed: see `worker.local`.
    """
    given = {
        name: url.get_secret_value()
        for name, url in (
            ("DATABASE_URL", chosen.database_url),
            ("BROKER_URL", chosen.broker_url),
        )
        if url is not None
    }
    if len(given) == 2:
        yield {**given, **secret_files.not_from_files(given)}
        return
    with local.running(chosen.local_folder) as found:
        urls = {"DATABASE_URL": found.database_url, "BROKER_URL": found.broker_url, **given}
        yield {**urls, **secret_files.not_from_files(urls)}


def development(chosen: settings.Settings) -> dict[str, str]:
    """Return what a developer's system needs and the environment has not set, as variables.

    Loopback endpoints over plain http are allowed, a short soft shutdown, and master keys, peppers
    and Flower's password, which are made once and kept in the data folder.
    """
    unset = {
        "BILLING_WEBHOOK_ALLOW_HTTP": ("allow_http", "true"),
        "BILLING_WEBHOOK_PRIVATE_HOSTS": ("private_hosts", settings.LOOPBACK_HOSTS),
        "BILLING_SOFT_SHUTDOWN_SECONDS": ("soft_shutdown_seconds", str(SOFT_SHUTDOWN_SECONDS)),
    }
    extra = {
        name: value
        for name, (field, value) in unset.items()
        if field not in chosen.model_fields_set
    }
    if chosen.master_keys is None:
        extra["BILLING_MASTER_KEYS"] = _kept(
            chosen.local_folder / settings.MASTER_KEYS_FILE, _new_master_key
        )
    if chosen.trial_peppers is None:
        extra["BILLING_TRIAL_PEPPERS"] = _kept(
            chosen.local_folder / settings.TRIAL_PEPPERS_FILE, _new_master_key
        )
    if chosen.flower_basic_auth is None:
        extra["FLOWER_BASIC_AUTH"] = _kept(
            chosen.local_folder / settings.FLOWER_BASIC_AUTH_FILE, _new_password
        )
    return extra


def migrate(
    *,
    wait: float = boot.PATIENCE_SECONDS,
    patience: migrations.Patience = migrations.USUAL,
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[str | None, str]:
    """Wait up to `wait` seconds for the database and bring it to this program's revision.

    Returns the revision before and after.

    Args:
        patience: with those who are in the way.
        tell: is told, a line each, who that is.

    Raises:
        DatabaseUnreachable: it did not answer in time.
        DatabaseAhead: it was migrated by a newer program.
        Blocked: somebody did not let go of a table.
    """
    boot.wait_for_database(wait)
    before = migrations.current(database.engine())
    if before is not None and not migrations.is_known(before):
        raise boot.DatabaseAhead(
            f"the database is at revision {before}, which is newer than this program's "
            f"{migrations.head()}; there is nothing to migrate, and no way back"
        )
    migrations.upgrade(database.engine(), patience=patience, tell=tell)
    return before, migrations.head()


def programs_of(
    environment: dict[str, str],
    *,
    ready: Path,
    soft_shutdown: float,
    flower_port: int | None,
    state: Path | None = None,
) -> list[processes.Program]:
    """Return the processes of the system, in the order in which they start.

    Args:
        environment: variables of all of them.
        ready: an empty folder of ours, where they say that they are ready.
        soft_shutdown: seconds a worker gets to finish its tasks.
        flower_port: where Flower listens on loopback; None for no Flower.
        state: the folder that keeps what Flower has seen and beat has rung; None forgets it.
    """
    patience = soft_shutdown + EXTRA_PATIENCE_SECONDS
    invocations = {
        WORKER: programs.worker(queues=(Queue.usage, Queue.billing), concurrency=CONCURRENCY),
        SENDER: programs.worker(queues=(Queue.webhooks,), concurrency=CONCURRENCY),
        BEAT: programs.beat(state=_kept_in(state, BEAT_STATE)),
    }
    found = [
        processes.Program(
            name=name,
            command=invocation.command,
            environment={
                **environment,
                **invocation.environment,
                "BILLING_ALIVE_FILE": str(ready / name),
            },
            is_ready=(ready / name).exists,
            # A worker that is started again must not look ready by what the last one left.
            before_start=functools.partial((ready / name).unlink, missing_ok=True),
            patience=patience,
        )
        for name, invocation in invocations.items()
    ]
    if flower_port is not None:
        found.append(_flower(environment, flower_port, _kept_in(state, FLOWER_STATE)))
    return found


def require_free(port: int) -> None:
    """Raise PortTaken when something listens on a loopback port."""
    if _listens(port):
        raise PortTaken(f"port {port} of {LOOPBACK} is in use; choose another with --port")


def _flower(environment: dict[str, str], port: int, state: Path | None) -> processes.Program:
    invocation = programs.flower(address=LOOPBACK, port=port, state=state)
    return processes.Program(
        name=FLOWER,
        command=invocation.command,
        environment={**environment, **invocation.environment},
        is_ready=lambda: _listens(port),
    )


def _kept_in(folder: Path | None, name: Path) -> Path | None:
    if folder is None:
        return None
    file = folder / name
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return file


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((LOOPBACK, port)) == 0


def _new_master_key() -> str:
    return keyring.new_master_key(MASTER_KEY_ID)


def _new_password() -> str:
    return f"{FLOWER_USER}:{secrets.token_urlsafe(12)}"


def _kept(file: Path, make: Callable[[], str]) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        # Private from its first moment, and never written over: it opens what is in the database.
        file.touch(mode=0o600, exist_ok=False)
        file.write_text(f"{make()}\n")
    return file.read_text().strip()
