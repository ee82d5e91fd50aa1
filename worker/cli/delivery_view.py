"""How deliveries are shown."""

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from worker.cli.printing import instant, second


def table(found: Sequence[Mapping[str, Any]]) -> Table:
    """Return a table of deliveries."""
    table = Table("id")
    for heading in ("topic", "tenant", "endpoint", "happened", "state"):
        table.add_column(heading, no_wrap=True)
    table.add_column("attempts", justify="right")
    table.add_column("last")
    table.add_column("next")
    for one in found:
        table.add_row(
            str(one["delivery_id"]),
            one["topic"],
            one["tenant_id"] or "operator",
            one["endpoint_id"],
            instant(one["happened_at"]),
            one["state"] + (", replayed" if one["replayed_at"] else ""),
            str(one["attempts_made"]),
            ended(one["last_outcome"], one["last_status"]),
            instant(_next(one)) if one["state"] == "pending" else "",
        )
    return table


def _next(one: Mapping[str, Any]) -> str:
    """Return when one that is pending may be sent: its endpoint may be left alone for longer."""
    instants: list[str] = [one["due_at"], one["waits_until"] or one["due_at"]]
    return max(instants, key=dt.datetime.fromisoformat)


def details(one: Mapping[str, Any]) -> Table:
    """Return what is known of a delivery, as two columns."""
    table = Table.grid(padding=(0, 2))
    rows = {
        "delivery": str(one["delivery_id"]),
        "event": one["event_id"],
        "topic": one["topic"],
        "tenant": one["tenant_id"] or "operator",
        "endpoint": one["endpoint_id"],
        "happened": second(one["happened_at"]),
        "state": one["state"],
        "next": second(_next(one)) if one["state"] == "pending" else "",
        "ended": second(one["completed_at"], otherwise=""),
        "replayed": second(one["replayed_at"], otherwise=""),
        "skipped": one["skip_reason"] or "",
        "correlation": one["correlation_id"] or "",
        "trace": one["traceparent"] or "",
    }
    for name, value in rows.items():
        if value:
            table.add_row(name, value)
    return table


def attempts(tried: Sequence[Mapping[str, Any]]) -> Table:
    """Return a table of attempts, the oldest first."""
    table = Table("at", "number", "outcome")
    table.add_column("ms", justify="right")
    table.add_column("what was said")
    for one in tried:
        said = "\n".join(part for part in (one["error"], one["answer"]) if part)
        table.add_row(
            second(one["attempted_at"]),
            str(one["number"]),
            ended(one["outcome"], one["status"]),
            f"{one['latency_ms']:,}",
            said,
        )
    return table


def event(one: Mapping[str, Any]) -> str:
    """Return an event as indented JSON."""
    return json.dumps(one["event"], indent=2, ensure_ascii=True)


def ended(outcome: str | None, status: int | None) -> str:
    """Return how an attempt ended, as "http_error 503"."""
    return " ".join(str(part) for part in (outcome, status) if part is not None)


def replayed(counts: Mapping[str, int], *, dry_run: bool) -> str:
    """Return in words how many deliveries were sent again, by what they were before."""
    said = f"{'would send' if dry_run else 'sent'} again: {sum(counts.values()):,}"
    if len(counts) > 1:
        said += (
            " (" + ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items())) + ")"
        )
    return said
