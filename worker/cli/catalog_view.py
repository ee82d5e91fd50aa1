"""What a catalogue changes, for people."""

from typing import Final

from rich.console import Console
from rich.text import Text

from models.rules import difference
from tasks.catalog_apply import Fault
from tasks.catalog_import import CatalogImported, EntryChange

NOUNS: Final = {
    "meters": "meter",
    "tax_rates": "tax rate",
    "products": "product",
    "offers": "offer",
    "coupons": "coupon",
    "plans": "plan",
}


def show(console: Console, outcome: CatalogImported) -> None:
    """Print every change, every fault, and how many there are."""
    for change in outcome["changes"]:
        _show_change(console, change)
    for fault in outcome["refused"]:
        console.print(Text(f"! {said(fault)}", "red"), soft_wrap=True)
    for section, keys in outcome["unlisted"].items():
        console.print(Text(f"  not in the file, stays: {section} {', '.join(keys)}", "dim"))
    console.print(_summary(outcome), soft_wrap=True)


def said(fault: Fault) -> str:
    """Return a fault as one line."""
    place = "" if fault["place"] is None else f" (entry {fault['place'] + 1})"
    field = f" {fault['field']}:" if fault["field"] else ""
    noun = NOUNS[fault["section"]]
    return f"{noun} {fault['key']}{place}:{field} {fault['reason']} [{fault['code']}]"


def _show_change(console: Console, change: EntryChange) -> None:
    is_new = change["action"] == "create"
    sign, style = ("+", "green") if is_new else ("~", "yellow")
    console.print(Text(f"{sign} {NOUNS[change['section']]} {change['key']}", style), soft_wrap=True)
    for one in change["fields"]:
        before, after = (
            "—" if one[side] is None else difference.shown(one[side])
            for side in ("before", "after")
        )
        values = after if is_new else f"{before} → {after}"
        console.print(Text(f"    {one['path']}: {values}"), soft_wrap=True)


def _summary(outcome: CatalogImported) -> Text:
    new = sum(change["action"] == "create" for change in outcome["changes"])
    counts = (
        f"{new} new, {len(outcome['changes']) - new} changed, {outcome['unchanged']} as they were"
    )
    if outcome["refused"]:
        faults = len(outcome["refused"])
        return Text(f"{faults} fault{'s' if faults > 1 else ''}: nothing was changed ({counts})")
    return Text(f"{counts}{'' if outcome['applied'] else '; nothing was changed yet'}")
