"""Messages that no task's body could refuse: unreadable, unknown, or they killed their worker.

Seen by the worker's main process alone, and kept in `rejected_messages` like any other refusal.
"""

from typing import Any

import structlog
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery import signals

from models import database
from tasks import keeping, signing
from worker import pulse, task_log

log = structlog.get_logger(__name__)


@signals.task_failure.connect
def _keep_what_killed_its_worker(
    sender: Any = None,
    task_id: str = "",
    exception: BaseException | None = None,
    kwargs: dict[str, Any] | None = None,
    **_: Any,
) -> None:
    if not isinstance(exception, WorkerLostError | TimeLimitExceeded):
        return
    log.error(
        "task.finished",
        task=sender.name,
        task_id=task_id,
        outcome="lost",
        error=type(exception).__name__,
        **task_log.tenant_of(kwargs),
    )
    keeping.keep_lost(sender.name, kwargs or {}, exception, task_id)
    # The pool forks from this process: it keeps no connection.
    database.dispose()


@signals.task_unknown.connect
def _keep_what_nobody_knows(message: Any = None, name: str = "", id: str = "", **_: Any) -> None:  # noqa: A002 (Celery's name)
    if message.headers.get(pulse.SENT_BY_BEAT):
        # A bell of a newer or older timetable: it carries nothing, and the next one rings soon.
        pulse.hear_beat()
        log.warning("beat.unknown_task", task=name)
        return
    keeping.keep_unknown(str(name), _arguments(message.payload), str(id))
    database.dispose()


@signals.task_rejected.connect
def _keep_what_is_no_call(message: Any = None, exc: BaseException | None = None, **_: Any) -> None:
    headers = message.headers if isinstance(message.headers, dict) else {}
    if isinstance(exc, signing.Untrusted):
        keeping.keep_untrusted(
            str(headers.get("task", "")),
            _arguments(_readable(message)),
            str(headers.get("id", "")),
            fault=exc,
        )
        database.dispose()
        return
    keeping.keep_unreadable(
        str(headers.get("task", "")),
        {"payload": _readable(message)},
        str(headers.get("id", "")),
        # Its text may quote the payload.
        reason="the message is no call of a task" if exc is None else type(exc).__name__,
    )
    database.dispose()


def _arguments(payload: Any) -> dict[str, Any]:
    """Return the keyword arguments of a message of Celery's protocol 2, or what there is of it."""
    match payload:
        case [[], dict() as kwargs, *_]:
            return kwargs
        case _:
            return {"payload": payload}


def _readable(message: Any) -> Any:
    """Return a message's payload, as far as it can be decoded."""
    try:
        return message.payload
    except Exception:  # noqa: BLE001 (whatever a decoder finds wrong with a stranger's bytes)
        return str(message.body)
