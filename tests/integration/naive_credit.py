"""Credit as a list of lots and a number that is owed: nothing locked, cached or set-based.

What the program has to come to, told as plainly as can be. Times are days of a story.
"""

import math
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

FOREVER = math.inf


@dataclass(eq=False)
class Lot:
    """A batch. What is `held` is part of what is `left`."""

    name: str
    left: Decimal
    priority: int
    created: float
    begins: float
    ends: float
    held: Decimal = Decimal(0)
    closed: bool = False

    @property
    def free(self) -> Decimal:
        return self.left - self.held

    def usable(self, day: float) -> bool:
        return not self.closed and self.left > 0 and self.begins <= day < self.ends


Parts = list[tuple[Lot | None, Decimal]]
"""Amounts of lots; without a lot it is of the debt."""


@dataclass(eq=False)
class Hold:
    """A reservation."""

    slices: Parts
    ends: float
    state: str = "held"

    @property
    def amount(self) -> Decimal:
        return total(self.slices)


@dataclass(eq=False)
class Use:
    """What was taken, in order, and how much of it went back."""

    taken: Parts
    back: Decimal = Decimal(0)


@dataclass(eq=False)
class Account:
    """A product of a tenant."""

    policy: str
    lots: list[Lot] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)
    debt: Decimal = Decimal(0)

    # What it says.

    @property
    def balance(self) -> Decimal:
        return sum((lot.left for lot in self.lots), Decimal(0)) - self.debt

    def held(self, day: float) -> Decimal:
        return total([part for hold in self._open(after=day) for part in hold.slices])

    def available(self, day: float) -> Decimal:
        """A hold whose time is over counts no more; what is owed can not be spent."""
        kept: dict[Lot | None, Decimal] = {}
        for hold in self._open(after=day):
            for lot, amount in hold.slices:
                kept[lot] = kept.get(lot, Decimal(0)) + amount
        free = sum((lot.left - kept.get(lot, Decimal(0)) for lot in self._usable(day)), Decimal(0))
        return max(free - self.debt, Decimal(0))

    # What happens to it.

    def grant(self, lot: Lot, day: float) -> None:
        self.lots.append(lot)
        self._settle(day)

    def consume(self, amount: Decimal, day: float) -> Use | Decimal:
        """What was taken, or what there is if that is too little."""
        self._update(day)
        free = self._free(day)
        if free < amount:
            return free
        return Use(self._take(amount, day))

    def deduct(self, amount: Decimal, day: float) -> Use:
        self._update(day)
        return Use(self._take_or_owe(amount, day))

    def reserve(self, amount: Decimal, day: float, ends: float) -> Hold | Decimal:
        self._update(day)
        free = self._free(day)
        if free < amount:
            return free
        hold = Hold(self._plan(amount, day), ends)
        for lot, part in hold.slices:
            assert lot is not None
            lot.held += part
        self.holds.append(hold)
        return hold

    def commit(self, hold: Hold, actual: Decimal, above: str, day: float) -> Use | str:
        """What was charged, or why nothing was."""
        if hold.state != "held":
            return hold.state
        if hold.ends <= day:
            self._give_back(hold, "expired")
            self._settle(day)
            return "expired"
        beyond = actual - hold.amount
        if beyond > 0 and above == "refuse":
            return "above_hold"
        if beyond > 0:
            self._update(day)
        taken = self._charge(hold, min(actual, hold.amount))
        if beyond > 0 and above == "overdraft":
            taken += self._take_or_owe(beyond, day)
        elif beyond > 0:
            taken += self._take(min(beyond, self._free(day)), day)
        else:
            self._settle(day)
        return Use(taken)

    def release(self, hold: Hold, day: float) -> str:
        """How the hold has ended, or "lost" and how if it had before."""
        if hold.state != "held":
            return f"lost: {hold.state}"
        self._give_back(hold, "expired" if hold.ends <= day else "released")
        self._settle(day)
        return hold.state

    def refund(self, use: Use, amount: Decimal | None, day: float) -> Decimal:
        """How much can still be given back, before; if it is less than asked for nothing is."""
        rest = total(use.taken) - use.back
        wanted = rest if amount is None else amount
        if not rest or wanted > rest:
            return rest
        skip = use.back
        use.back += wanted
        for lot, amount_taken in reversed(use.taken):
            skipped = min(skip, amount_taken)
            skip -= skipped
            part = min(amount_taken - skipped, wanted)
            wanted -= part
            self._return(lot, part, day)
        self._settle(day)
        return rest

    def expire(self, day: float) -> None:
        for lot in self.lots:
            if not lot.closed and lot.left > 0 and lot.ends <= day:
                lot.left, lot.closed = lot.held, True

    def expire_holds(self, day: float) -> None:
        for hold in self._open():
            if hold.ends <= day:
                self._give_back(hold, "expired")
                self._settle(day)

    def join(self, other: "Account", day: float) -> None:
        """Another account becomes part of this one."""
        self.lots += other.lots
        self.holds += other.holds
        self.debt += other.debt
        self._settle(day)

    # How.

    def _open(self, *, after: float = -1) -> list[Hold]:
        return [hold for hold in self.holds if hold.state == "held" and hold.ends > after]

    def _usable(self, day: float) -> list[Lot]:
        def paying(lot: Lot) -> tuple[float, ...]:
            by_age = (lot.priority, lot.created)
            return by_age if self.policy == "fifo" else (lot.priority, lot.ends, lot.created)

        return sorted((lot for lot in self.lots if lot.usable(day)), key=paying)

    def _free(self, day: float) -> Decimal:
        return sum((lot.free for lot in self._usable(day)), Decimal(0))

    def _plan(self, amount: Decimal, day: float) -> Parts:
        parts: Parts = []
        for lot in self._usable(day):
            part = min(lot.free, amount)
            amount -= part
            if part:
                parts.append((lot, part))
        return parts

    def _take(self, amount: Decimal, day: float) -> Parts:
        parts = self._plan(amount, day)
        for lot, part in parts:
            assert lot is not None
            lot.left -= part
        return parts

    def _take_or_owe(self, amount: Decimal, day: float) -> Parts:
        taken = self._take(amount, day)
        owed = amount - total(taken)
        self.debt += owed
        return taken + ([(None, owed)] if owed else [])

    def _settle(self, day: float) -> None:
        if self.debt:
            self.debt -= total(self._take(self.debt, day))

    def _update(self, day: float) -> None:
        """Before credit is used: holds that are over end, then debt is paid."""
        for hold in self._open():
            if hold.ends <= day:
                self._give_back(hold, "expired")
        self._settle(day)

    def _give_back(self, hold: Hold, state: str) -> None:
        hold.state = state
        for lot, part in hold.slices:
            assert lot is not None
            lot.held -= part
            if lot.closed:
                lot.left -= part

    def _charge(self, hold: Hold, actual: Decimal) -> Parts:
        charged: Parts = []
        for lot, part in hold.slices:
            assert lot is not None
            now = min(part, actual)
            actual -= now
            lot.held -= part
            lot.left -= part if lot.closed else now
            if now:
                charged.append((lot, now))
        hold.state = "committed"
        return charged

    def _return(self, lot: Lot | None, amount: Decimal, day: float) -> None:
        if lot is not None:
            if not lot.closed and day < lot.ends:
                lot.left += amount
            return
        forgiven = min(amount, self.debt)
        self.debt -= forgiven
        if amount > forgiven:
            self.lots.append(Lot("refund", amount - forgiven, 0, day, day, FOREVER))


def total(parts: Parts) -> Decimal:
    return sum((amount for _, amount in parts), Decimal(0))


def named(parts: Parts) -> dict[Any, Decimal]:
    """How much of each lot, by its name."""
    found: dict[Any, Decimal] = {}
    for lot, amount in parts:
        if lot is not None:
            found[lot.name] = found.get(lot.name, Decimal(0)) + amount
    return found
