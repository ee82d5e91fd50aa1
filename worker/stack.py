"""A whole system on one machine: the servers it needs, its settings, its processes."""

import contextlib
import functools
import socket
from collections.abc import Iterator
from pathlib import Path

from models import database, migrations
from tasks.queues import Queue
from webhooks import keyring
from worker import boot, local, processes, programs, secret_files, settings

LOOPBACK = "127.0.0.1"
LOOPBACK_HOSTS = "127.0.0.0/8,::1/128,localhost"

SOFT_SHUTDOWN_SECONDS = 5
"""Shorter than in production: a developer waits for it after Ctrl-C."""

EXTRA_PATIENCE_SECONDS = 10.0
"""What a worker needs beyond its soft shutdown before it is killed."""

CONCURRENCY = 2

FLOWER = "flower"
"""The name of Flower's process."""

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

    Loopback endpoints over plain http are allowed, a short soft shutdown, and master keys and
    peppers, which are made once and kept in the data folder.
    """
    unset = {
        "BILLING_WEBHOOK_ALLOW_HTTP": ("allow_http", "true"),
        "BILLING_WEBHOOK_PRIVATE_HOSTS": ("private_hosts", LOOPBACK_HOSTS),
        "BILLING_SOFT_SHUTDOWN_SECONDS": ("soft_shutdown_seconds", str(SOFT_SHUTDOWN_SECONDS)),
    }
    extra = {
        name: value
        for name, (field, value) in unset.items()
        if field not in chosen.model_fields_set
    }
    if chosen.master_keys is None:
        extra["BILLING_MASTER_KEYS"] = _kept(chosen.local_folder / settings.MASTER_KEYS_FILE)
    if chosen.trial_peppers is None:
        extra["BILLING_TRIAL_PEPPERS"] = _kept(chosen.local_folder / settings.TRIAL_PEPPERS_FILE)
    return extra


def migrate(*, wait: float = boot.PATIENCE_SECONDS) -> tuple[str | None, str]:
    """Wait up to `wait` seconds for the database and bring it to this program's revision.

    Returns the revision before and after.


    Raises:
        DatabaseUnreachable: it did not answer in time.
    """
    boot.wait_for_database(wait)
    before = migrations.current(database.engine())
    migrations.upgrade(database.engine())
    return before, migrations.head()


def programs_of(
    environment: dict[str, str], *, ready: Path, soft_shutdown: float, flower_port: int | None
) -> list[processes.Program]:
    """Return the processes of the system, in the order in which they start.

    Args:
        environment: variables of all of them.
        ready: an empty folder of ours, where they say that they are ready.
        soft_shutdown: seconds a worker gets to finish its tasks.
        flower_port: where Flower listens on loopback; None for no Flower.
    """
    patience = soft_shutdown + EXTRA_PATIENCE_SECONDS
    invocations = {
        "worker": programs.worker(queues=(Queue.usage, Queue.billing), concurrency=CONCURRENCY),
        "webhooks": programs.worker(queues=(Queue.webhooks,), concurrency=CONCURRENCY),
        "beat": programs.beat(),
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
        found.append(_flower(environment, flower_port))
    return found


def require_free(port: int) -> None:
    """Raise PortTaken when something listens on a loopback port."""
    if _listens(port):
        raise PortTaken(f"port {port} of {LOOPBACK} is in use; choose another with --port")


def _flower(environment: dict[str, str], port: int) -> processes.Program:
    invocation = programs.flower(address=LOOPBACK, port=port)
    return processes.Program(
        name=FLOWER,
        command=invocation.command,
        environment={**environment, **invocation.environment},
        is_ready=lambda: _listens(port),
    )


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((LOOPBACK, port)) == 0


def _kept(file: Path) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        # Private from its first moment, and never written over: it opens what is in the database.
        file.touch(mode=0o600, exist_ok=False)
        file.write_text(f"{keyring.new_master_key(MASTER_KEY_ID)}\n")
    return file.read_text().strip()
