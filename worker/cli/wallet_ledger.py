"""`billing wallet ledger`: how balances came to what they are."""

import datetime as dt
from typing import Annotated, Any
from uuid import UUID

import typer

from models.credit import Action, Direction
from tasks.ledger import LONGEST_PAGE, list_ledger
from worker.cli import credit_view, kinds, printing
from worker.cli.printing import AsJson, Tenant

MOST = 100_000
"""Entries that one command prints."""


def ledger(
    tenant: Tenant,
    *,
    product: Annotated[str | None, typer.Option(help="Of this product only.")] = None,
    action: Annotated[Action | None, typer.Option(help="Of this kind only.")] = None,
    direction: Annotated[
        Direction | None, typer.Option(help="This way only.", case_sensitive=False)
    ] = None,
    batch: Annotated[
        UUID | None,
        typer.Option(help="Of this batch only.", metavar="ID", parser=kinds.named("batch")),
    ] = None,
    since: Annotated[
        dt.date | None,
        typer.Option(
            "--from",
            help="Entered on this local day, or at this instant, or later.",
            metavar="DAY",
            parser=kinds.day,
        ),
    ] = None,
    until: Annotated[
        dt.date | None,
        typer.Option(
            "--to", help="Entered before this day, or instant.", metavar="DAY", parser=kinds.day
        ),
    ] = None,
    limit: Annotated[int, typer.Option(help="How many at most.", min=1, max=MOST)] = 50,
    as_json: AsJson = False,
) -> None:
    """List ledger entries, newest first."""
    wanted: dict[str, Any] = {
        "product_key": product,
        "action": action,
        "direction": direction,
        "batch_id": batch,
        "date_from": since,
        "date_to": until,
    }
    printing.prepare()
    found, cursor = _pages(tenant, wanted, limit)
    if as_json:
        printing.print_json(found)
        return
    table = credit_view.ledger(found, printing.console())
    printing.print_table(table, found, cursor, "entries")


def _pages(tenant: str, wanted: dict[str, Any], limit: int) -> tuple[list[Any], str | None]:
    """Return so many entries, and where more begin."""
    found: list[Any] = []
    cursor: str | None = None
    while True:
        page = list_ledger(
            tenant_id=tenant,
            **wanted,
            cursor=cursor,
            limit=min(limit - len(found), LONGEST_PAGE),
        )
        found += page["entries"]
        cursor = page["next_cursor"]
        if cursor is None or len(found) == limit:
            return found, cursor
