"""How prices are shown: their terms in words, a line for each tier."""

from collections.abc import Iterator, Sequence
from decimal import Decimal

from rich.table import Table

from models.rules import pricing
from models.rules.decimals import plain
from models.rules.pricing import Model, PackageRounding, Price, Tariff
from tasks.plan_list import ListedPrice
from tasks.price_terms import PriceAnswer
from worker.cli import printing


def table(prices: Sequence[PriceAnswer]) -> Table:
    """Return a table of prices with their terms."""
    table = Table("price", "charges for", "model", "terms", "currency", show_lines=True)
    for one in prices:
        table.add_row(
            one["price_key"], _charged(one), one["model"], "\n".join(terms(one)), one["currency"]
        )
    return table


def versions(prices: Sequence[ListedPrice]) -> Table:
    """Return a table of versions of prices of many plans, with when they are in force."""
    headings = ("plan", "price", "charges for", "terms", "currency", "from", "until")
    table = Table(*headings, show_lines=True)
    for one in prices:
        table.add_row(
            one["plan_key"],
            one["price_key"],
            _charged(one),
            "\n".join(terms(one)),
            one["currency"],
            *(_instant(one[name]) for name in ("effective_at", "ended_at")),
        )
    return table


def terms(one: PriceAnswer) -> list[str]:
    """Return what a price charges, in words, a line for each tier, filter and condition."""
    single = {} if one["unit_amount"] is None else {"unit_price": one["unit_amount"]}
    price = pricing.read(Model(one["model"]), {**one["params"], **single})
    said = list(_tariff(price.default))
    for place, each in enumerate(price.filters):
        said += [f"where {each.name}:", *(f"  {line}" for line in _tariff(price.tariff(place)))]
    return [*said, *_conditions(price)]


def _tariff(tariff: Tariff) -> Iterator[str]:
    rounding = tariff.quantity_rounding
    if rounding is not None:
        yield f"quantity rounded {rounding.mode.replace('_', ' ')} to {rounding.decimals} decimals"
    if tariff.free_units:
        yield f"the first {_number(tariff.free_units)} free"
    match tariff.terms:
        case pricing.Fixed() as fixed:
            yield f"{_number(fixed.unit_price)} for each seat"
        case pricing.PerUnit() as single:
            per = "" if single.per == 1 else f" {_number(single.per)}"
            yield f"{_number(single.unit_price)} for each{per}"
        case pricing.Package() as package:
            full = " full" if package.rounding is PackageRounding.down else " begun"
            size = _number(package.package_size)
            yield f"{_number(package.package_price)} for each{full} package of {size}"
        case pricing.Percentage() as percentage:
            yield from _percentage(percentage)
        case pricing.Dynamic() as dynamic:
            times = "" if dynamic.multiplier == 1 else f", times {_number(dynamic.multiplier)}"
            yield f"what metadata.{dynamic.amount_field} says{times}"
        case pricing.Blocks() | pricing.Capacity() as tiers:
            yield from _blocks(tiers)
        case pricing.Graduated() | pricing.GraduatedPercentage() | pricing.Volume() as tiers:
            yield from _tiers(tiers)


def _percentage(terms: pricing.Percentage) -> Iterator[str]:
    fixed = f" and {_number(terms.fixed_per_event)} an event" if terms.fixed_per_event else ""
    yield f"{_number(terms.rate_percent)} %{fixed}"
    if terms.free_events:
        yield f"the first {terms.free_events:,} events free"
    if terms.free_amount:
        yield f"the first {_number(terms.free_amount)} free"
    if terms.min_per_event is not None:
        yield f"at least {_number(terms.min_per_event)} an event"
    if terms.max_per_event is not None:
        yield f"at most {_number(terms.max_per_event)} an event"


def _tiers(
    terms: pricing.Graduated | pricing.GraduatedPercentage | pricing.Volume,
) -> Iterator[str]:
    if isinstance(terms, pricing.Volume):
        yield "all at the tier of the total:"
    above = Decimal(0)
    for tier in terms.tiers:
        if isinstance(tier, pricing.PercentTier):
            price = f"{_number(tier.rate_percent)} %"
        else:
            price = f"{_number(tier.unit_price)} each"
        fee = f" and {_number(tier.flat_fee)} flat" if tier.flat_fee else ""
        bound = f"above {_number(above)}" if above else "any number"
        if tier.up_to is not None:
            bound = f"up to {_number(tier.up_to)}"
        yield f"{bound}: {price}{fee}"
        above = tier.up_to or above


def _blocks(terms: pricing.Blocks | pricing.Capacity) -> Iterator[str]:
    if isinstance(terms, pricing.Capacity):
        for room in terms.tiers:
            limits = (f"{name} up to {_number(limit)}" for name, limit in room.limits.items())
            yield f"{', '.join(limits) or 'anything'}: {_number(room.price)}"
        return
    if terms.charge is pricing.BlockCharge.top_tier:
        yield "all at the tier of the total:"
    for place, block in enumerate(terms.blocks):
        # The last tier takes what is above the others, whatever it says.
        is_last = block.max_blocks is None or place == len(terms.blocks) - 1
        many = "" if is_last else f"up to {_number(block.max_blocks or Decimal(0))} "
        yield f"{many}blocks of {_number(block.block_size)}: {_number(block.price)} each"


def _conditions(price: Price) -> Iterator[str]:
    if price.group_by is not None:
        yield f"each {price.group_by} by itself"
    if price.max_per is not None:
        yield f"the greatest of each {price.max_per}, by itself"
    if price.recurring:
        yield "units live on, charged by the day"
    if price.min_spend is not None:
        yield f"at least {_number(price.min_spend)} a period"
    if price.max_spend is not None:
        yield f"at most {_number(price.max_spend)} a period"
    if not price.prorate:
        yield "whole also for a part of a period"


def _charged(one: PriceAnswer) -> str:
    charged = one["metric"] or _WORDS[one["kind"]]
    return f"{charged}, ahead" if one["timing"] == "advance" else charged


def _instant(value: object) -> str:
    return printing.instant(value, otherwise="")


def _number(value: Decimal) -> str:
    return f"{Decimal(plain(value)):,f}"


_WORDS = {"fixed": "seats", "setup": "the start", "commitment": "a period, at least"}
