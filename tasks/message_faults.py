"""What was wrong with the arguments of a task, fault by fault."""

import difflib
import functools
import re
from collections.abc import Mapping
from typing import Any, Final

import pydantic

from models.rules.refusal import Refusal
from tasks import expected, withholding
from tasks.expected import Schema
from tasks.spec import Spec

_PYDANTICS: Final = re.compile(r"^[A-Z]\w+( input)? should\b")
"""How its messages begin: "Input should be …", "String should have …"."""

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


def describe(
    error: pydantic.ValidationError, spec: Spec | None = None, *, schema: Schema | None = None
) -> list[dict[str, Any]]:
    """Return one mapping for each fault: `field`, `reason`, and `value` where it is short.

    Args:
        spec: the task whose arguments these are, if they are. Of what may be a secret there is no
            value.
        schema: the JSON Schema of what was given, where it is not a task's arguments. A reason says
            by it what would be right.
    """
    wanted = schema or {} if spec is None else _schema(spec.model)
    return [
        {
            "field": ".".join(str(part) for part in fault["loc"]) or None,
            "reason": _reason(fault, wanted),
            **_quoted(fault, spec),
        }
        for fault in error.errors(include_url=False, include_context=False)
    ]


@functools.cache
def _schema(model: type[pydantic.BaseModel]) -> Schema:
    return model.model_json_schema()


def _reason(fault: Mapping[str, Any], schema: Schema) -> str:
    field = fault["loc"]
    match fault["type"]:
        case "missing":
            wanted = expected.at(schema, field)
            return f"is missing; it must be {wanted}" if wanted else "is missing"
        case "extra_forbidden":
            known = expected.known(schema, field[:-1])
            alike = difflib.get_close_matches(str(field[-1]), known, n=1)
            if alike:
                return f"is not known here; did you mean {alike[0]}?"
            return f"is not known here; known are {', '.join(known)}" if known else "is not known"
        case _:
            return in_our_words(fault["msg"])


def in_our_words(message: str) -> str:
    """Return what pydantic says is wrong as our own reasons say it: with "must be", and no more."""
    return _PYDANTICS.sub("must", message.removeprefix("Value error, "))


def _quoted(fault: Mapping[str, Any], spec: Spec | None) -> dict[str, str]:
    if fault["type"] == "missing":
        return {}  # its value would be all that was given
    value = repr(fault["input"])
    is_shown = withholding.is_quotable(spec, fault["loc"], fault["input"])
    return {"value": value} if is_shown and len(value) <= LONGEST_VALUE else {}
