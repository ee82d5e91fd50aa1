"""The whole catalogue, out and in: as one document that says what there is to be."""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, TypedDict

from pydantic import BaseModel, ConfigDict, Field

from models import database
from models.rules import difference
from models.store import catalog_check
from tasks import catalog_apply, catalog_document, contract, fields
from tasks.catalog_apply import Fault
from tasks.catalog_document import SECTIONS, Entry
from tasks.queues import Queue

MOST_ENTRIES = 10_000
"""Entries of one section."""

Entries = Annotated[list[Entry], Field(max_length=MOST_ENTRIES)]


class Catalog(BaseModel):
    """What is to be; a section that is left out stays as it is.

    Args:
        meters: arguments of billing.set_meter.
        tax_rates: of billing.set_tax_rate.
        products: of billing.set_product.
        offers: of billing.set_offer.
        coupons: of billing.set_coupon, for anyone.
        plans: of billing.set_plan, and `entitlements`, the arguments of billing.set_entitlement.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    meters: Entries = []
    tax_rates: Entries = []
    products: Entries = []
    offers: Entries = []
    coupons: Entries = []
    plans: Entries = []


class FieldChange(TypedDict):
    """What a field was and what it becomes; null: it is not said."""

    path: str
    before: Any
    after: Any


class EntryChange(TypedDict):
    """An entry that is new or becomes another, and in what."""

    section: str
    key: str
    action: Literal["create", "change"]
    fields: list[FieldChange]


class CatalogImported(TypedDict):
    """What changed, or would; `unlisted` names what there is and the document does not say."""

    applied: bool
    changes: list[EntryChange]
    unchanged: int
    unlisted: dict[str, list[str]]
    refused: list[Fault]


class CatalogRefused(contract.InvalidMessage):
    """A catalogue has entries that are refused, so nothing of it was carried out."""

    code: ClassVar[str] = "catalog.refused"


@contract.command("billing.export_catalog", queue=Queue.billing)
def export_catalog(
    session: database.Session, *, as_of: fields.Instant = contract.NOW
) -> dict[str, list[Entry]]:
    """Give the whole catalogue: meters, tax rates, products, offers, coupons and plans.

    Runs when an operator asks. It only reads: twice is harmless, and so is dying half way. What it
    answers, billing.import_catalog takes. Left out are sections without entries, what is as by
    default, coupons of a single tenant, and versions of prices that are over.
    """
    found = catalog_document.read(session, now=as_of)
    return {name: list(entries.values()) for name, entries in found.items() if entries}


@contract.command("billing.import_catalog", queue=Queue.billing)
def import_catalog(
    session: database.Session,
    *,
    catalog: Catalog,
    dry_run: bool = False,
    as_of: fields.Instant = contract.NOW,
) -> CatalogImported:
    """Make the catalogue be what a document says: all of it, or nothing.

    Runs when an operator or a deployment sends it. What an entry does not say has its default,
    but metadata is merged; prices, credits and entitlements of a plan that are not listed end. What
    the document does not list stays: to put something away, say `active: false`. Twice is harmless:
    the same again changes nothing. If it dies half way nothing has changed.

    Refused with code `catalog.refused` and every fault of every entry: those of the commands, and
    `catalog.listed_twice`, `catalog.not_in_catalog`, or `catalog.breaks` for what live
    subscriptions or offers on sale can not do without.

    Args:
        catalog: the document, as billing.export_catalog answers it.
        dry_run: tell what would change and what is refused, and change nothing.
        as_of: when prices, credits and entitlements change.
    """
    catalog_check.hold(session)
    if dry_run:
        with database.undone(session):
            outcome = _carry_out(session, catalog, now=as_of)
        return outcome | {"applied": False}
    outcome = _carry_out(session, catalog, now=as_of)
    if outcome["refused"]:
        raise CatalogRefused(
            f"{len(outcome['refused'])} faults in the catalogue, so nothing was changed",
            errors=[_told(fault) for fault in outcome["refused"]],
        )
    return outcome


def _carry_out(session: database.Session, wanted: Catalog, *, now: dt.datetime) -> CatalogImported:
    before = catalog_document.read(session, now=now)
    broken = catalog_check.broken(session, now=now)
    catalog_apply.watch_metrics(session, wanted.plans, now=now)
    refused = [
        fault
        for section in SECTIONS
        for fault in catalog_apply.apply(session, section, getattr(wanted, section.name), now=now)
    ]
    refused += [
        {
            "section": one.section,
            "place": None,
            "key": one.key,
            "code": "catalog.breaks",
            "field": None,
            "reason": one.reason,
        }
        for one in sorted(
            catalog_check.broken(session, now=now) - broken, key=lambda one: (one.section, one.key)
        )
    ]
    after = catalog_document.read(session, now=now)
    changes = list(_changes(before, after))
    listed = sum(len(getattr(wanted, section.name)) for section in SECTIONS)
    return {
        "applied": True,
        "changes": changes,
        "unchanged": listed - len(changes) - len({_entry_of(fault) for fault in refused}),
        "unlisted": _unlisted(before, wanted),
        "refused": refused,
    }


def _entry_of(fault: Fault) -> tuple[str, int | str]:
    place = fault["place"]
    return fault["section"], fault["key"] if place is None else place


def _told(fault: Fault) -> dict[str, Any]:
    place = "" if fault["place"] is None else f"[{fault['place']}]"
    named = f"{fault['section']}{place} {fault['key']}".strip()
    field = f".{fault['field']}" if fault["field"] else ""
    return {"field": f"catalog.{named}{field}", "reason": fault["reason"], "code": fault["code"]}


def _changes(
    before: Mapping[str, Mapping[str, Entry]], after: Mapping[str, Mapping[str, Entry]]
) -> Iterator[EntryChange]:
    for section in SECTIONS:
        for key, entry in after[section.name].items():
            old = before[section.name].get(key)
            differing = difference.between(old or {}, entry)
            if differing:
                yield {
                    "section": section.name,
                    "key": key,
                    "action": "create" if old is None else "change",
                    "fields": [
                        {"path": one.path, "before": one.before, "after": one.after}
                        for one in differing
                    ],
                }


def _unlisted(before: Mapping[str, Mapping[str, Entry]], wanted: Catalog) -> dict[str, list[str]]:
    found = {}
    for section in SECTIONS:
        entries: Sequence[Entry] = getattr(wanted, section.name)
        listed = {section.name_of(entry) for entry in entries}
        missing = [key for key in before[section.name] if key not in listed]
        if entries and missing:
            found[section.name] = missing
    return found
