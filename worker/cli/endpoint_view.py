"""How endpoints are shown."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from worker.cli.printing import instant


def table(found: Sequence[Mapping[str, Any]]) -> Table:
    """Return a table of endpoints."""
    table = Table("endpoint")
    table.columns[0].no_wrap = True
    for heading in ("whose", "url", "topics", "state", "circuit"):
        table.add_column(heading)
    for one in found:
        table.add_row(
            one["endpoint_id"],
            one["tenant_id"] or "operator",
            one["url"],
            topics(one["topics"]),
            one["state"],
            circuit(one),
        )
    return table


def details(one: Mapping[str, Any]) -> Table:
    """Return all that is known of an endpoint, as two columns."""
    table = Table.grid(padding=(0, 2))
    rate = one["rate_per_minute"]
    rows = {
        "endpoint": one["endpoint_id"],
        "whose": one["tenant_id"] or "operator",
        "url": one["url"],
        "topics": ", ".join(one["topics"]),
        "description": one["description"] or "",
        "headers": ", ".join(one["headers"]),
        "state": one["state"],
        "order": "one after another" if one["ordered"] else "none",
        "rate": "as fast as it answers" if rate is None else f"{rate:,} a minute",
        "circuit": circuit(one),
        "held until": instant(one["hold_until"], otherwise=""),
        "failing since": instant(one["failing_since"], otherwise=""),
        "created": instant(one["created_at"]),
        "changed": instant(one["updated_at"]),
    }
    for name, value in rows.items():
        if value:
            table.add_row(name, value)
    for key in one["keys"]:
        until = "" if key["expires_at"] is None else f", until {instant(key['expires_at'])}"
        made = f"{key['signature']} since {instant(key['created_at'])}{until}"
        table.add_row("key", f"{key['secret_id']}  {made}")
    return table


def key(answer: Mapping[str, Any]) -> str:
    """Return what is said once of a new key."""
    if answer["public_key"]:
        return f"public key {answer['public_key']}"
    if answer["secret"]:
        return f"secret {answer['secret']}\nit is not shown again"
    return f"its secret is {answer['secret_state']}"


def circuit(one: Mapping[str, Any]) -> str:
    """Return how an endpoint's circuit is."""
    failed = one["consecutive_failures"]
    if one["circuit_open"]:
        return "open"
    return f"closed, {failed} failed in a row" if failed else "closed"


def topics(patterns: Sequence[str]) -> str:
    """Return patterns, or how many there are if there are many."""
    return ", ".join(patterns) if len(patterns) <= 3 else f"{len(patterns)} patterns"
