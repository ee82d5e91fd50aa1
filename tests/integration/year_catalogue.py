"""What is sold in the simulated year: plans of every rhythm, prices raised now and then."""

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from tasks.coupons import set_coupon
from tasks.taxes import set_tax_rate
from tests.integration.billing_world import make_plan, make_prepaid

BEGIN: Final = dt.datetime(2025, 12, 1, tzinfo=dt.UTC)

ZONES: Final = (
    "UTC",
    "Europe/Paris",
    "America/New_York",
    "America/Los_Angeles",
    "America/St_Johns",
    "America/Santiago",  # clocks go on at midnight
    "Asia/Beirut",  # and back at midnight
    "Africa/Cairo",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",  # by half an hour
    "Pacific/Chatham",
    "Pacific/Kiritimati",  # +14:00
    "Pacific/Pago_Pago",
)

SCALES: Final = {"USD": 1, "JPY": 100, "KWD": 1}
"""What the same things cost in each currency, in major units."""

METRICS: Final = ("calls", "bytes", "jobs", "mails")


@dataclass(frozen=True)
class Offer:
    """A plan: how it is billed, the keys of its prices, which are charged ahead, and by what fees
    are shared out."""

    interval: str
    anchor: str
    prices: tuple[str, ...]
    ahead: tuple[str, ...] = ()
    proration: str = "day"

    def is_by_second(self, price_key: str) -> bool:
        return self.proration == "second" and price_key in ("base", "commitment")


PLANS: Final = {
    "basic": Offer("month", "calendar", ("base", "calls", "setup")),
    "team": Offer(
        "month", "calendar", ("base", "calls", "bytes", "commitment"), proration="second"
    ),
    "growth": Offer(
        "month",
        "anniversary",
        ("base", "calls", "jobs", "setup", "commitment"),
        ("base", "setup"),
        "second",
    ),
    "seats": Offer("month", "calendar", ("base", "calls"), ("base",)),
    "metered": Offer("month", "calendar", ("calls", "bytes", "jobs", "mails")),
    "weekly": Offer("week", "calendar", ("base", "mails"), proration="second"),
    "fortnight": Offer("week", "anniversary", ("base", "jobs", "commitment"), ("base",)),
    "quarterly": Offer("quarter", "calendar", ("base", "bytes", "setup")),
    "season": Offer("quarter", "anniversary", ("base", "mails", "calls"), ("base",), "second"),
    "yearly": Offer("year", "calendar", ("base", "calls")),
    "annual": Offer("year", "anniversary", ("base", "bytes", "commitment", "setup"), ("base",)),
    "daily": Offer("day", "calendar", ("base", "calls")),
}

LONG: Final = tuple(
    key for key, offer in PLANS.items() for _ in range({"day": 0, "week": 1}.get(offer.interval, 3))
)
"""What a tenant may be on for long, by how likely that is: a year has many weeks to bill."""

COUPONS: Final[dict[str, dict[str, Any]]] = {
    "TENTH": {"percent": "10", "duration": "forever"},
    "THIRD": {"percent": "33.3", "duration": "once"},
    "QUARTER": {"percent": "25", "duration": "repeating", "periods": 3},
    "FIVE": {"amount": "5", "currency": "USD", "duration": "forever"},
}

TAXES: Final = {"vat": ("20", False), "city": ("2.5", False), "gst": ("10", True)}


CENTS: Final = {"base": 2999, "setup": 1500, "commitment": 6000}


def terms(key: str, currency: str, raised: int) -> dict[str, Any]:
    """A price as `billing.set_plan` takes it, raised so many times. The mails never are."""

    def money(thousandths: int) -> str:
        return f"{Decimal(thousandths * SCALES[currency]).scaleb(-3):f}"

    common = {"price_key": key, "currency": currency}
    if key in CENTS:
        kind = "fixed" if key == "base" else key
        amount = money(10 * (CENTS[key] + 333 * raised))
        return {**common, "kind": kind, "model": "fixed", "unit_amount": amount}
    usage = {**common, "kind": "usage", "metric": key}
    if key == "calls":
        return {**usage, "model": "per_unit", "unit_amount": money(1337 + 100 * raised)}
    if key == "mails":
        params: dict[str, Any] = {"package_size": "10", "package_price": money(2500)}
        return {**usage, "model": "package", "params": params}
    if key == "jobs":
        params = {
            "tiers": [
                {"up_to": "20", "unit_price": money(1000 + raised)},
                {"unit_price": money(600)},
            ]
        }
        return {**usage, "model": "volume", "params": params}
    params = {
        "tiers": [
            {"up_to": "10", "unit_price": money(500 + raised)},
            {"up_to": "40", "unit_price": money(250), "flat_fee": money(2000)},
            {"unit_price": money(100)},
        ]
    }
    return {**usage, "model": "graduated", "params": params}


def offer(plan_key: str, raised: int, at: dt.datetime) -> None:
    """Make a plan, or raise its prices from an instant on."""
    plan = PLANS[plan_key]
    prices = [
        {**terms(key, currency, raised), **({"timing": "advance"} if key in plan.ahead else {})}
        for key in plan.prices
        for currency in SCALES
    ]
    make_plan(
        *prices,
        plan_key=plan_key,
        interval=plan.interval,
        anchor=plan.anchor,
        proration=plan.proration,
        as_of=at,
    )


def open_shop() -> None:
    """Everything that there is before the first tenant."""
    for plan_key in PLANS:
        offer(plan_key, 0, BEGIN)
    for currency in SCALES:
        make_prepaid(currency, f"MONEY_{currency}")
    for coupon_key, said in COUPONS.items():
        set_coupon(coupon_key=coupon_key, name=coupon_key.title(), as_of=BEGIN, **said)
    for tax_key, (percent, inclusive) in TAXES.items():
        set_tax_rate(tax_key=tax_key, name=tax_key.upper(), percent=percent, inclusive=inclusive)
