"""One log line for each task that ended, and whose task it is in every line that it writes.

A task that beat rang for and that ended well says so at DEBUG: there is one each second, and most
find nothing to do.
"""

import dataclasses
import logging
import time
from contextvars import ContextVar
from typing import Any

import structlog
from celery import signals

from tasks import metrics, origin, tracing
from tasks.tracing import Kind
from worker import pulse

LONGEST_TENANT = 64

log = structlog.get_logger(__name__)
_started: ContextVar[float | None] = ContextVar("started", default=None)
_span: ContextVar[tracing.Span | None] = ContextVar("span", default=None)


@signals.task_prerun.connect
def _before_a_task(
    sender: Any = None, task_id: str = "", kwargs: dict[str, Any] | None = None, **_: Any
) -> None:
    structlog.contextvars.bind_contextvars(task=sender.name, task_id=task_id, **tenant_of(kwargs))
    headers = {name: sender.request.get(name) for name in (origin.CORRELATION, origin.TRACEPARENT)}
    came = origin.of_message(headers, message_id=task_id)
    span = tracing.begin(
        f"process {sender.name}",
        Kind.consumer,
        parent=came.traceparent,
        **{"messaging.system": "celery", "messaging.message.id": task_id},
        correlation_id=came.correlation_id,
        **tenant_of(kwargs),
    )
    _span.set(span)
    origin.begin(came if span is None else dataclasses.replace(came, traceparent=span.traceparent))
    _started.set(time.monotonic())


@signals.task_postrun.connect
def _after_a_task(
    sender: Any = None, state: str | None = None, retval: Any = None, **_: Any
) -> None:
    began = _started.get()
    spent = {} if began is None else {"milliseconds": round((time.monotonic() - began) * 1000)}
    level = logging.WARNING
    if state == "SUCCESS":
        level = logging.DEBUG if sender.request.get(pulse.SENT_BY_BEAT) else logging.INFO
    outcome = (state or "UNKNOWN").lower()
    log.log(level, "task.finished", outcome=outcome, **spent, **_cause(retval))
    metrics.TASKS.add(task=sender.name, outcome=outcome)
    if began is not None:
        metrics.TASK_SECONDS.take(time.monotonic() - began, task=sender.name)
    span = _span.get()
    if span is not None:
        cause = _cause(retval)
        span.end(error=cause.get("code") or cause.get("error"), outcome=outcome)
        _span.set(None)
    origin.forget()
    structlog.contextvars.clear_contextvars()


def tenant_of(kwargs: dict[str, Any] | None) -> dict[str, str]:
    """Return the `tenant_id` among a task's arguments, as something to log."""
    tenant_id = (kwargs or {}).get("tenant_id")
    return {"tenant_id": tenant_id[:LONGEST_TENANT]} if isinstance(tenant_id, str) else {}


def _cause(answer: Any) -> dict[str, str]:
    """Name what went wrong. Its message may quote the payload, which no log gets to see."""
    if not isinstance(answer, BaseException):
        return {}
    code = getattr(answer, "code", None)
    return {"error": type(answer).__name__, **({"code": code} if isinstance(code, str) else {})}
