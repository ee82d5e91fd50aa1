"""The fields of one JSON object, each taken once; what is wrong or left over is refused by name."""

from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, Final, TypeVar

from models.rules.pricing.checks import InvalidPrice

Built = TypeVar("Built")
Choice = TypeVar("Choice", bound=StrEnum)

_REQUIRED: Final = object()
_TEXT: Final = 'must be a decimal as text, such as "0.002"'


class Reader:
    """Takes the fields of `value`, an object found at `path`. Every method raises InvalidPrice."""

    def __init__(self, value: Any, path: str = "") -> None:
        if not isinstance(value, Mapping):
            raise InvalidPrice.of(path or "params", value, "must be a JSON object")
        self._value = value
        self._path = path
        self._taken: set[str] = set()

    def build(self, make: Callable[..., Built], *given: Any, **fields: Any) -> Built:
        """Return what `make` makes, with the path in front of any field that it refuses."""
        try:
            return make(*given, **fields)
        except InvalidPrice as refusal:
            raise refusal.under(self._path) from None

    def number(self, name: str, default: Any = _REQUIRED) -> Any:
        """Take a decimal: text, or a whole number."""
        value = self._take(name, default)
        return value if value is default else _decimal(value, self.at(name))

    def numbers(self, name: str) -> list[Decimal]:
        """Take a list of decimals."""
        return [_decimal(one, self.at(name)) for one in self.values(name)]

    def whole(self, name: str, default: Any = _REQUIRED) -> Any:
        """Take a whole number, also as text."""
        value = self.number(name, default)
        if value is default:
            return value
        if not value.is_finite() or value != value.to_integral_value() or abs(value) >= 2**63:
            raise InvalidPrice.of(self.at(name), value, "must be a whole number")
        return int(value)

    def text(self, name: str, default: Any = _REQUIRED) -> Any:
        """Take a text."""
        value = self._take(name, default)
        if value is not default and not isinstance(value, str):
            raise InvalidPrice.of(self.at(name), value, "must be text")
        return value

    def flag(self, name: str, default: Any = _REQUIRED) -> Any:
        """Take true or false."""
        value = self._take(name, default)
        if value is not default and not isinstance(value, bool):
            raise InvalidPrice.of(self.at(name), value, "must be true or false")
        return value

    def choice(self, name: str, kind: type[Choice], default: Any = _REQUIRED) -> Any:
        """Take one of an enum's values."""
        value = self._take(name, default)
        if value is default:
            return value
        if value not in [one.value for one in kind]:
            raise InvalidPrice.of(self.at(name), value, f"must be one of {', '.join(kind)}")
        return kind(value)

    def values(self, name: str, default: Any = _REQUIRED) -> list[Any]:
        """Take a list of anything."""
        value = self._take(name, default)
        if not isinstance(value, list | tuple):
            raise InvalidPrice.of(self.at(name), value, "must be a list")
        return list(value)

    def listed(self, name: str, default: Any = _REQUIRED) -> "list[Reader]":
        """Take a list of objects."""
        return [
            Reader(one, f"{self.at(name)}[{place}]")
            for place, one in enumerate(self.values(name, default))
        ]

    def nested(self, name: str) -> "Reader | None":
        """Take an object, if it is there."""
        value = self._take(name, None)
        return None if value is None else Reader(value, self.at(name))

    @property
    def names(self) -> list[str]:
        """The names of all fields."""
        return [str(name) for name in self._value]

    def texts(self, name: str) -> tuple[str, ...]:
        """Take a text, or a list of texts; they come sorted, each once."""
        value = self._take(name, _REQUIRED)
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list | tuple) or not all(isinstance(one, str) for one in texts):
            raise InvalidPrice.of(self.at(name), value, "must be a text or a list of texts")
        return tuple(sorted(set(texts)))

    def raw(self, name: str) -> Any:
        """Take a field as it is; None if it is not there."""
        return self._take(name, None)

    def at(self, name: str) -> str:
        """Return where a field is."""
        return f"{self._path}.{name}" if self._path else name

    def close(self) -> None:
        """Refuse fields that nobody took."""
        for name in self._value:
            if name not in self._taken:
                near = get_close_matches(str(name), self._taken, n=1)
                hint = (
                    f"did you mean {near[0]}?"
                    if near
                    else f"known: {', '.join(sorted(self._taken))}"
                )
                raise InvalidPrice.of(self.at(name), self._value[name], f"must be left out; {hint}")

    def _take(self, name: str, default: Any) -> Any:
        self._taken.add(name)
        value = self._value.get(name)
        if value is not None:
            return value
        if default is _REQUIRED:
            near = get_close_matches(name, self._value, n=1)
            hint = f"; did you write it as {near[0]}?" if near else ""
            raise InvalidPrice.of(self.at(name), None, f"must be given{hint}")
        return default


def _decimal(value: Any, path: str) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise InvalidPrice.of(path, value, _TEXT)
    try:
        return Decimal(value)
    except InvalidOperation:
        raise InvalidPrice.of(path, value, _TEXT) from None
