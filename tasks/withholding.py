"""What is kept of a message that could not be taken: all but what may be a secret."""

import base64
import contextlib
from collections.abc import Mapping
from typing import Any, Final

from tasks.spec import NOT_KEPT, REGISTRY, SECRET_FIELDS, Spec

DEEPEST: Final = 32
"""Levels that are looked through for secrets; what lies deeper is not kept."""

URL: Final = "url"
"""Refused when it has a user and a password in it, and then not kept for the same reason."""

PAYLOAD: Final = "payload"
"""A message within a message: of any task, or one that nobody could read."""


def kept(task: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message's arguments as they may be kept.

    Of a task that takes secrets nothing stays that the task does not know: it may be a secret under
    a misspelled name. Of a task that nobody knows, secrets are looked for by their names, however
    deep. Other tasks take none: what they were sent stays, but for what is named like one.
    """
    spec = REGISTRY.get(task)
    if spec is None:
        return {key: _without_secrets(key, value) for key, value in arguments.items()}
    return {
        key: NOT_KEPT if value and _is_withheld(spec, key, value) else value
        for key, value in arguments.items()
    }


def is_quotable(spec: Spec | None, field: tuple[int | str, ...], value: Any) -> bool:
    """Tell whether the faulty value of a field may be shown beside what is wrong with it.

    Args:
        spec: the task whose arguments these are, or None for a part of them that is none.
        field: the way to it from the top; () is all of them.
    """
    if not SECRET_FIELDS.isdisjoint(field):
        return False
    if spec is None or not _takes_secrets(spec):
        return True
    is_plain = bool(field) and not isinstance(value, Mapping | list | tuple)
    return is_plain and not _is_withheld(spec, str(field[0]), value)


def _takes_secrets(spec: Spec) -> bool:
    """Tell whether a task's arguments may hold secrets, or another message that may."""
    return not (SECRET_FIELDS | {PAYLOAD}).isdisjoint(spec.model.model_fields)


def _is_withheld(spec: Spec, key: str, value: Any) -> bool:
    if key in SECRET_FIELDS:
        return True
    is_unknown = key == PAYLOAD or key not in spec.model.model_fields
    return _takes_secrets(spec) and (is_unknown or _has_credentials(key, value))


def _without_secrets(key: str, value: Any, depth: int = 0) -> Any:
    if value and (key.lower() in SECRET_FIELDS or depth == DEEPEST or _has_credentials(key, value)):
        return NOT_KEPT
    if isinstance(value, Mapping):
        return {name: _without_secrets(str(name), item, depth + 1) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_secrets(key, item, depth + 1) for item in value]
    return value


def _has_credentials(key: str, value: Any) -> bool:
    if not isinstance(value, str):
        return False
    if key.lower() == URL:
        return "@" in value
    return key == PAYLOAD and _speaks_of_secrets(value)


def _speaks_of_secrets(text: str) -> bool:
    """Tell whether a text that nobody could read names a secret, also when it is in base64."""
    read = text
    with contextlib.suppress(ValueError):
        read += base64.b64decode(text, validate=True).decode("utf-8", "replace")
    return any(name in read.lower() for name in (*SECRET_FIELDS, "whsec_", "whsk_"))
