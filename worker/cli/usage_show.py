"""`billing usage show`."""

import datetime as dt
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Final

import typer
from rich.cells import cell_len
from rich.table import Table

from models import database
from models.rules import calendar_periods, decimals, period
from models.store import tenant as store_tenant
from models.usage import Granularity
from tasks.usage_list import UsageEntry, UsageList, list_usage
from worker.cli import fitting, kinds, printing
from worker.cli.sparkline import ASCII, BLOCKS, sparkline

MOST_COLUMNS: Final = 8
"""Metrics side by side in a table; the others are named below it."""


@dataclass(frozen=True, slots=True)
class _Metric:
    """One metric in one month: its total, and that of each day; None where nothing was used."""

    name: str
    total: Decimal
    event_count: int
    days: Sequence[Decimal | None]


@dataclass(frozen=True, slots=True)
class _Month:
    tenant_id: str
    timezone: str
    dates: Sequence[dt.date]
    metrics: Sequence[_Metric]
    is_behind: bool


def show(
    tenant: Annotated[str, typer.Argument(help="Whose usage.", metavar="TENANT")],
    metric: Annotated[str | None, typer.Option(help="Of this metric only.")] = None,
    month: Annotated[
        dt.date | None,
        typer.Option(
            help="Which month.", show_default="this one", metavar="YYYY-MM", parser=kinds.month
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show a month's usage, day by day in the tenant's own time zone."""
    printing.prepare()
    found = _read(tenant, metric, month)
    if as_json:
        typer.echo(json.dumps(_as_json(found), indent=2, ensure_ascii=False))
    else:
        _print(found, metric)


def _read(tenant_id: str, metric: str | None, first: dt.date | None) -> _Month:
    if first is None:
        with database.transaction() as session:
            zone = period.zone(store_tenant.get(session, tenant_id).timezone)
        first = period.local_day(dt.datetime.now(dt.UTC), zone).replace(day=1)
    after = calendar_periods.add_months(first, 1)
    dates = [first + dt.timedelta(days=day) for day in range((after - first).days)]
    days = _pages(tenant_id, metric, Granularity.day, first, after)
    months = _pages(tenant_id, metric, Granularity.month, first, after)
    whole = {entry["metric"]: entry for page in months for entry in page["usage"]}
    by_metric: dict[str, dict[dt.date, UsageEntry]] = {}
    for page in days:
        zone = period.zone(page["timezone"])
        for entry in page["usage"]:
            day = period.local_day(printing.utc(entry["period_start"]), zone)
            by_metric.setdefault(entry["metric"], {})[day] = entry
    return _Month(
        tenant_id=tenant_id,
        timezone=days[-1]["timezone"],
        dates=dates,
        metrics=[
            _metric(name, [found.get(date) for date in dates], whole.get(name))
            for name, found in sorted(by_metric.items())
        ],
        is_behind=days[-1]["is_behind"],
    )


def _pages(
    tenant_id: str, metric: str | None, granularity: Granularity, first: dt.date, after: dt.date
) -> list[UsageList]:
    pages: list[UsageList] = []
    cursor = None
    while not pages or cursor is not None:
        pages.append(
            list_usage(
                tenant_id=tenant_id,
                metric=metric,
                granularity=granularity,
                date_from=first,
                date_to=after,
                cursor=cursor,
            )
        )
        cursor = pages[-1]["next_cursor"]
    return pages


def _metric(name: str, days: Sequence[UsageEntry | None], month: UsageEntry | None) -> _Metric:
    totals = [None if day is None else Decimal(day["total"]) for day in days]
    counts = sum(day["event_count"] for day in days if day is not None)
    # The month's own total where there is one: highest or distinct values do not add up from days.
    summed = sum((total for total in totals if total is not None), Decimal(0))
    total = summed if month is None else Decimal(month["total"])
    return _Metric(name, total, counts, totals)


def _print(found: _Month, metric: str | None) -> None:
    console = printing.console()
    title = f"{found.tenant_id}, {found.dates[0]:%B %Y}, {found.timezone}"
    shown = 0
    if found.metrics:
        shown = _columns(found, console.width)
        console.print(title)
        console.print(_table(found, shown))
        levels = ASCII if console.options.ascii_only else BLOCKS
        for line in _sparklines(found, levels, width=console.width):
            console.print(line, soft_wrap=True)
    else:
        console.print(f"{title}: nothing was used" + (f" of {metric}" if metric else ""))
    left_out = [metric.name for metric in found.metrics[shown:]]
    if left_out:
        console.print(f"not in the table, see them with --metric: {', '.join(left_out)}")
    if found.is_behind:
        console.print("some usage has arrived that is not in these totals yet")


def _columns(found: _Month, width: int) -> int:
    """How many metrics the table has: as many as fit side by side, one at least."""
    most = min(len(found.metrics), MOST_COLUMNS)
    return next((n for n in range(most, 1, -1) if fitting.least(_table(found, n)) <= width), 1)


def _table(found: _Month, count: int) -> Table:
    shown = found.metrics[:count]
    table = Table("day", show_footer=True)
    table.columns[0].footer = "month"
    for metric in shown:
        table.add_column(metric.name, _number(metric.total), justify="right", overflow="fold")
    for place, date in enumerate(found.dates):
        cells = (_number(metric.days[place]) for metric in shown)
        table.add_row(f"{date:%a %d}", *cells)
    return table


def _sparklines(found: _Month, levels: str, *, width: int) -> Iterator[str]:
    """A line for each metric in columns, or two where lines of `width` have no room for one."""
    rows = []
    for metric in found.metrics:
        used = [
            (total, date) for total, date in zip(metric.days, found.dates, strict=True) if total
        ]
        most, date = max(used, default=(Decimal(0), found.dates[0]))
        row = (
            metric.name,
            sparkline(metric.days, levels=levels),
            f"most {_number(most)} on {date:%a %d}",
            f"{metric.event_count:,} event{'' if metric.event_count == 1 else 's'}",
        )
        rows.append(row)
    widths = [max(map(cell_len, cells)) for cells in zip(*rows, strict=True)]
    apart = "  " if sum(widths) + 2 * len(widths) <= width else "\n  "
    for row in rows:
        name, line, most_used, events = (
            cell + " " * (room - cell_len(cell)) for cell, room in zip(row, widths, strict=True)
        )
        yield f"{name}  {line}{apart}{most_used}  {events}".rstrip()


def _number(value: Decimal | None) -> str:
    return "" if value is None else f"{Decimal(decimals.plain(value)):,f}"


def _as_json(found: _Month) -> dict[str, Any]:
    return {
        "tenant_id": found.tenant_id,
        "timezone": found.timezone,
        "month": f"{found.dates[0]:%Y-%m}",
        "is_behind": found.is_behind,
        "metrics": [
            {
                "metric": metric.name,
                "total": decimals.plain(metric.total),
                "event_count": metric.event_count,
                "sparkline": sparkline(metric.days),
                "days": {
                    date.isoformat(): decimals.plain(total)
                    for date, total in zip(found.dates, metric.days, strict=True)
                    if total is not None
                },
            }
            for metric in found.metrics
        ],
    }
