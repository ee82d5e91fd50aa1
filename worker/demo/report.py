"""What a person wants to see at the end of the demo, and the same as one JSON object."""

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.table import Table

from models.rules import money
from tasks.papers import paper
from worker.demo import scenario


@dataclass(frozen=True, slots=True)
class Total:
    """What was sent of a metric beside what the aggregates say, and how many days agree."""

    tenant_id: str
    metric: str
    sent: Decimal
    found: Decimal
    days: int
    days_agreeing: int

    @property
    def matches(self) -> bool:
        """Whether the month and every single day agree."""
        return self.sent == self.found and self.days == self.days_agreeing


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the demo went. `faults` has a sentence for each thing that does not agree."""

    verdicts: dict[str, int]
    totals: Sequence[Total]
    invoices: Sequence[dict[str, Any]]
    credit: dict[str, str]
    expired: int
    deliveries: int
    retried: int
    subscriber: dict[str, Any]
    ingest_seconds: float
    seconds: float
    faults: Sequence[str]

    @property
    def events_sent(self) -> int:
        """Events in all messages, whatever became of them."""
        return sum(self.verdicts.values())


def show(console: Console, outcome: Outcome) -> None:
    """Print everything as tables."""
    for table in (
        _verdicts(outcome),
        _totals(outcome),
        *map(_invoice, outcome.invoices),
        _credit(outcome),
        _deliveries(outcome),
    ):
        _show(console, table)
    rate = outcome.events_sent / outcome.ingest_seconds
    console.print(
        f"\n{outcome.seconds:.1f} s in all; usage came in at {rate:,.0f} events/s, one day's "
        "messages at a time, enqueue to committed verdict."
    )
    for fault in outcome.faults:
        console.print(f"[bold red]does not agree:[/] {fault}", highlight=False)
    if not outcome.faults:
        console.print("[bold green]Every total, invoice, balance and signature agrees.[/]")


def as_json(outcome: Outcome) -> str:
    """Return the outcome as one line of JSON."""
    return json.dumps(
        {
            "events_sent": outcome.events_sent,
            "events_accepted": outcome.verdicts.get("accepted", 0),
            "events_duplicate": outcome.verdicts.get("duplicate", 0),
            "events_rejected": outcome.verdicts.get("rejected", 0),
            "totals_match": all(total.matches for total in outcome.totals),
            "invoices": list(outcome.invoices),
            "deliveries": outcome.deliveries,
            "deliveries_verified": outcome.subscriber["verified"],
            "deliveries_retried": outcome.retried,
            "seconds": round(outcome.seconds, 1),
            "events_per_second": round(outcome.events_sent / outcome.ingest_seconds),
            "faults": list(outcome.faults),
        }
    )


def steps(invoice: dict[str, Any]) -> list[tuple[str, int]]:
    """Return what lies between an invoice's lines and what is due, in words and minor units."""
    taken = [(f"{one['name']}", -one["amount_minor"]) for one in invoice["discounts"]]
    taxed = [(f"{one['name']} {one['percent']} %", one["amount_minor"]) for one in invoice["taxes"]]
    prepaid = [("Prepaid credit", -invoice["credit_minor"])] if invoice["credit_minor"] else []
    return [*taken, *taxed, *prepaid, ("Amount due", invoice["amount_due_minor"])]


def _show(console: Console, table: Table) -> None:
    # Title and caption have lines of their own: as parts of a table they break where it ends.
    title, caption = table.title, table.caption
    table.title = table.caption = None
    console.print(f"\n[bold]{title}[/]", highlight=False)
    console.print(table)
    if caption:
        console.print(f"[dim]{caption}[/]", highlight=False)


def _verdicts(outcome: Outcome) -> Table:
    table = _table("Usage events", "sent", "accepted", "duplicate", "rejected")
    counts = [outcome.verdicts.get(name, 0) for name in ("accepted", "duplicate", "rejected")]
    table.add_row(*(f"{count:,}" for count in (outcome.events_sent, *counts)))
    return table


def _totals(outcome: Outcome) -> Table:
    table = _table("Totals of the month", "tenant", "metric", "sent", "in the books", "days", "")
    for total in outcome.totals:
        table.add_row(
            total.tenant_id,
            total.metric,
            f"{total.sent:,}",
            f"{total.found:,}",
            f"{total.days_agreeing} of {total.days}",
            "[green]=[/]" if total.matches else "[bold red]≠[/]",
        )
    return table


def _invoice(invoice: dict[str, Any]) -> Table:
    tenant = next(t for t in scenario.TENANTS if t.tenant_id == invoice["tenant_id"])
    first = _local(invoice["period_start"], tenant.zone)
    last = _local(invoice["period_end"], tenant.zone) - dt.timedelta(days=1)
    table = _table(
        f"Invoice {invoice['number']} · {tenant.name} · {first:%d %b %Y} to {last:%d %b %Y} "
        f"{tenant.timezone}",
        "line",
        "quantity",
        "unit price",
        "amount",
    )
    for line in invoice["lines"]:
        price = None if line["unit_amount"] is None else Decimal(line["unit_amount"])
        table.add_row(
            line["description"],
            f"{Decimal(line['quantity']):,}",
            paper.unit_price(price, invoice["currency"]),
            money.format_minor(line["amount_minor"], invoice["currency"]),
        )
    table.add_section()
    for name, minor in steps(invoice):
        table.add_row(name, "", "", money.format_minor(minor, invoice["currency"]))
    return table


def _credit(outcome: Outcome) -> Table:
    table = _table("Free calls", "tenant", "balance")
    for tenant_id, balance in outcome.credit.items():
        table.add_row(tenant_id, balance)
    table.caption = f"{outcome.expired} batches expired on their day"
    return table


def _deliveries(outcome: Outcome) -> Table:
    seen = outcome.subscriber
    table = _table(
        "Webhooks", "deliveries", "requests", "verified", "turned away", "repeated", "refused"
    )
    names = ("requests", "verified", "turned_away", "repeated", "refused")
    table.add_row(f"{outcome.deliveries:,}", *(f"{seen[name]:,}" for name in names))
    table.caption = ", ".join(f"{count} {topic}" for topic, count in seen["topics"].items())
    return table


def _local(instant: str, zone: ZoneInfo) -> dt.datetime:
    return dt.datetime.fromisoformat(instant).astimezone(zone)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title)
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number == 0 else "right")
    return table
