"""How wallets, batches and ledgers are shown."""

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from rich.console import Console
from rich.table import Table

from tasks.batch_list import BatchAnswer
from tasks.ledger import EntryAnswer
from tasks.wallets import HoldingAnswer
from worker.cli import bar
from worker.cli.printing import WIDE, WIDER, instant, number, until

SIGNS: Final = {"CREDIT": "+", "DEBIT": "-", "USE": ""}


def holdings(found: Sequence[HoldingAnswer], console: Console) -> Table:
    """Return a table of what there is of each product."""
    later = console.width >= WIDE
    table = Table("product")
    is_owed = any(one["debt"] != "0" for one in found)
    _add_figures(table, "granted", "used", "held")
    _add_figures(table, *(["owed"] if is_owed else []), "available", *(["later"] if later else []))
    table.add_column("first expiry", no_wrap=True)
    for one in found:
        table.add_row(
            one["product_key"],
            number(one["granted"]),
            number(one["used"]),
            number(one["held"]),
            *([number(one["debt"])] if is_owed else []),
            "unlimited" if one["unlimited"] else number(one["available"]),
            *([number(one["pending"])] if later else []),
            instant(one["next_expiry"], otherwise=""),
        )
    return table


def bars(found: Sequence[BatchAnswer], console: Console, *, now: dt.datetime) -> Table:
    """Return a table of batches that can be spent: what remains of each, and until when."""
    marks = bar.ASCII if console.options.ascii_only else bar.BLOCKS
    table = Table("product")
    table.add_column("", no_wrap=True)
    _add_figures(table, "remains", "of")
    table.add_column("ends", no_wrap=True)
    if console.width >= WIDE:
        table.add_column("batch", no_wrap=True)
    if console.width >= WIDER:
        table.add_column("source")
    for one in sorted(found, key=_by_age):
        drawn = bar.bar(
            whole=Decimal(one["initial"]),
            remaining=Decimal(one["remaining"]),
            held=Decimal(one["held"]),
            marks=marks,
        )
        cells = [
            one["product_key"],
            drawn,
            number(one["remaining"]),
            number(one["initial"]),
            f"{instant(one['expires_at'])} {until(one['expires_at'], now=now)}".strip(),
            str(one["batch_id"]),
            one["source"],
        ]
        table.add_row(*cells[: len(table.columns)])
    return table


def batches(found: Sequence[BatchAnswer], console: Console) -> Table:
    """Return a table of batches of any state, with their ids."""
    table = Table()
    table.add_column("batch", no_wrap=True)
    table.add_column("product")
    table.add_column("state", no_wrap=True)
    _add_figures(table, "remains")
    if console.width >= WIDE:
        _add_figures(table, "of")
        table.add_column("ends", no_wrap=True)
        table.add_column("source")
    if console.width >= WIDER:
        table.add_column("granted", no_wrap=True)
    for one in found:
        cells = [
            str(one["batch_id"]),
            one["product_key"],
            one["state"].lower(),
            number(one["remaining"]),
            number(one["initial"]),
            instant(one["expires_at"]),
            one["source"],
            instant(one["created_at"]),
        ]
        table.add_row(*cells[: len(table.columns)])
    return table


def ledger(found: Sequence[EntryAnswer], console: Console) -> Table:
    """Return a table of ledger entries."""
    table = Table()
    table.add_column("when", no_wrap=True)
    table.add_column("product")
    table.add_column("why", no_wrap=True)
    _add_figures(table, "amount", "balance")
    if console.width >= WIDE:
        table.add_column("cause")
    for one in found:
        cells = [
            instant(one["created_at"]),
            one["product_key"],
            one["action"],
            f"{SIGNS[one['direction']]}{number(one['amount'])}",
            number(one["balance_after"]),
            f"{one['cause_type'].removeprefix('billing.')} {one['cause_id']}",
        ]
        table.add_row(*cells[: len(table.columns)])
    return table


def _add_figures(table: Table, *headings: str) -> None:
    # Never cut: half a figure is a wrong one.
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)


def _by_age(one: BatchAnswer) -> tuple[str, int, str, str]:
    return one["product_key"], one["priority"], str(one["created_at"]), str(one["batch_id"])
