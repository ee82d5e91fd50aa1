"""What a period that was invoiced costs by now, less what was billed of it."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from models.rules import billing, money
from models.rules.billing import Days, Line
from models.rules.period import Period

BY_USAGE: Final = frozenset({billing.USAGE, billing.COMMITMENT})
"""Kinds of lines that late usage changes."""

Key = tuple[UUID, UUID, str | None, Period]
"""What is one thing over one stretch of time: a version of a price for a subscription."""


@dataclass(frozen=True, slots=True)
class Billed:
    """An invoice with a number: its lines, and all that was billed or taken back of them since.

    `timezone` is the one that its days are told in.
    """

    invoice_id: UUID
    number: str
    days: Days
    lines: Sequence[Line]
    since: Sequence[Line] = ()
    timezone: str = "UTC"


def adjustments(billed: Billed, costs: Iterable[Line]) -> list[Line]:
    """Return the lines that make what was billed come to what the period costs, up or down.

    What comes to the same has none: so once they are billed too, nothing is left. Fees do not
    depend on usage and are left alone.

    Args:
        costs: the lines that the invoice would have now, by the versions of prices of then.
    """
    amounts, quantities = _sums([*billed.lines, *billed.since])
    found = []
    for line in costs:
        key = key_of(line)
        amount = line.amount_minor - amounts.get(key, 0)
        if line.kind not in BY_USAGE or not amount:
            continue
        with money.exact():
            quantity = line.quantity - quantities.get(key, Decimal(0))
        found.append(_adjustment(billed, line, amount, quantity))
    return found


def shared_out(amount: int, quantity: Decimal, billed: Iterable[Line]) -> list[tuple[int, Decimal]]:
    """Take an amount back from lines that billed it, one after the other, as far as each reaches.

    Args:
        amount, quantity: what is to be taken back, 0 or more.

    Returns:
        Amount and quantity for each line; nothing of one that was below zero.
    """
    found = []
    for line in billed:
        part = min(amount, max(0, line.amount_minor))
        units = quantity if part == amount else min(quantity, line.quantity) if part else Decimal(0)
        found.append((part, units))
        amount -= part
        with money.exact():
            quantity -= units
    return found


def key_of(line: Line) -> Key:
    """Return what a line charges for."""
    return line.subscription_id, line.price_id, line.metric, line.period


def _sums(lines: Iterable[Line]) -> tuple[Mapping[Key, int], Mapping[Key, Decimal]]:
    amounts: dict[Key, int] = defaultdict(int)
    quantities: dict[Key, Decimal] = defaultdict(Decimal)
    with money.exact():
        for line in lines:
            amounts[key_of(line)] += line.amount_minor
            quantities[key_of(line)] += line.quantity
    return amounts, quantities


def _adjustment(billed: Billed, line: Line, amount: int, quantity: Decimal) -> Line:
    last = billed.days.after - timedelta(days=1)
    told: dict[str, Any] = {key: line.details[key] for key in _KEPT if key in line.details}
    return replace(
        line,
        kind=billing.ADJUSTMENT,
        description=(
            f"{line.description}: late usage of {billed.days.first} to {last} ({billed.number})"
        ),
        quantity=quantity,
        unit_amount=None,
        amount_minor=amount,
        details={
            **told,
            "adjusts": billed.number,
            "timezone": billed.timezone,
            "billed_minor": line.amount_minor - amount,
            "costs_minor": line.amount_minor,
        },
        adjusts=billed.invoice_id,
    )


_KEPT: Final = (
    "plan_key", "price_key", "model", "days", "days_of_period", "seconds", "seconds_of_period",
)  # fmt: skip
