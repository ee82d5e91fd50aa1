"""Prices of every kind, and usage to rate by them, for properties."""

import datetime as dt
from decimal import Decimal
from itertools import accumulate
from typing import Any

from hypothesis import strategies as st

from models.rules import pricing
from models.rules.pricing import Event, Model, Price

MODELS = ("atlas", "atlas-2", "hermes")
REGIONS = ("eu", "us")
START = dt.datetime(2026, 1, 1)  # noqa: DTZ001 (local time)

amounts = st.decimals(min_value=0, max_value=1000, places=3).map(str)
sizes = st.decimals(min_value=Decimal("0.001"), max_value=1000, places=3).map(str)


@st.composite
def tiers(draw: st.DrawFn, price: str = "unit_price") -> list[dict[str, Any]]:
    """Up to four tiers with rising bounds."""
    steps = draw(st.lists(st.decimals(Decimal("0.001"), 50, places=3), max_size=3))
    bounds = [str(bound) for bound in accumulate(steps)]
    return [
        {"up_to": bound, price: draw(amounts), "flat_fee": draw(st.sampled_from(["0", "7.5"]))}
        for bound in (*bounds, None)
    ]


@st.composite
def blocks(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Up to three tiers of blocks."""
    each = st.fixed_dictionaries(
        {"block_size": sizes, "max_blocks": st.integers(1, 9).map(str), "price": amounts}
    )
    return draw(st.lists(each, min_size=1, max_size=3))


def optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


PARAMS: dict[Model, st.SearchStrategy[dict[str, Any]]] = {
    Model.per_unit: st.fixed_dictionaries({"unit_price": amounts, "per": sizes}),
    Model.graduated: st.fixed_dictionaries({"tiers": tiers()}),
    Model.volume: st.fixed_dictionaries({"tiers": tiers()}),
    Model.graduated_percentage: st.fixed_dictionaries({"tiers": tiers("rate_percent")}),
    Model.package: st.fixed_dictionaries(
        {
            "package_size": sizes,
            "package_price": amounts,
            "rounding": st.sampled_from(["up", "down"]),
        }
    ),
    Model.block: st.fixed_dictionaries(
        {"blocks": blocks(), "charge": st.sampled_from(["all_tiers", "top_tier"])}
    ),
    Model.percentage: st.fixed_dictionaries(
        {
            "rate_percent": amounts,
            "fixed_per_event": amounts,
            "free_events": optional(st.integers(0, 5)),
            "free_amount": optional(amounts),
            "min_per_event": optional(st.just("2")),
            "max_per_event": optional(st.just("5")),
        }
    ),
    Model.dynamic: st.fixed_dictionaries(
        {"amount_field": st.just("cost"), "multiplier": st.sampled_from(["1", "1.2"])}
    ),
}
"""What each model needs, but fees and capacity."""

OF_QUANTITIES = (
    Model.per_unit,
    Model.graduated,
    Model.volume,
    Model.graduated_percentage,
    Model.package,
    Model.block,
)

RISING = (Model.per_unit, Model.graduated, Model.graduated_percentage, Model.package)
"""Models by which more never costs less."""


@st.composite
def filters(draw: st.DrawFn, model: Model) -> list[dict[str, Any]]:
    """Up to two filters, which may fit the same event."""
    match = st.fixed_dictionaries(
        {"model": st.lists(st.sampled_from(MODELS), min_size=1, unique=True)},
        optional={"region": st.sampled_from(REGIONS)},
    )
    return [
        {"match": draw(match), **draw(PARAMS[model])}
        for _ in range(draw(st.integers(min_value=0, max_value=2)))
    ]


@st.composite
def prices(draw: st.DrawFn, among: tuple[Model, ...] = tuple(PARAMS)) -> Price:
    """A price for usage, of any model, with anything that goes with it."""
    model = draw(st.sampled_from(among))
    params = draw(PARAMS[model])
    params["filters"] = draw(filters(model))
    if draw(st.booleans()):
        params["group_by"] = "region"
    if draw(st.booleans()):
        least, most = sorted((draw(st.integers(0, 900)), draw(st.integers(0, 900))))
        params |= {"min_spend": str(least), "max_spend": str(most)}
    if model in OF_QUANTITIES:
        params["free_units"] = draw(st.sampled_from(["0", "10"]))
        params["max_per"] = draw(optional(st.sampled_from(["minute", "hour", "day"])))
        params["quantity_rounding"] = draw(
            optional(st.sampled_from([{"mode": "up", "decimals": -1}]))
        )
    params["prorate"] = draw(st.booleans())
    return pricing.read(model, params)


@st.composite
def events(draw: st.DrawFn, least: int = 0) -> list[Event]:
    """Up to twelve events of January, in order."""
    minutes = sorted(draw(st.sets(st.integers(0, 31 * 24 * 60 - 1), max_size=12)))
    places = st.fixed_dictionaries(
        {"cost": st.decimals(0, 100, places=4).map(str)},
        optional={"model": st.sampled_from(MODELS), "region": st.sampled_from(REGIONS)},
    )
    amount = st.decimals(min_value=least, max_value=200, places=2)
    return [
        Event(draw(amount), START + dt.timedelta(minutes=minute), draw(places))
        for minute in minutes
    ]
