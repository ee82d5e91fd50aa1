"""Entries of a catalogue, carried out one by one: what is wrong with one hurts no other."""

import datetime as dt
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, TypedDict

from models import database
from models.rules.quota import Window
from models.rules.refusal import Refusal
from models.store import entitlement
from tasks import catalog_document, execution
from tasks.catalog_document import ENTITLEMENT_DEFAULTS, Entry, Section
from tasks.spec import REGISTRY

NOT_OF_A_CATALOGUE = ("as_of", "tenant_id")
"""Arguments of the commands that an entry has no say in: when, and for which one tenant."""


class Fault(TypedDict):
    """Why an entry is refused; `place` is its place in the section, from 0, null if it has none."""

    section: str
    place: int | None
    key: str
    code: str
    field: str | None
    reason: str


class NotInCatalog(Refusal):
    """An entry says something that is no part of a catalogue."""

    code: ClassVar[str] = "catalog.not_in_catalog"


class ListedTwice(Refusal):
    """A section has two entries by one key."""

    code: ClassVar[str] = "catalog.listed_twice"


def watch_metrics(session: database.Session, plans: Sequence[Entry], *, now: dt.datetime) -> None:
    """Let the metrics be watched that plans limit. Call it before anything else is locked."""
    metrics = {
        right.get("metric")
        for entry in plans
        for right in entry.get("entitlements") or ()
        if isinstance(right, Mapping)
    }
    for metric in sorted(one for one in metrics if isinstance(one, str)):
        try:
            with database.savepoint(session):
                entitlement.watch(session, metric, now=now)
        except Refusal:
            # It is told with the entry that it is about, unless that entry's meter changes first.
            continue


def apply(
    session: database.Session, section: Section, entries: Sequence[Entry], *, now: dt.datetime
) -> Iterator[Fault]:
    """Make the entries of a section be what they say; give the faults of those that can not be."""
    keys = Counter(section.name_of(entry) for entry in entries)
    for place, entry in enumerate(entries):
        try:
            _check(section, entry, keys)
            with database.savepoint(session):
                _make(session, section, entry, now)
        except Refusal as refusal:
            yield from _faults(section, place, entry, refusal)


def _check(section: Section, entry: Entry, keys: Counter[str]) -> None:
    for name in NOT_OF_A_CATALOGUE:
        if name in entry:
            raise NotInCatalog(
                f"{name} is no part of a catalogue; leave it out and send {section.task} for it",
                field=name,
            )
    key = section.name_of(entry)
    if key and keys[key] > 1:
        raise ListedTwice(
            f"{key!r} is listed {keys[key]} times; list it once",
            field=section.key,
        )


def _make(session: database.Session, section: Section, entry: Entry, now: dt.datetime) -> None:
    told = {**section.defaults, **entry}
    rights = told.pop("entitlements", None)
    execution.carry_out(session, REGISTRY[section.task], {**told, "as_of": now})
    if rights is not None:
        _make_entitlements(session, told["plan_key"], rights, now)


def _make_entitlements(
    session: database.Session, plan_key: str, rights: Sequence[Entry], now: dt.datetime
) -> None:
    listed = set()
    for right in rights:
        told = {**ENTITLEMENT_DEFAULTS, **right, "plan_key": plan_key, "as_of": now}
        made = execution.carry_out(session, REGISTRY["billing.set_entitlement"], told)
        listed.add((made["metric"], made["window"]))
    held = entitlement.listed(
        session,
        owner=entitlement.Owner(plan_key=plan_key),
        metric=None,
        at=now,
        after=None,
        limit=catalog_document.PAGE,
    )
    for metric, window in {(one.metric, one.window_unit) for one in held} - listed:
        key = entitlement.Key(entitlement.Owner(plan_key=plan_key), metric, Window(window))
        entitlement.change(session, key, terms=None, start=now, end=None, now=now)


def _faults(section: Section, place: int, entry: Entry, refusal: Refusal) -> Iterator[Fault]:
    errors = getattr(refusal, "errors", None) or [
        {"field": refusal.field, "reason": refusal.message}
    ]
    for error in errors:
        yield {
            "section": section.name,
            "place": place,
            "key": str(entry.get(section.key) or ""),
            "code": refusal.code,
            "field": error["field"],
            "reason": error["reason"],
        }
