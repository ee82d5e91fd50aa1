"""A catalogue as one document: for each thing that is sold or counted, the arguments that make it.

A document has a list for each of `SECTIONS`, in the order in which one may need another. An entry
says what the section's command takes; what it does not say has its default.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic_core import to_jsonable_python

from models import database
from models.store import coupon, entitlement, meter, offer, plan, product, tax
from tasks import catalog, coupons, entitlements, meters, offers, plans

PAGE: Final = 1_000
"""Rows that are read at once."""

Entry = dict[str, Any]

PRICE_DEFAULTS: Final[Entry] = {
    "metric": None,
    "unit_amount": None,
    "params": {},
    "timing": "arrears",
    "description": None,
}
CREDIT_DEFAULTS: Final[Entry] = {
    "validity_days": None,
    "rollover": "none",
    "rollover_cap": None,
    "prorate_first": False,
}
ENTITLEMENT_DEFAULTS: Final[Entry] = {"window": "month", "soft": False, "per_seat": False}
ITEM_DEFAULTS: Final[Entry] = {"period": "forever", "value": None}


@dataclass(frozen=True, slots=True)
class Section:
    """One list of a document.

    Args:
        name: the list's.
        key: the argument that names an entry.
        task: the command that makes an entry be what it says.
        defaults: what an entry has that it does not say.
        stored: reads what there is, as the command would be told it.
        upper: whether keys are made upper-case, so that two spellings are one.
    """

    name: str
    key: str
    task: str
    defaults: Mapping[str, Any]
    stored: Callable[[database.Session, dt.datetime], Iterable[Entry]]
    upper: bool = False

    def name_of(self, entry: Mapping[str, Any]) -> str:
        """Return the key of an entry as it is stored; "" if it says none."""
        key = entry.get(self.key)
        said = key if isinstance(key, str) else ""
        return said.strip().upper() if self.upper else said

    def entries(self, session: database.Session, now: dt.datetime) -> dict[str, Entry]:
        """Return what there is, by key, without what is as by default."""
        found = (_without(entry, self.defaults) for entry in self.stored(session, now))
        return {entry[self.key]: to_jsonable_python(entry) for entry in found}


def read(session: database.Session, *, now: dt.datetime) -> dict[str, dict[str, Entry]]:
    """Return the whole catalogue as it is: sections, and in each the entries by key."""
    # What a command has just written past the session's objects must be seen.
    session.expire_all()
    return {section.name: section.entries(session, now) for section in SECTIONS}


def _without(entry: Mapping[str, Any], defaults: Mapping[str, Any]) -> Entry:
    missing = object()
    return {key: value for key, value in entry.items() if defaults.get(key, missing) != value}


def _picked(answer: Mapping[str, Any], *names: str) -> Entry:
    return {name: answer[name] for name in names}


def _meters(session: database.Session, now: dt.datetime) -> Iterator[Entry]:
    after = ""
    while found := meter.listed(session, now=now, limit=PAGE, after=after, inactive=True):
        after = found[-1].metric
        for one in found:
            if one.terms is not None:
                answer = meters.answer(one.metric, one.terms, one.version)
                yield {name: value for name, value in answer.items() if name != "version"}


def _tax_rates(session: database.Session, now: dt.datetime) -> Iterator[Entry]:  # noqa: ARG001
    for one in tax.listed_rates(session):
        yield {
            "tax_key": one.tax_key,
            "name": one.name,
            "percent": one.percent,
            "inclusive": one.inclusive,
            "scope": one.scope,
        }


def _products(session: database.Session, now: dt.datetime) -> Iterator[Entry]:  # noqa: ARG001
    after = None
    while found := product.list_page(session, product.Filter(), after=after, most=PAGE):
        after = found[-1].product_key
        yield from ({**catalog.answer(one)} for one in found)


def _offers(session: database.Session, now: dt.datetime) -> Iterator[Entry]:  # noqa: ARG001
    after = None
    while found := offer.list_page(session, offer.Filter(), after=after, most=PAGE):
        after = found[-1].sku
        for one in found:
            answer = offers.answer(one)
            entry = _picked(answer, "sku", "name", "price", "currency", "active", "metadata")
            yield entry | {"items": [_without(item, ITEM_DEFAULTS) for item in answer["items"]]}


def _coupons(session: database.Session, now: dt.datetime) -> Iterator[Entry]:  # noqa: ARG001
    for one in coupon.listed_for_anyone(session):
        answer = coupons.answer(one)
        yield {
            name: value
            for name, value in answer.items()
            if name not in {"tenant_id", "redemption_count"}
        }


def _plans(session: database.Session, now: dt.datetime) -> Iterator[Entry]:
    after = ""
    while found := plan.listed(session, after=after, limit=PAGE):
        after = found[-1].plan_key
        for one in found:
            answer = plans.answer(session, one)
            yield _picked(answer, "plan_key", "name", "interval", "anchor", "proration") | {
                "prices": [_without(price, PRICE_DEFAULTS) for price in answer["prices"]],
                "credits": [_without(credit, CREDIT_DEFAULTS) for credit in answer["credits"]],
                "entitlements": list(_entitlements(session, one.plan_key, now)),
            }


def _entitlements(session: database.Session, plan_key: str, now: dt.datetime) -> Iterator[Entry]:
    """The rights that a plan gives from now on, until further notice."""
    found = entitlement.listed(
        session,
        owner=entitlement.Owner(plan_key=plan_key),
        metric=None,
        at=now,
        after=None,
        limit=PAGE,
    )
    for one in sorted(found, key=lambda one: (one.metric, one.window_unit)):
        if one.ended_at is None:
            answer = entitlements.answer(one)
            entry = _picked(answer, "metric", "limit", "window", "soft", "per_seat")
            yield _without(entry, ENTITLEMENT_DEFAULTS)


SECTIONS: Final = (
    Section(
        "meters",
        "metric",
        "billing.set_meter",
        {
            "aggregation": "sum",
            "unit": None,
            "value_field": None,
            "filters": {},
            "rounding": None,
            "allow_corrections": False,
            "active": True,
        },
        _meters,
    ),
    Section(
        "tax_rates",
        "tax_key",
        "billing.set_tax_rate",
        {"inclusive": False, "scope": {}},
        _tax_rates,
    ),
    Section(
        "products",
        "product_key",
        "billing.set_product",
        {
            "type": "quantity",
            "is_currency": False,
            "burn_policy": "fifo",
            "active": True,
            "metadata": {},
        },
        _products,
        upper=True,
    ),
    Section(
        "offers", "sku", "billing.set_offer", {"active": True, "metadata": {}}, _offers, upper=True
    ),
    Section(
        "coupons",
        "coupon_key",
        "billing.set_coupon",
        {
            "percent": None,
            "amount": None,
            "currency": None,
            "duration": "once",
            "periods": None,
            "scope": {},
            "max_redemptions": None,
            "expires_at": None,
            "active": True,
        },
        _coupons,
        upper=True,
    ),
    Section(
        "plans",
        "plan_key",
        "billing.set_plan",
        {
            "interval": "month",
            "anchor": "calendar",
            "proration": "day",
            "credits": [],
            "entitlements": [],
        },
        _plans,
    ),
)
"""What a catalogue is made of; a section comes after those that its entries name."""
