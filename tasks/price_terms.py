"""A price as messages say it."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar, TypedDict

from pydantic import BaseModel, ConfigDict

from models.catalog import Price, PriceKind, Timing
from models.rules import pricing
from models.rules.decimals import plain
from models.rules.pricing import InvalidPrice, Model
from models.rules.refusal import Refusal
from models.store import price_version
from models.store.price_version import Terms
from tasks import fields

ONCE_A_PERIOD = frozenset({PriceKind.setup, PriceKind.commitment})
"""Kinds that are of the whole subscription, whatever its seats."""

FEES = frozenset({PriceKind.fixed, PriceKind.setup})
"""Kinds that may be charged ahead."""


class InvalidTerms(Refusal):
    """A price's terms contradict one another, or it is listed twice."""

    code: ClassVar[str] = "price.invalid"


class AdvanceNotSupported(Refusal):
    """Fees alone can be charged ahead: nobody knows usage before it is there."""

    code: ClassVar[str] = "price.advance_not_supported"


class PriceTerms(BaseModel):
    """One price of a plan.

    Args:
        price_key: names the price within the plan, 1 to 64 characters.
        kind: "fixed" is a fee a period for the subscription's quantity (seats); "usage" is what was
            used of `metric`; "setup" is charged once, in the first period; "commitment" is what the
            fees and the usage of a period come to at least, for its share of the period.
        metric: for usage, and only for it.
        model: how the quantity becomes an amount; by kind "fixed" or "per_unit" when absent. For
            usage: per_unit, graduated, volume, package, percentage, graduated_percentage, block,
            capacity, dynamic. For a fee: fixed (the unit amount times seats), per_unit (the same),
            graduated, volume, package, block.
        unit_amount: of fixed and per_unit, in major units of the currency, 0 or more, at most 12
            decimals; as a string.
        params: what else the model needs, and what holds of any usage price: free_units,
            quantity_rounding, filters, group_by, max_per, recurring, min_spend, max_spend, prorate.
            docs/prices.md has them all. Numbers as strings.
        currency: ISO 4217.
        timing: when a fee or a setup fee is charged: "arrears", after its period; "advance", when
            it begins.
        description: what the invoice says; the price key when absent.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    price_key: fields.PriceKey
    kind: PriceKind
    metric: fields.Metric | None = None
    model: Model | None = None
    unit_amount: fields.UnitAmount | None = None
    params: dict[str, Any] = {}
    currency: fields.Currency
    timing: Timing = Timing.arrears
    description: fields.Name | None = None


class PriceAnswer(TypedDict):
    """A price as it is from now on."""

    price_key: str
    kind: str
    metric: str | None
    model: str
    unit_amount: str | None
    params: dict[str, Any]
    currency: str
    timing: str
    description: str | None


def read(prices: Sequence[PriceTerms]) -> list[Terms]:
    """Return what prices charge.

    Raises:
        InvalidTerms: one contradicts itself, or is listed twice.
        InvalidPrice: one has params that can not be charged by; it says which, and what would be
            right.
        AdvanceNotSupported
    """
    terms = [_read(one, f"prices[{place}]") for place, one in enumerate(prices)]
    _check_listed_once(terms)
    return terms


def answer(price: Price) -> PriceAnswer:
    """Return a stored price as tasks answer it."""
    return {
        "price_key": price.price_key,
        "kind": price.kind,
        "metric": price.metric,
        "model": price.model,
        "unit_amount": None if price.unit_amount is None else plain(price.unit_amount),
        "params": price_version.params(price_version.read(price)),
        "currency": price.currency,
        "timing": price.timing,
        "description": price.description,
    }


def _read(one: PriceTerms, path: str) -> Terms:
    _check_metric(one)
    _check_timing(one)
    price = _price(one, path)
    if one.kind in ONCE_A_PERIOD and (model := price.model) is not Model.fixed:
        raise InvalidTerms(
            f"price {one.price_key!r} is of kind {one.kind.value} and has the model "
            f"{model.value!r}; it has one amount, so give unit_amount and no model",
            field="prices",
        )
    if one.kind is not PriceKind.usage and not price.can_be_fee:
        raise InvalidTerms(
            f"price {one.price_key!r} is a fee, and no seats can be charged by the model "
            f"{price.model.value!r} with params {sorted(one.params)}; a fee is fixed, per_unit, "
            "graduated, volume, package or block, without what is of usage or limits what is spent",
            field="prices",
        )
    return Terms(
        price_key=one.price_key,
        currency=one.currency,
        kind=one.kind,
        metric=one.metric,
        price=price,
        timing=one.timing,
        description=one.description,
    )


def _check_metric(one: PriceTerms) -> None:
    usage = one.kind is PriceKind.usage
    if usage != (one.metric is not None):
        raise InvalidTerms(
            f"price {one.price_key!r} is of kind {one.kind.value} and its metric is "
            f"{one.metric!r}; a usage price needs a metric and any other one has none",
            field="prices",
        )
    if usage and one.model is Model.fixed:
        raise InvalidTerms(
            f"price {one.price_key!r} charges for usage of {one.metric!r} by the model 'fixed'; "
            "usage needs 'per_unit' or another one, and a fee is of kind 'fixed'",
            field="prices",
        )


def _check_timing(one: PriceTerms) -> None:
    if one.timing is Timing.advance and one.kind not in FEES:
        raise AdvanceNotSupported(
            f"price {one.price_key!r} is of kind {one.kind.value} and has timing 'advance'; what "
            "it comes to is known when the period is over, so use 'arrears'",
            field="prices",
        )


def _price(one: PriceTerms, path: str) -> pricing.Price:
    model = one.model or (Model.per_unit if one.kind is PriceKind.usage else Model.fixed)
    for name in ("unit_amount", "unit_price"):
        if name in one.params:
            must = "must be left out; give unit_amount beside the params"
            raise InvalidPrice.of(f"{path}.params.{name}", one.params[name], must)
    single = {} if one.unit_amount is None else {"unit_price": one.unit_amount}
    if single and model not in {Model.fixed, Model.per_unit}:
        must = f"must be left out: a {model.value} price has its amounts in params"
        raise InvalidPrice.of(f"{path}.unit_amount", one.unit_amount, must)
    try:
        return pricing.read(model, {**one.params, **single})
    except InvalidPrice as refusal:
        if refusal.field == "unit_price":
            raise InvalidPrice.of(f"{path}.unit_amount", refusal.value, refusal.must) from None
        raise refusal.under(f"{path}.params") from None


def _check_listed_once(terms: Sequence[Terms]) -> None:
    counts = Counter((one.price_key, one.currency) for one in terms)
    for (price_key, currency), count in counts.items():
        if count > 1:
            raise InvalidTerms(
                f"price {price_key!r} in {currency} is listed {count} times; list it once, or give "
                "the others keys of their own",
                field="prices",
            )
