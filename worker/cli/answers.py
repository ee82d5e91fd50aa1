"""JSON Schemas of answers.

Answers are `typing.TypedDict`s, which pydantic reads from Python 3.12 on only; before, and for the
same text everywhere, each is turned into a model with the same fields.
"""

import functools
import operator
import types
import typing
from typing import Any

import pydantic


def json_schema(answer: Any) -> dict[str, Any]:
    """Return the JSON Schema of an answer's type."""
    return pydantic.TypeAdapter(_readable(answer)).json_schema(mode="serialization")


def _readable(kind: Any) -> Any:
    if typing.is_typeddict(kind):
        return _as_model(kind)
    arguments = typing.get_args(kind)
    origin = typing.get_origin(kind)
    if not arguments or origin is typing.Literal:
        return kind
    if origin is typing.Annotated:
        return typing.Annotated[(_readable(arguments[0]), *kind.__metadata__)]
    readable = tuple(_readable(argument) for argument in arguments)
    if origin in (types.UnionType, typing.Union):
        return functools.reduce(operator.or_, readable)
    return origin[readable]


@functools.cache
def _as_model(kind: Any) -> type[pydantic.BaseModel]:
    hints = typing.get_type_hints(kind, include_extras=True)
    fields: dict[str, Any] = {}
    for name, hint in hints.items():
        if typing.get_origin(hint) in (typing.Required, typing.NotRequired):
            (hint,) = typing.get_args(hint)  # noqa: PLW2901 (the same hint, unwrapped)
        optional = pydantic.Field(default_factory=lambda: None)
        fields[name] = (_readable(hint), ... if name in kind.__required_keys__ else optional)
    return pydantic.create_model(kind.__name__, __doc__=kind.__doc__, **fields)
