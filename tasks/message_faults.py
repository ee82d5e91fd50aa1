"""What was wrong with the arguments of a task, fault by fault."""

from collections.abc import Mapping
from typing import Any

import pydantic

from models.rules.refusal import Refusal
from tasks import withholding
from tasks.spec import Spec

LONGEST_VALUE = 80
"""Characters of a faulty value that is quoted beside its reason."""


class InvalidMessage(Refusal):
    """A task's arguments do not fit its schema."""

    code = "message.invalid"

    def __init__(
        self,
        message: str,
        code: str | None = None,
        field: str | None = None,
        *,
        errors: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(message, code, field)
        self.errors = errors or []


def describe(error: pydantic.ValidationError, spec: Spec | None = None) -> list[dict[str, Any]]:
    """Return one mapping for each fault: `field`, `reason`, and `value` where it is short.

    Args:
        spec: the task whose arguments these are, if they are. Of what may be a secret there is no
            value.
    """
    return [
        {
            "field": ".".join(str(part) for part in fault["loc"]) or None,
            "reason": fault["msg"],
            **_quoted(fault, spec),
        }
        for fault in error.errors(include_url=False, include_context=False)
    ]


def _quoted(fault: Mapping[str, Any], spec: Spec | None) -> dict[str, str]:
    if fault["type"] == "missing":
        return {}  # its value would be all that was given
    value = repr(fault["input"])
    is_shown = withholding.is_quotable(spec, fault["loc"], fault["input"])
    return {"value": value} if is_shown and len(value) <= LONGEST_VALUE else {}
