"""Prices by the amount of each event: a rate of it, or what the event itself said it costs."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Final

from models.rules import money
from models.rules.pricing import checks, step
from models.rules.pricing.checks import InvalidPrice
from models.rules.pricing.step import Step, StepKind

_ZERO: Final = Decimal(0)
_PERCENT: Final = 100

Rest = tuple[Decimal, int]
NO_REST: Final[Rest] = (_ZERO, 0)


@dataclass(frozen=True, slots=True)
class Percentage:
    """`rate_percent` of each event's amount and `fixed_per_event`. Raises InvalidPrice.

    Free are the first `free_events`, or the first events up to `free_amount` in all, whichever
    ends sooner (0 and None: no such limit, and nothing free without any); of the event that passes
    `free_amount` only what is above it is charged. An event costs at least `min_per_event` and at
    most `max_per_event`.
    """

    rate_percent: Decimal
    fixed_per_event: Decimal = _ZERO
    free_events: int | None = None
    free_amount: Decimal | None = None
    min_per_event: Decimal | None = None
    max_per_event: Decimal | None = None

    def __post_init__(self) -> None:
        checks.amount("rate_percent", self.rate_percent)
        checks.amount("fixed_per_event", self.fixed_per_event)
        checks.amount("free_amount", self.free_amount)
        checks.amount("min_per_event", self.min_per_event)
        checks.amount("max_per_event", self.max_per_event)
        if self.free_events is not None and not 0 <= self.free_events < 2**31:
            raise InvalidPrice.of("free_events", self.free_events, "must be 0 to 2^31 - 1")
        least, most = self.min_per_event, self.max_per_event
        if least is not None and most is not None and least > most:
            must = f"must be at most max_per_event, {most}"
            raise InvalidPrice.of("min_per_event", least, must)

    @property
    def has_allowance(self) -> bool:
        """Whether the first events are free, so that their order matters."""
        return bool(self.free_events or self.free_amount)

    @property
    def is_by_event(self) -> bool:
        """Whether more has to be known than the sum of the amounts."""
        limits = self.min_per_event, self.max_per_event
        fixed = bool(self.fixed_per_event)
        return fixed or self.has_allowance or any(limit is not None for limit in limits)

    @property
    def least(self) -> Decimal:
        """An amount costs `min_per_event` if it is positive and `rate_percent` of it is below."""
        return self._times_hundred(self.min_per_event, Decimal("-Infinity"))

    @property
    def most(self) -> Decimal:
        """An amount costs `max_per_event` if `rate_percent` of it is above."""
        return self._times_hundred(self.max_per_event, Decimal("Infinity"))

    def _times_hundred(self, cost: Decimal | None, otherwise: Decimal) -> Decimal:
        if cost is None:
            return otherwise
        with money.exact():
            return (cost - self.fixed_per_event) * _PERCENT

    def steps(
        self, amounts: Iterable[tuple[Decimal, int]], share: Fraction, *, rest: Rest = NO_REST
    ) -> Iterator[Step]:
        """Return what events cost, given as amounts in order and how many of each.

        The allowance is reduced to `share`, free events to a whole number. A negative amount takes
        back what an event of its size costs.

        Args:
            rest: events behind the allowance that cost neither the least nor the most, as what
                their amounts come to, and how many they are.
        """
        tally = _Tally(self, share)
        for amount, count in amounts:
            tally.add(Fraction(amount), count)
        return tally.steps(rest)


class _Tally:
    """Events as they come, sorted by what they cost."""

    def __init__(self, price: Percentage, share: Fraction) -> None:
        self._price = price
        self._rate = Fraction(price.rate_percent)
        self._least, self._most = price.least, price.most
        events, amount = price.free_events or None, price.free_amount or None
        self._has_allowance = price.has_allowance
        self._events_left = None if events is None else int(events * share)
        self._amount_left = None if amount is None else Fraction(amount) * share
        self._free = self._rated = step.NOTHING
        self._charged = self._at_least = self._at_most = 0

    def add(self, amount: Fraction, count: int) -> None:
        while self._has_allowance and count:
            amount_free = self._take(amount)
            if amount_free is None:
                break
            if amount_free < amount:
                self._charge(amount - amount_free, 1)
            count -= 1
        self._charge(amount, count)

    def _take(self, amount: Fraction) -> Fraction | None:
        """How much of an event is free; None if the allowance is spent."""
        if self._events_left == 0 or self._amount_left == 0:
            self._has_allowance = False
            return None
        taken = amount if self._amount_left is None else min(amount, self._amount_left)
        self._free += taken
        if self._amount_left is not None:
            self._amount_left -= taken
        if self._events_left is not None:
            self._events_left -= 1
        self._has_allowance = taken == amount
        return taken

    def _charge(self, amount: Fraction, count: int) -> None:
        sign = -1 if amount < 0 else 1
        hundredfold = abs(amount) * self._rate
        if hundredfold < self._least:
            self._at_least += sign * count
        elif hundredfold > self._most:
            self._at_most += sign * count
        else:
            self._rated += amount * count
            self._charged += sign * count

    def steps(self, rest: Rest) -> Iterator[Step]:
        price = self._price
        if self._free:
            yield step.free(self._free)
        rated, charged = self._rated + Fraction(rest[0]), self._charged + rest[1]
        amount = rated * self._rate / _PERCENT
        yield Step(StepKind.percent, rated, price.rate_percent, amount)
        if price.fixed_per_event:
            yield step.fee(StepKind.event_fee, charged, price.fixed_per_event)
        if price.min_per_event is not None and self._at_least:
            yield step.fee(StepKind.event_minimum, self._at_least, price.min_per_event)
        if price.max_per_event is not None and self._at_most:
            yield step.fee(StepKind.event_maximum, self._at_most, price.max_per_event)


@dataclass(frozen=True, slots=True)
class Dynamic:
    """What events say they cost, times `multiplier`. Raises InvalidPrice.

    Args:
        amount_field: the key of an event's metadata that says it, in major units of the currency.
        multiplier: 1.2 adds a fifth.
    """

    amount_field: str
    multiplier: Decimal = step.ONE

    def __post_init__(self) -> None:
        checks.amount("multiplier", self.multiplier)
        checks.key("amount_field", self.amount_field)

    def steps(self, charged: Decimal, share: Fraction) -> Iterator[Step]:  # noqa: ARG002
        """Return what events cost that said `charged` in all."""
        total = Fraction(charged)
        yield Step(StepKind.charged, total, self.multiplier, total * Fraction(self.multiplier))
