"""How endpoints are doing: statistics, and a test event followed to its end."""

import time
from typing import Annotated, Any, Final

import typer
from rich.table import Table

from tasks.delivery_list import DeliveryDetails, get_delivery
from tasks.endpoint_stats import get_endpoint_stats
from tasks.pings import ping_endpoint
from worker.cli import delivery_view, endpoint_view, printing
from worker.cli.endpoint_keys import EndpointId
from worker.cli.printing import AsJson, Key, instant

POLL_SECONDS: Final = 0.1

OfTenant = Annotated[
    str | None, typer.Option("--tenant", help="Only if it is this tenant's.", show_default=False)
]


def ping(
    endpoint_id: EndpointId,
    *,
    tenant: OfTenant = None,
    wait: Annotated[
        float, typer.Option(help="Seconds to wait for the first attempt.", min=0, max=600)
    ] = 20,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Send it a test event and say what it answers. Exit status 1 unless it arrived."""
    printing.prepare()
    sent = ping_endpoint(
        endpoint_id=endpoint_id, tenant_id=tenant, idempotency_key=printing.key_or_new(key)
    )
    found = _followed(sent["delivery_id"], wait)
    if as_json:
        printing.print_json(found)
    else:
        typer.echo(_said(found))
    if found["state"] != "delivered":
        raise typer.Exit(1)


def stats(
    endpoint_id: EndpointId,
    *,
    tenant: OfTenant = None,
    hours: Annotated[int, typer.Option(help="How far back.", min=1, max=720)] = 24,
    as_json: AsJson = False,
) -> None:
    """Show how it answers, and what waits for it."""
    printing.prepare()
    found = get_endpoint_stats(endpoint_id=endpoint_id, tenant_id=tenant, hours=hours)
    if as_json:
        printing.print_json(found)
        return
    printing.show(_table(found))


def _followed(delivery_id: int, wait: float) -> DeliveryDetails:
    """The delivery after its first attempt, or as it is when the time is over."""
    deadline = time.monotonic() + wait
    while True:
        found = get_delivery(delivery_id=delivery_id)
        if found["attempts"] or time.monotonic() >= deadline:
            return found
        time.sleep(POLL_SECONDS)


def _said(found: DeliveryDetails) -> str:
    named = f"ping {found['event_id']}, delivery {found['delivery_id']}"
    if not found["attempts"]:
        return (
            f"{named}: no attempt yet; a worker of the queue webhooks makes it, unless the "
            "endpoint's circuit is open (`billing endpoint stats`)"
        )
    last = found["attempts"][-1]
    ended = delivery_view.ended(last["outcome"], last["status"])
    said = "\n".join(part for part in (last["error"], last["answer"]) if part)
    return f"{named}: {ended} after {last['latency_ms']:,} ms" + (said and f"\n{said}")


def _table(found: Any) -> Table:
    table = Table.grid(padding=(0, 2))
    percent, p50, p95 = found["success_percent"], found["p50_ms"], found["p95_ms"]
    outcomes = sorted(found["outcomes"].items(), key=lambda item: -item[1])
    rows = {
        "state": found["state"],
        "circuit": endpoint_view.circuit(found),
        "next probe": instant(found["probe_at"], otherwise=""),
        "held until": instant(found["hold_until"], otherwise=""),
        "failing since": instant(found["failing_since"], otherwise=""),
        "attempts": f"{found['attempts']:,} since {instant(found['since'])}",
        "success": "" if percent is None else f"{percent} %",
        "outcomes": ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes),
        "answers in": "" if p50 is None else f"p50 {p50:,} ms, p95 {p95:,} ms",
        "backlog": f"{found['pending']:,} pending, {found['due']:,} of them due; "
        f"{found['sending']:,} under way, {found['held']:,} held",
        "oldest due": instant(found["oldest_due_at"], otherwise=""),
        "dead": f"{found['dead']:,}",
    }
    for name, value in rows.items():
        if value:
            table.add_row(name, value)
    return table
