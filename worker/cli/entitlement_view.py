"""How entitlements are shown, and what is used of them."""

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal
from zoneinfo import ZoneInfo

from rich.table import Table
from rich.text import Text

from models.rules import period
from tasks.entitlement_list import StandingAnswer, StandingsAnswer
from tasks.entitlements import EntitlementAnswer
from worker.cli.gauge import gauge
from worker.cli.printing import second, utc

NEARLY = Decimal("0.8")
"""The share of a limit from which on a bar is yellow."""


def listed(found: Sequence[EntitlementAnswer]) -> Table:
    """Return a table of entitlements as they were set, those of plans first."""
    table = Table("of", "metric", "window")
    table.add_column("limit", justify="right")
    for heading in ("", "from", "until"):
        table.add_column(heading)
    for one in sorted(found, key=_order):
        table.add_row(
            _owner(one),
            one["metric"],
            one["window"],
            _limit(one["limit"]),
            _kind(one),
            second(one["effective_at"]),
            "" if one["ended_at"] is None else second(one["ended_at"]),
        )
    return table


def sentence(one: EntitlementAnswer) -> str:
    """Return in one line what was set."""
    limit = "any amount" if one["limit"] is None else _limit(one["limit"])
    until = "" if one["ended_at"] is None else f" until {second(one['ended_at'])}"
    return (
        f"{_owner(one)}: {limit} of {one['metric']} a {one['window']}, {_kind(one)}, from "
        f"{second(one['effective_at'])}{until}"
    )


def standings(found: StandingsAnswer, *, now: dt.datetime, glyphs: tuple[str, str]) -> Table:
    """Return a table of what a tenant has used of each limit, with bars."""
    zone = period.zone(found["timezone"])
    table = Table("metric", "window")
    table.add_column("used", justify="right")
    table.add_column("limit", justify="right")
    for heading in ("", "", "resets", "by"):
        table.add_column(heading, no_wrap=True)
    for one in found["entitlements"]:
        table.add_row(
            one["metric"],
            one["window"],
            _number(one["used"]),
            _limit(one["limit"]),
            _bar(one, glyphs),
            _state(one),
            _reset(utc(one["resets_at"]), now, zone),
            ", ".join(source["plan_key"] or "of its own" for source in one["sources"]),
        )
    return table


def _bar(one: StandingAnswer, glyphs: tuple[str, str]) -> Text:
    if one["limit"] is None:
        return Text()
    used, limit = Decimal(one["used"]), Decimal(one["limit"])
    colour = "red" if used >= limit else "yellow" if used >= limit * NEARLY else "green"
    return Text(gauge(used, limit, glyphs=glyphs), style=colour)


def _state(one: StandingAnswer) -> str:
    if one["exceeded"]:
        return "exceeded, allowed" if one["soft"] else "exceeded"
    if one["remaining"] == "0":
        return "used up"
    return "" if one["remaining"] is None else f"{_number(one['remaining'])} left"


def _reset(at: dt.datetime, now: dt.datetime, zone: ZoneInfo) -> str:
    minutes = max(0, int((at - now).total_seconds() // 60))
    days, minutes = divmod(minutes, 24 * 60)
    hours, minutes = divmod(minutes, 60)
    wait = f"{days} d {hours} h" if days else f"{hours} h {minutes} min"
    return f"{at.astimezone(zone):%a %d %b %H:%M}, in {wait}"


def _order(one: EntitlementAnswer) -> tuple[bool, str, str, str, str]:
    return (
        one["plan_key"] is None,
        one["plan_key"] or one["tenant_id"] or "",
        one["metric"],
        one["window"],
        str(one["effective_at"]),
    )


def _owner(one: EntitlementAnswer) -> str:
    if one["plan_key"] is not None:
        return f"plan {one['plan_key']}"
    return f"tenant {one['tenant_id']}"


def _kind(one: EntitlementAnswer) -> str:
    return ("soft" if one["soft"] else "hard") + (", per seat" if one["per_seat"] else "")


def _limit(limit: str | None) -> str:
    return "no limit" if limit is None else _number(limit)


def _number(text: str) -> str:
    return f"{Decimal(text):,f}"
