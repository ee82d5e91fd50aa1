"""What a process does before its first task: logs, settings, a connection of its own."""

import functools
import gc
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

import structlog
from celery import signals

from models import database, failures, migrations
from models.store import credit_ledger
from tasks import config, ledger_news, providers, shutdown, tracing, window
from worker import inherited, ledger_log, logs, metrics, settings, traces, trust
from worker.importing import undisturbed

PATIENCE_SECONDS = 60.0
"""How long a process waits for a database that is not up yet."""

POLL_SECONDS = 1.0

MANY_OBJECTS = 50_000
"""Objects made before Python looks for rings of dead ones: more than a chunk of work keeps alive at
a time. By its own 700 it looked so often that a billing run took half as long again."""

EXIT_REFUSED = 2
"""Exit status of a process that will not start as things are."""

log = structlog.get_logger(__name__)

_starter_pid = os.getpid()
"""Of the process that imported this: a pool's processes that were forked are others."""


class DatabaseBehind(RuntimeError):
    """The database's schema is not the one this program was written for."""


class DatabaseAhead(RuntimeError):
    """The database was migrated by a newer program than this one."""


class DatabaseUnreachable(RuntimeError):
    """No connection to the database can be made."""


def prepare(chosen: settings.Settings | None = None) -> settings.Settings:
    """Wire this process: logs, database, what the tasks obey. Connects to nothing yet.

    Raises:
        InvalidSettings: a variable of the environment can not be used.
    """
    # All tasks: what is secret in any message is known, and one that is sent finds its queue.
    with undisturbed():
        importlib.import_module("worker.celery")
    chosen = chosen or settings.load()
    logs.configure(chosen.log_format, chosen.log_level)
    ledger_log.keep(wanted=chosen.log_ledger)
    credit_ledger.tell_within(ledger_news.tell if chosen.tell_ledger else None)
    database.configure(chosen.database_options())
    config.use(chosen.task_config())
    # Read here too: keys that can not be read end the start with one line.
    trust.use(chosen.signing_keys(), demanded=chosen.message_signatures == "required")
    metrics.count_in(chosen.metrics_folder)
    traces.use(chosen)
    return chosen


def collect_rarely() -> None:
    """Let Python look for unreachable objects less often, and never among those there are now."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(MANY_OBJECTS, 20, 20)


def wait_for_database(seconds: float = PATIENCE_SECONDS) -> None:
    """Return when the database answers.

    Raises:
        DatabaseUnreachable: it does not within `seconds`, with the reason of the last try.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            migrations.current(database.engine())
        except Exception as error:
            if not failures.is_unreachable(error):
                raise
            reason = failures.reason(error)
            if time.monotonic() >= deadline:
                raise DatabaseUnreachable(f"the database can not be reached: {reason}") from None
            log.info("database.awaited", reason=reason)
            time.sleep(POLL_SECONDS)
        else:
            return


def require_current_schema() -> None:
    """Refuse to work on a database that this program does not fit.

    A newer one may say that it does: then a worker of the release before, started again in the
    middle of a deploy, goes on.

    Raises:
        DatabaseBehind: naming both revisions and what to do.
    """
    found, wanted = migrations.current(database.engine()), migrations.head()
    if found == wanted:
        return
    if found is not None and not migrations.is_known(found):
        if migrations.fits(database.engine()):
            log.info("database.newer", revision=found, ours=wanted)
            return
        raise DatabaseBehind(
            f"the database is at revision {found}, which is newer than this program's {wanted}; "
            "run the program that migrated it"
        )
    raise DatabaseBehind(
        f"the database is at revision {found or 'none'}, this program needs {wanted}; run "
        "`billing migrate`"
    )


def _refusing(step: Callable[[], Any]) -> None:
    """Run a step of the start; end the process with one line if it can not be done.

    Celery logs what a signal's receiver raises and goes on, but lets SystemExit pass.
    """
    try:
        step()
    except (settings.InvalidSettings, DatabaseBehind, DatabaseUnreachable) as error:
        _refuse(error)


def _refuse(error: Exception) -> NoReturn:
    log.error("start.refused", cause=type(error).__name__, reason=str(error))
    sys.exit(EXIT_REFUSED)


@signals.setup_logging.connect
def _log_as_we_do(**_: Any) -> None:
    chosen = settings.load()
    logs.configure(chosen.log_format, chosen.log_level)


def _check_database() -> None:
    prepare()
    wait_for_database()
    require_current_schema()


@signals.worker_init.connect
def _before_the_pool(**_: Any) -> None:
    _refusing(_check_database)
    # Forked children must not find a connection to share.
    database.dispose()
    # Before the fork: what nobody looks at stays shared between parent and children.
    collect_rarely()


@signals.worker_ready.connect
def _tell_the_children_of_the_end(**_: Any) -> None:
    """Celery tells its children nothing at a soft shutdown, and sends `worker_shutting_down` only
    after it has waited for them. Long runs want to end by themselves in that time."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT):
        handler = signal.getsignal(number)
        if callable(handler):
            signal.signal(number, functools.partial(_begin_shutdown, handler))


def _begin_shutdown(handler: Callable[[int, Any], Any], number: int, frame: Any) -> None:
    shutdown.begin()
    handler(number, frame)


@signals.worker_process_init.connect
def _after_the_fork(**_: Any) -> None:
    if os.getpid() != _starter_pid:
        inherited.let_go()
    # Again, for pools that spawn instead of forking.
    _refusing(prepare)


@signals.worker_process_shutdown.connect
def _before_the_end(**_: Any) -> None:
    window.close_sender()
    providers.close()
    tracing.close()
    database.dispose()


@signals.beat_init.connect
def _before_the_first_tick(**_: Any) -> None:
    # All that it needs: it has no database.
    _refusing(lambda: traces.use(settings.load()))
    log.info("beat.started")
