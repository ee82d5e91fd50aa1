"""Quotes as people publish them: models by their common names, and cases of what was used.

Everything is turned into what invoices are made of: a price, and usage as finely as it needs it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from models.rules import money, pricing
from models.rules.pricing import InvalidPrice, Model, Reader
from tasks import quote_usage

_NAMES: Final[Mapping[str, tuple[Model, dict[str, Any]]]] = {
    "blocks_all_tiers": (Model.block, {"charge": "all_tiers"}),
    "blocks_top_tier": (Model.block, {"charge": "top_tier"}),
    "capacity_by_peak": (Model.capacity, {"group_by": "name"}),
    "per_hour_to_the_second": (Model.per_unit, {"per": "3600"}),
    **{model.value: (model, {}) for model in Model},
}
"""Models by name, with what the name says of their params."""

_PREFIXES: Final[Mapping[str, dict[str, Any]]] = {
    "bucketed_max_": {"max_per": "hour"},
    "prorated_": {"recurring": True},
}

# What a name says behind the model's is said again by a field of the params or of the input.
_SUFFIXES: Final = re.compile(r"(_incremental|_with_min_spend|_with_max_spend|_per_group)+$")

_OF_THE_CASE: Final = ("exponent", "already_billed", "period", "persisted_units")
"""Params that say something of the case, and nothing of the price."""

_UNIT_ROUNDING: Final = re.compile(
    r"(up|down|half[ -]up|nearest) to (-?[0-9]{1,2}) (?:decimal )?places?"
)


@dataclass(frozen=True, slots=True)
class Asked:
    """One line to be rated.

    Args:
        billed: what of it was billed before, in major units.
        before: what had been used when it was last billed; the line is for what came after that.
        is_final: whether the period is over.
    """

    price: pricing.Price
    usage: pricing.Usage
    name: str | None = None
    billed: Fraction = Fraction(0)
    before: pricing.Usage | None = None
    is_final: bool = True

    def line(self, currency: str) -> pricing.Line:
        """Rate it. Raises money.UnknownCurrency, money.AmountOutOfRange."""
        line = pricing.rate(self.price, self.usage, currency, is_final=self.is_final)
        billed = self.billed
        if self.before is not None:
            billed += pricing.rate(self.price, self.before, currency, is_final=False).amount
        return pricing.less(line, billed, currency) if billed else line


def read(model: str, params: Mapping[str, Any], currency: str, used: Any) -> list[Asked]:
    """Return the lines that a quote asks for; nearly always it is one.

    Raises:
        InvalidPrice: something is wrong, missing or unknown; it says where, and what would be
            right.
        Unpriceable: an event lacks what its price is made of.
        money.UnknownCurrency
    """
    chosen, said = _model(model)
    given = {**said, **params}
    several = given.get("units")
    if chosen is not Model.block or not isinstance(several, Mapping):
        return [_one(chosen, given, currency, used)]
    del given["units"]
    amounts = Reader(used, "input")
    return [
        _one(chosen, {**given, "blocks": blocks}, currency, {"units": amounts.number(name)}, name)
        for name, blocks in several.items()
    ]


def _model(name: str) -> tuple[Model, dict[str, Any]]:
    said: dict[str, Any] = {}
    base = name
    for prefix, params in _PREFIXES.items():
        if base.startswith(prefix):
            base, said = base.removeprefix(prefix), {**params}
    base = _SUFFIXES.sub("", base)
    if base not in _NAMES:
        raise InvalidPrice.of("model", name, f"must be one of {', '.join(Model)}")
    model, params = _NAMES[base]
    return model, {**params, **said}


def _one(
    model: Model, given: Mapping[str, Any], currency: str, used: Any, name: str | None = None
) -> Asked:
    case = Reader({key: given[key] for key in _OF_THE_CASE if key in given}, "params")
    _check_exponent(case, currency)
    price = _price(model, {key: given[key] for key in given if key not in _OF_THE_CASE})
    reader = Reader(used, "input")
    usage = quote_usage.read(price, reader, case, currency)
    before = reader.number("already_billed_units", None)
    asked = Asked(
        price,
        usage if before is None else quote_usage.after(before, usage),
        name,
        Fraction(case.number("already_billed", Decimal(0))),
        None if before is None else pricing.total(before),
        reader.flag("final_line_of_period", default=True),
    )
    case.close()
    reader.close()
    return asked


def _check_exponent(case: Reader, currency: str) -> None:
    exponent, right = case.whole("exponent", None), money.minor_unit(currency)
    if exponent not in (None, right):
        raise InvalidPrice.of(case.at("exponent"), exponent, f"must be {right}, that of {currency}")


def _price(model: Model, given: dict[str, Any]) -> pricing.Price:
    bounds = given.pop("tier_bounds_cumulative", None)
    if "price_per_hour" in given:
        given["unit_price"] = given.pop("price_per_hour")
    if "unit_rounding" in given:
        given["quantity_rounding"] = _unit_rounding(given.pop("unit_rounding"))
    if model is Model.capacity and "tiers" not in given:
        given["tiers"] = _numbered_tiers(given)
    if model is Model.dynamic:
        given.setdefault("amount_field", "amount")
    try:
        price = pricing.read(model, given)
    except InvalidPrice as refusal:
        raise refusal.under("params") from None
    if bounds is not None:
        _check_bounds(price, bounds)
    return price


def _unit_rounding(text: Any) -> dict[str, Any]:
    said = _UNIT_ROUNDING.fullmatch(text) if isinstance(text, str) else None
    if said is None:
        raise InvalidPrice.of("params.unit_rounding", text, 'must say how, as "down to 0 places"')
    mode = said[1] if said[1] in {"up", "down"} else "half_up"
    return {"mode": mode, "decimals": int(said[2])}


def _numbered_tiers(given: dict[str, Any]) -> list[Any]:
    """The tiers of "tier1", "tier2" and so on, which are taken out."""
    names = [key for key in given if re.fullmatch(r"tier[0-9]{1,3}", key)]
    in_order = sorted(names, key=lambda name: int(name.removeprefix("tier")))
    return [given.pop(name) for name in in_order]


def _check_bounds(price: pricing.Price, bounds: Sequence[str]) -> None:
    terms, upper, sums = price.default.terms, Fraction(0), list[str]()
    for block in terms.blocks if isinstance(terms, pricing.Blocks) else ():
        upper += block.units or 0
        sums.append(str(upper))
    if sums != list(bounds):
        must = f"must be what the blocks come to, {', '.join(sums)}"
        raise InvalidPrice.of("params.tier_bounds_cumulative", bounds, must)
