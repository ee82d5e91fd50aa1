"""What a process does before its first task: logs, settings, a connection of its own."""

import functools
import signal
import threading
from collections.abc import Callable
from typing import Any

from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery import signals

from models import database, migrations
from tasks import config, contract, shutdown, window
from worker import logs, settings


class DatabaseBehind(RuntimeError):
    """The database's schema is older or newer than this program."""


def prepare(chosen: settings.Settings | None = None) -> settings.Settings:
    """Wire this process: logs, database, what the tasks obey. Connects to nothing yet."""
    chosen = chosen or settings.load()
    logs.configure(chosen.log_format, chosen.log_level)  # type: ignore[arg-type]
    database.configure(chosen.database_options())
    config.use(chosen.task_config())
    return chosen


def require_current_schema() -> None:
    """Refuse to work on a database that this program does not fit.

    Raises:
        DatabaseBehind: naming both revisions and what to do.
    """
    found, wanted = migrations.current(database.engine()), migrations.head()
    if found != wanted:
        raise DatabaseBehind(
            f"the database is at revision {found or 'none'}, this program needs {wanted}; run "
            "`billing migrate`"
        )


@signals.setup_logging.connect
def _log_as_we_do(**_: Any) -> None:
    chosen = settings.load()
    logs.configure(chosen.log_format, chosen.log_level)  # type: ignore[arg-type]


@signals.worker_init.connect
def _before_the_pool(**_: Any) -> None:
    prepare()
    require_current_schema()
    database.dispose()


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
    database.dispose()


@signals.worker_process_shutdown.connect
def _before_the_end(**_: Any) -> None:
    window.close_sender()
    database.dispose()


@signals.task_failure.connect
def _keep_what_killed_its_worker(
    sender: Any = None,
    task_id: str = "",
    exception: BaseException | None = None,
    kwargs: dict[str, Any] | None = None,
    **_: Any,
) -> None:
    """Only the parent sees these: the child that ran the task is gone."""
    if isinstance(exception, WorkerLostError | TimeLimitExceeded):
        contract.keep_lost(sender.name, kwargs or {}, exception, task_id)
        database.dispose()
