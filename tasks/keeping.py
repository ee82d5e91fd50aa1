"""Messages that could not be carried out, kept for an operator."""

from typing import Any

import structlog

from models import database
from models.store import inbox
from tasks import clock, credit_errors, signing, trying, withholding
from tasks.spec import REGISTRY, Spec

log = structlog.get_logger(__name__)


def keep_lost(name: str, kwargs: dict[str, Any], error: BaseException, message_id: str) -> None:
    """Keep a command whose process died or ran out of time too often to try again."""
    spec = REGISTRY.get(name)
    if spec is not None:
        fault = {"field": None, "reason": f"{type(error).__name__}: {error}"}
        keep(spec, kwargs, message_id, code="worker.lost", errors=[fault])


def keep_unknown(name: str, kwargs: dict[str, Any], message_id: str) -> None:
    """Keep a message for a task that this program does not have."""
    fault = {"field": None, "reason": f"no task is named {name!r}"}
    _store(name, kwargs, message_id, code="task.unknown", errors=[fault])


def keep_unreadable(name: str, kwargs: dict[str, Any], message_id: str, *, reason: str) -> None:
    """Keep a message that is not made as a task's message is.

    Args:
        name: what it says its task is, or nothing.
        kwargs: what could be read of it.
        reason: why it is none, without a word of what it says.
    """
    fault = {"field": None, "reason": reason}
    _store(name, kwargs, message_id, code="message.unreadable", errors=[fault])


def keep_untrusted(
    name: str, kwargs: dict[str, Any], message_id: str, *, fault: signing.Untrusted
) -> None:
    """Keep a message that nobody with a key has sent, or not as it is."""
    errors = [{"field": None, "reason": str(fault)}]
    _store(name, kwargs, message_id, code=fault.code, errors=errors)


def keep(
    spec: Spec,
    kwargs: dict[str, Any],
    message_id: str | None,
    *,
    code: str,
    errors: list[dict[str, Any]],
) -> None:
    """Keep a command's message that failed; a job's is rung again by beat."""
    if message_id is None or spec.kind == "job":
        return
    trying.bounded(
        spec, message_id, lambda: _store(spec.name, kwargs, message_id, code=code, errors=errors)
    )


def _store(
    name: str, kwargs: dict[str, Any], message_id: str, *, code: str, errors: list[dict[str, Any]]
) -> None:
    tenant_id = kwargs.get("tenant_id")
    rejection = inbox.Rejection(
        task=name,
        tenant_id=tenant_id if isinstance(tenant_id, str) else None,
        payload=withholding.kept(name, kwargs),
        code=code,
        errors=errors,
        message_id=message_id,
    )
    with database.transaction() as session:
        at = clock.now()
        ids = inbox.keep_rejections(session, [rejection], now=at)
        credit_errors.tell(session, rejection, ids[0], now=at)
    log.warning("task.rejected", task=name, code=code, rejected_message_id=ids[0])
