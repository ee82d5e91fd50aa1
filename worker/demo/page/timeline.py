"""Webhook attempts over the time the demo took: how each ended, and which came again."""

import datetime as dt
import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence

from models.store.charted import Tried
from worker.demo.page.plot import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    Bar,
    Line,
    Mark,
    Plot,
    Scale,
    Text,
    step_of,
    upright,
)
from worker.demo.page.section import Cell, Section, Table, number

HEIGHT = 210.0
MOST_BARS = 60
MOST_LABELS = 12
ROW = 9.0
MOST_ROWS = 60
"""Of the deliveries that came again, so many are drawn, the first ones."""

GAP = 1.5
DELIVERED = "delivered"
KINDS = ("failed", "delivered by a retry", "delivered at once")
SERIES = (0, 4, 2)
"""From the bottom up: what failed is seen best on the axis."""


def section(tried: Sequence[Tried]) -> Section:
    """Draw every attempt."""
    plots = [_over_time(tried)]
    if any(one.number > 1 for one in tried):
        plots.append(_retries(tried))
    return Section(
        "Deliveries",
        "Webhook attempts by the second of this demo in which they were made. Some subscribers "
        "were made to answer 503 now and then: such a delivery is tried again after some seconds.",
        tuple(plots),
        (_table(tried),),
    )


def _kind(one: Tried) -> int:
    if one.outcome != DELIVERED:
        return 0
    return 1 if one.number > 1 else 2


def _seconds(one: Tried, begun: dt.datetime) -> float:
    return (one.at - begun).total_seconds()


def _bins(tried: Sequence[Tried]) -> tuple[float, int]:
    """Return how many seconds a bar is for, and how many bars there are."""
    span = max(_seconds(tried[-1], tried[0].at), 1.0)
    width = step_of(span, MOST_BARS)
    return width, int(span // width) + 1


def _over_time(tried: Sequence[Tried]) -> Plot:
    begun = tried[0].at
    width, bins = _bins(tried)
    counts = Counter((int(_seconds(one, begun) // width), _kind(one)) for one in tried)
    totals = Counter(map(_kind, tried))
    plot = Plot(
        f"Attempts in each {width:g} s",
        f"{len(tried):,} attempts in {bins * width:.0f} s: "
        + ", ".join(f"{totals[kind]:,} {word}" for kind, word in enumerate(KINDS))
        + ".",
        HEIGHT,
        legend=tuple(zip(SERIES, KINDS, strict=True)),
    )
    highest = max(sum(counts[nth, kind] for kind in range(len(KINDS))) for nth in range(bins))
    scale = upright(plot, 0, highest)
    across = Scale(0, bins * width, LEFT, plot.width - RIGHT)
    for nth in range(bins):
        below = 0
        left, right = across(nth * width), across((nth + 1) * width)
        for kind, series in enumerate(SERIES):
            above = below + counts[nth, kind]
            y = scale(above)
            if above > below:
                box = Bar(left + GAP / 2, y, right - left - GAP, scale(below) - y, series)
                plot.bars.append(box)
            below = above
    _seconds_below(plot, across)
    return plot


def _retries(tried: Sequence[Tried]) -> Plot:
    begun = tried[0].at
    of_delivery: dict[int, list[Tried]] = defaultdict(list)
    for one in tried:
        of_delivery[one.delivery_id].append(one)
    again = [tries for tries in of_delivery.values() if len(tries) > 1]
    drawn = again[:MOST_ROWS]
    plot = Plot(
        "Deliveries that came again",
        f"{len(again):,} deliveries were tried more than once, {len(drawn)} of them are drawn; "
        f"{sum(tries[-1].outcome == DELIVERED for tries in again):,} arrived in the end.",
        TOP + ROW * len(drawn) + BOTTOM,
    )
    width, bins = _bins(tried)
    across = Scale(0, bins * width, LEFT, plot.width - RIGHT)
    for row, tries in enumerate(drawn):
        y = TOP + ROW * (row + 0.5)
        places = tuple((across(_seconds(one, begun)), y) for one in tries)
        plot.lines.append(Line(places, "wait"))
        for (x, _), one in zip(places, tries, strict=True):
            plot.marks.append(Mark(x, y, "hit" if one.outcome == DELIVERED else "miss"))
    _seconds_below(plot, across)
    return plot


def _seconds_below(plot: Plot, across: Scale) -> None:
    y = plot.height - BOTTOM
    plot.lines.append(Line(((LEFT, y), (plot.width - RIGHT, y)), "axis"))
    step = step_of(across.high, MOST_LABELS)
    for nth in range(int(across.high / step) + 1):
        plot.texts.append(Text(across(nth * step), y + 17, f"{nth * step:g} s"))


def _table(tried: Sequence[Tried]) -> Table:
    groups: dict[tuple[str, int | None, bool], list[int]] = defaultdict(list)
    for one in tried:
        groups[one.outcome, one.status, one.number > 1].append(one.latency_ms)
    rows = []
    for (outcome, status, again), latencies in sorted(groups.items(), key=str):
        key = f"attempts/{outcome}/{status or '-'}/{'retry' if again else 'first'}"
        rows.append(
            (
                Cell(outcome.replace("_", " ")),
                Cell(str(status or "none")),
                Cell("a retry" if again else "the first try"),
                number(len(latencies), key),
                Cell(f"{statistics.median(latencies):g} ms"),
            )
        )
    rows.append((Cell("all"), Cell(""), Cell(""), number(len(tried), "attempts"), Cell("")))
    heads = ("outcome", "status", "was", "attempts", "median time")
    return Table("Attempts by outcome", heads, tuple(rows))
