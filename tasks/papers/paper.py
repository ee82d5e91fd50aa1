"""A page before it is laid out: every text on it, already written for people. No markup."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from models.rules import money, period
from models.rules.decimals import plain
from models.rules.period import Period


@dataclass(frozen=True, slots=True)
class Party:
    """Who sends a page, or gets it: a name with lines below it."""

    name: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `notes` stand below its description, smaller."""

    description: str
    quantity: str
    unit_price: str
    amount: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sum:
    """One figure below the table; `strong` where the eye should land."""

    label: str
    amount: str
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Paper:
    """An invoice or a credit note. `stamp` says what it is besides: a draft, paid, void."""

    title: str
    number: str
    stamp: str
    sender: Party
    receiver: Party
    facts: tuple[tuple[str, str], ...]
    currency: str
    rows: tuple[Row, ...]
    sums: tuple[Sum, ...]
    remarks: tuple[str, ...] = ()
    footer: tuple[str, ...] = ()


def day(at: date) -> str:
    """A date that nobody reads wrong: "5 January 2026"."""
    return f"{at.day} {at:%B %Y}"


def days(first: date, after: date) -> str:
    """Days from the first up to the one before `after`; one day alone is not said twice."""
    last = date.fromordinal(after.toordinal() - 1)
    return day(first) if first == last else f"{day(first)} \N{EN DASH} {day(last)}"


def times(covers: Period, zone: ZoneInfo) -> str:
    """From when until when, to the second, in local time."""
    return f"{_time(covers.start, zone)} \N{EN DASH} {_time(covers.end, zone)}"


def _time(at: datetime, zone: ZoneInfo) -> str:
    local = at.astimezone(zone)
    return f"{day(local.date())} {local:%H:%M:%S}"


def local_day(at: datetime, zone: ZoneInfo) -> str:
    """The local day of an instant."""
    return day(period.local_day(at, zone))


def amount(minor: int, currency: str) -> str:
    """Minor units with all decimals of the currency: "1,234.50", "-1,235" of JPY."""
    return f"{money.from_minor(minor, currency):,f}"


def with_currency(minor: int, currency: str) -> str:
    """The same, with the code of the currency."""
    return money.format_minor(minor, currency)


def quantity(value: Decimal) -> str:
    """A quantity without trailing zeros, in groups of thousands."""
    return _grouped(plain(value))


def unit_price(value: Decimal | None, currency: str) -> str:
    """A unit price with the decimals of its currency at least, and all of its own."""
    return _grouped(ungrouped(value, currency)) if value is not None else ""


def ungrouped(value: Decimal, currency: str) -> str:
    """The same without groups of thousands, as programs read it."""
    whole, _, decimals = plain(value).partition(".")
    decimals = decimals.ljust(money.minor_unit(currency), "0")
    return f"{whole}.{decimals}" if decimals else whole


def percent(value: Decimal) -> str:
    """A percentage without trailing zeros: "7.25 %"."""
    return f"{plain(value)} %"


def party(snapshot: Mapping[str, Any] | None, *, unnamed: str) -> Party:
    """Who was written down as the issuer or the tenant of a page."""
    said = snapshot or {}
    lines: list[str] = [*_lines(said.get("address"))]
    if said.get("tax_number"):
        lines.append(f"Tax number {said['tax_number']}")
    if said.get("email"):
        lines.append(said["email"])
    return Party(said.get("name") or unnamed, tuple(lines))


def lines_of(snapshot: Mapping[str, Any] | None, key: str) -> Sequence[str]:
    """A text of several lines that was written down."""
    return _lines((snapshot or {}).get(key))


def _lines(text: str | None) -> Sequence[str]:
    return text.split("\n") if text else []


def _grouped(text: str) -> str:
    whole, point, decimals = text.partition(".")
    sign, digits = ("-", whole[1:]) if whole.startswith("-") else ("", whole)
    return f"{sign}{int(digits):,}{point}{decimals}"
