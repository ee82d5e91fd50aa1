"""Which messages a worker acts upon: ours by name, JSON, and signed where keys are set."""

from collections.abc import Mapping
from typing import Any

from celery import signals

from tasks import signing
from tasks.signing import MessageKeys
from tasks.spec import REGISTRY
from worker import messages

_keys: MessageKeys | None = None
_demanded = True


def use(keys: MessageKeys | None, *, demanded: bool = True) -> None:
    """Sign what this process sends from now on, and demand it of what it receives.

    Args:
        keys: None to do neither.
        demanded: whether a message without a signature is refused; a wrong one always is.
    """
    global _keys, _demanded
    _keys, _demanded = keys, demanded


def require(message: Any) -> None:
    """Return if a message that came may be acted upon.

    Raises:
        Untrusted: it may not.
    """
    if _keys is not None and isinstance(message.headers, dict):
        body = message.body
        _keys.check(
            message.headers,
            body.encode() if isinstance(body, str) else bytes(body),
            demanded=_demanded,
        )


def is_ours(headers: Any) -> bool:
    """Tell whether a message calls one of our tasks, not one that Celery brings along."""
    return not isinstance(headers, dict) or headers.get("task") in REGISTRY


# Every way to send ends here: by name, by import, by beat, and when a task is tried again.
@signals.before_task_publish.connect
def _sign(body: Any = None, headers: dict[str, Any] | None = None, **_: Any) -> None:
    if _keys is not None and headers is not None:
        headers |= _signature(_keys, headers, body)


def _signature(keys: MessageKeys, headers: Mapping[str, Any], body: Any) -> dict[str, str]:
    # The producer writes it once more, to the same bytes: its writer is this one.
    written = body if isinstance(body, bytes) else messages.write(body).encode()
    return {signing.HEADER: keys.sign(str(headers["id"]), str(headers["task"]), written)}
