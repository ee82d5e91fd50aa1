"""What became of prepaid credit: granted, used, expired, and what was left each evening."""

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal

from models.store.charted import CreditDay
from worker.demo.page.plot import BOTTOM, LEFT, RIGHT, Bar, Line, Plot, Scale, Text, upright
from worker.demo.page.section import Cell, Section, Table, number

HEIGHT = 260.0
GAP = 4.0
LABELLED_EVERY = 5
CAUSES = {"grant": (3, "granted"), "consume": (1, "used"), "expire": (4, "expired")}
"""The ledger's words for what happens here: their colours and ours."""


def section(rows: Sequence[CreditDay], names: dict[str, str], *, product: str) -> Section:
    """Draw the balance of a product, all tenants together, with what changed it."""
    days = _days(rows)
    return Section(
        f"Credit: {product}",
        "Bars are what came and went on a day (UTC), the line is what was left in the evening.",
        (_plot(rows, days, product),),
        (_by_tenant(rows, names), _by_day(rows, days)),
    )


def _days(rows: Sequence[CreditDay]) -> list[dt.date]:
    first, last = min(row.day for row in rows), max(row.day for row in rows)
    return [first + dt.timedelta(days=n) for n in range((last - first).days + 1)]


def _sum(rows: Sequence[CreditDay], **wanted: object) -> Decimal:
    found = (r for r in rows if all(getattr(r, name) == value for name, value in wanted.items()))
    return sum((row.amount for row in found), Decimal(0))


def _left(rows: Sequence[CreditDay], day: dt.date) -> Decimal:
    return sum((row.amount for row in rows if row.day <= day), Decimal(0))


def _plot(rows: Sequence[CreditDay], days: Sequence[dt.date], product: str) -> Plot:
    said = ", ".join(f"{abs(_sum(rows, action=a)):,} {word}" for a, (_, word) in CAUSES.items())
    plot = Plot(
        f"{product} over the month",
        f"{said}; {_left(rows, days[-1]):,} left at the end.",
        HEIGHT,
        legend=tuple(CAUSES.values()),
    )
    lefts = [_left(rows, day) for day in days]
    changes = [[_sum(rows, day=day, action=action) for action in CAUSES] for day in days]
    lowest = min(sum(min(one, Decimal(0)) for one in amounts) for amounts in changes)
    highest = max(sum(max(one, Decimal(0)) for one in amounts) for amounts in changes)
    scale = upright(plot, float(lowest), float(max(*lefts, highest)))
    room = (plot.width - LEFT - RIGHT) / len(days)
    for nth, day in enumerate(days):
        x = LEFT + nth * room
        plot.bars += _changes(scale, changes[nth], x + GAP / 2, room - GAP)
        if nth % LABELLED_EVERY == 0:
            plot.texts.append(Text(x + room / 2, HEIGHT - BOTTOM + 18, f"{day.day} {day:%b}"))
    points: list[tuple[float, float]] = []
    for nth, left in enumerate(lefts):
        y = scale(float(left))
        points += [(LEFT + nth * room, y), (LEFT + (nth + 1) * room, y)]
    plot.lines.append(Line(tuple(points), "level"))
    return plot


def _changes(scale: Scale, amounts: Sequence[Decimal], x: float, width: float) -> list[Bar]:
    """Pile up what came and hang up what went, cause by cause."""
    reached = {True: Decimal(0), False: Decimal(0)}
    bars = []
    for amount, (series, _) in zip(amounts, CAUSES.values(), strict=True):
        begun = reached[amount > 0]
        reached[amount > 0] = begun + amount
        top, foot = sorted((scale(float(begun)), scale(float(begun + amount))))
        if amount:
            bars.append(Bar(x, top, width, foot - top, series))
    return bars


def _by_tenant(rows: Sequence[CreditDay], names: dict[str, str]) -> Table:
    heads = ("tenant", *(word for _, word in CAUSES.values()), "left")
    listed = tuple(
        (
            Cell(name),
            *(
                number(abs(_sum(rows, tenant_id=one, action=action)), f"credit/{one}/{action}")
                for action in CAUSES
            ),
            number(_sum(rows, tenant_id=one), f"credit/{one}/left"),
        )
        for one, name in names.items()
    )
    return Table("By tenant", heads, listed)


def _by_day(rows: Sequence[CreditDay], days: Sequence[dt.date]) -> Table:
    heads = ("day (UTC)", *(word for _, word in CAUSES.values()), "left")
    listed = tuple(
        (
            Cell(f"{day:%a} {day.day} {day:%b}"),
            *(
                number(abs(_sum(rows, day=day, action=action)), f"credit/{day}/{action}")
                for action in CAUSES
            ),
            number(_left(rows, day), f"credit/{day}/left"),
        )
        for day in days
    )
    return Table("By day", heads, listed, folded=True)
