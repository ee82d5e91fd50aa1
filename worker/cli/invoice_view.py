"""How invoices are shown in a terminal."""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

from rich.console import Group, RenderableType
from rich.table import Table

from models.rules import money
from tasks.papers.paper import Paper


def table(found: Sequence[Mapping[str, Any]]) -> Table:
    """Return a table of invoices."""
    shown = Table()
    for heading in ("number", "state", "tenant", "period", "finalized", "due"):
        shown.add_column(heading, no_wrap=True)
    for heading in ("total", "open"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("id", no_wrap=True)
    for one in found:
        shown.add_row(
            one["number"] or "",
            one["state"],
            one["tenant_id"],
            period(one),
            _day(one["finalized_at"], one),
            _day(one["due_at"], one),
            money.format_minor(one["total_minor"], one["currency"]),
            money.format_minor(one["open_minor"], one["currency"]),
            str(one["invoice_id"]),
        )
    return shown


def paper(shown: Paper) -> RenderableType:
    """Return a page as a terminal shows it."""
    head = Table.grid(padding=(0, 2))
    stamp = f" ({shown.stamp.lower()})" if shown.stamp else ""
    head.add_row(f"{shown.title} {shown.number}".strip() + stamp)
    head.add_row("from", shown.sender.name)
    head.add_row("to", shown.receiver.name)
    for label, value in shown.facts:
        head.add_row(label.lower(), value)
    rows = Table()
    rows.add_column("description")
    for heading in ("quantity", "unit price", f"amount ({shown.currency})"):
        rows.add_column(heading, justify="right", no_wrap=True)
    for row in shown.rows:
        described = "\n".join((row.description, *(f"  {note}" for note in row.notes)))
        rows.add_row(described, row.quantity, row.unit_price, row.amount)
    rows.add_section()
    for one in shown.sums:
        rows.add_row(one.label, "", "", one.amount, style="bold" if one.strong else None)
    return Group(head, rows, *shown.remarks)


def said(one: Mapping[str, Any]) -> str:
    """Return in one line where an invoice stands."""
    named = one["number"] or one["invoice_id"]
    left = money.format_minor(one["open_minor"], one["currency"])
    still = f", {left} open" if one["state"] in {"finalized", "uncollectible"} else ""
    return f"{named} of {one['tenant_id']} is {one['state']}{still}"


def credited(note: Mapping[str, Any], named: str) -> str:
    """Return in one line what a credit note took back, and what becomes of it."""
    ways = (
        ("not owed any more", note["reduced_minor"]),
        ("to prepaid credit", note["to_credit_minor"]),
        ("to be paid back", note["payout_minor"]),
    )
    said = ", ".join(
        f"{money.format_minor(part, note['currency'])} {way}" for way, part in ways if part
    )
    total = money.format_minor(note["total_minor"], note["currency"])
    return f"{note['number']} takes {total} of {named} back: {said}"


def period(one: Mapping[str, Any]) -> str:
    """Return the first and the last local day of an invoice."""
    zone = ZoneInfo(one["timezone"])
    start, end = (dt.datetime.fromisoformat(one[key]) for key in ("period_start", "period_end"))
    last = end - dt.timedelta(microseconds=1)
    return f"{start.astimezone(zone):%Y-%m-%d} to {last.astimezone(zone):%Y-%m-%d}"


def _day(at: str | None, one: Mapping[str, Any]) -> str:
    if at is None:
        return ""
    zone = ZoneInfo(one["timezone"])
    return f"{dt.datetime.fromisoformat(at).astimezone(zone):%Y-%m-%d}"
