"""Usage per day, a bar a day, stacked by tenant."""

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal

from models.store.charted import UsageDay
from worker.demo.page.plot import BOTTOM, LEFT, RIGHT, Bar, Plot, Text, upright
from worker.demo.page.section import Cell, Section, Table, number

HEIGHT = 220.0
GAP = 3.0
LABELLED_EVERY = 5
"""Days between two that have their number below them."""


def section(rows: Sequence[UsageDay], names: dict[str, str]) -> Section:
    """Draw the usage of each metric; `names` are the tenants' by their id, in their order."""
    metrics = sorted({row.metric for row in rows})
    return Section(
        "Usage per day",
        "Each bar is one local day of each tenant, in that tenant's own time zone.",
        tuple(_plot(metric, _of(rows, metric), names) for metric in metrics),
        tuple(_table(metric, _of(rows, metric), names) for metric in metrics),
    )


Totals = dict[tuple[dt.date, str], Decimal]


def _of(rows: Sequence[UsageDay], metric: str) -> Totals:
    return {(row.day, row.tenant_id): row.total for row in rows if row.metric == metric}


def _plot(metric: str, totals: Totals, names: dict[str, str]) -> Plot:
    days = sorted({day for day, _ in totals})
    sums = {day: sum(totals.get((day, one), Decimal(0)) for one in names) for day in days}
    top = max(days, key=lambda day: sums[day])
    most = f"most on {top.day} {top:%B}: {sums[top]:,}"
    plot = Plot(
        metric,
        f"{sum(sums.values()):,} {metric} in {len(days)} days, {most}.",
        HEIGHT,
        legend=tuple(enumerate(names.values())),
    )
    scale = upright(plot, 0, float(max(sums.values())))
    room = (plot.width - LEFT - RIGHT) / len(days)
    for nth, day in enumerate(days):
        below = Decimal(0)
        x = LEFT + nth * room
        for series, tenant_id in enumerate(names):
            above = below + totals.get((day, tenant_id), Decimal(0))
            y, foot = scale(float(above)), scale(float(below))
            plot.bars.append(Bar(x + GAP / 2, y, room - GAP, foot - y, series))
            below = above
        if nth % LABELLED_EVERY == 0:
            middle = x + room / 2
            plot.texts.append(Text(middle, HEIGHT - BOTTOM + 17, f"{day.day} {day:%b}"))
    return plot


def _table(metric: str, totals: Totals, names: dict[str, str]) -> Table:
    days = sorted({day for day, _ in totals})
    rows = [
        (
            Cell(f"{day:%a} {day.day} {day:%b}"),
            *(
                number(totals.get((day, one), Decimal(0)), f"usage/{metric}/{one}/{day}")
                for one in names
            ),
            number(sum(totals.get((day, one), Decimal(0)) for one in names)),
        )
        for day in days
    ]
    month = {one: sum(totals.get((day, one), Decimal(0)) for day in days) for one in names}
    rows.append(
        (
            Cell("Month"),
            *(number(total, f"usage/{metric}/{one}") for one, total in month.items()),
            number(sum(month.values()), f"usage/{metric}"),
        )
    )
    heads = ("day", *names.values(), "all")
    return Table(f"{metric} by day", heads, tuple(rows), folded=True)
