"""Prices as JSON: the one place that reads and writes their params.

The fields are those of the dataclasses, by their names and types; what belongs to the model and to
the tariff lies beside what belongs to the price.
"""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from decimal import Decimal
from enum import StrEnum
from functools import cache
from types import UnionType
from typing import Any, Final, TypeVar, get_args, get_origin, get_type_hints

from models.rules.decimals import plain
from models.rules.meter import MOST_DECIMALS, Rounding
from models.rules.pricing.checks import InvalidPrice
from models.rules.pricing.price import Price
from models.rules.pricing.reader import Reader
from models.rules.pricing.tariff import MODELS, Model, Tariff, Terms

Kind = TypeVar("Kind")

_TERMS_OF: Final = {model: terms for terms, model in MODELS.items()}


def read(model: Model, params: Mapping[str, Any]) -> Price:
    """Return the price that a model's params say; decimals are text.

    Raises:
        InvalidPrice: a field is wrong, missing or unknown; it says where, and what would be right.
    """
    reader = Reader(params)
    price = _read(Price, reader, model)
    reader.close()
    return price


def write(price: Price) -> dict[str, Any]:
    """Return a price's params, without what has its default; `read` reads them again."""
    return _written(price)


def _read(kind: Callable[..., Kind], reader: Reader, model: Model) -> Kind:
    hints = _hints(kind)
    declared = [one for one in fields(kind) if one.init]  # type: ignore[arg-type]  # a dataclass
    values = {one.name: _field(one, hints[one.name], reader, model) for one in declared}
    return reader.build(kind, **values)


def _field(one: Field[Any], hint: Any, reader: Reader, model: Model) -> Any:
    if hint is Tariff:
        return _read(Tariff, reader, model)
    if hint == Terms:
        return _read(_TERMS_OF[model], reader, model)
    arguments = get_args(hint)
    if get_origin(hint) is tuple:
        return _listed(one, arguments[0], reader, model)
    if get_origin(hint) is Mapping:
        return _mapping(reader.nested(one.name), arguments[1])
    return _single(one, hint, reader, model)


def _single(one: Field[Any], hint: Any, reader: Reader, model: Model) -> Any:
    kind, default = _optional(one, hint)
    given = () if default is MISSING else (default,)
    if kind is Rounding:
        return _rounding(reader.nested(one.name), model)
    if issubclass(kind, StrEnum):
        return reader.choice(one.name, kind, *given)
    return _READ_BY[kind](reader, one.name, *given)


_READ_BY: Final[Mapping[type, Callable[..., Any]]] = {
    Decimal: Reader.number,
    int: Reader.whole,
    str: Reader.text,
    bool: Reader.flag,
}


def _listed(one: Field[Any], kind: type[Kind], reader: Reader, model: Model) -> tuple[Kind, ...]:
    given = () if one.default is MISSING else (one.default,)
    found = []
    for nested in reader.listed(one.name, *given):
        found.append(_read(kind, nested, model))
        nested.close()
    return tuple(found)


def _mapping(reader: Reader | None, kind: Any) -> dict[str, Any]:
    if reader is None:
        return {}
    if kind is Decimal:
        return {name: reader.number(name) for name in reader.names}
    return {name: reader.texts(name) for name in reader.names}


def _rounding(reader: Reader | None, model: Model) -> Rounding | None:
    if reader is None:
        return None
    rounding = _read(Rounding, reader, model)
    reader.close()
    if abs(rounding.decimals) > MOST_DECIMALS:
        must = f"must be -{MOST_DECIMALS} to {MOST_DECIMALS}; -2 rounds to hundreds"
        raise InvalidPrice.of(reader.at("decimals"), rounding.decimals, must)
    return rounding


def _optional(one: Field[Any], hint: Any) -> tuple[Any, Any]:
    """The type of a field, and its default; None where it may be None."""
    if not isinstance(hint, UnionType):
        return hint, one.default
    (kind,) = (part for part in get_args(hint) if part is not type(None))
    return kind, None


def _written(value: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in (each for each in fields(value) if each.init):
        inner = getattr(value, one.name)
        if isinstance(inner, Tariff) or one.name == "terms":
            found |= _written(inner)
        elif inner is not None and inner != one.default:
            found[one.name] = _json(inner)
    return found


def _json(value: Any) -> Any:
    if is_dataclass(value):
        return _written(value)
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, Mapping):
        return {name: _json(inner) for name, inner in value.items()}
    return [_json(inner) for inner in value] if isinstance(value, tuple) else value


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)
