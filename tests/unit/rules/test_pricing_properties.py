"""What holds of every price: sums, limits, boundaries, order, and the same again."""

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from models.rules import money, pricing
from models.rules.pricing import Event, Model, Part, Price, Usage
from tests.unit.rules import prices

currencies = st.sampled_from(["EUR", "JPY", "BHD"])
shares = st.fractions(min_value=Fraction(1, 366), max_value=1, max_denominator=366)
quantities = st.decimals(min_value=0, max_value=500, places=3)


def amount_of(price: Price, quantity: Decimal, share: Fraction = pricing.WHOLE) -> Fraction:
    return pricing.rate(price, pricing.total(quantity), "EUR", share=share).amount


def simple(model: Model, params: dict[str, Any]) -> Price:
    return pricing.read(model, params)


def simple_prices(*models: Model) -> st.SearchStrategy[Price]:
    """Prices of these models with nothing beside their model's own terms."""
    return st.sampled_from(models).flatmap(
        lambda model: prices.PARAMS[model].map(lambda params: simple(model, params))
    )


@given(price=prices.prices(), events=prices.events(), currency=currencies, share=shares)
def test_steps_add_up_to_their_line_exactly_and_as_they_are_shown(
    price: Price, events: list[Event], currency: str, share: Fraction
) -> None:
    line = pricing.rate(price, pricing.of_events(price, events), currency, share=share)

    assert sum(step.amount for step in line.steps) == line.amount
    assert sum(step.amount_minor for step in line.steps) == line.amount_minor
    assert line.amount_minor == money.round_half_up(line.amount * 10 ** money.minor_unit(currency))


@given(price=prices.prices(), events=prices.events(), currency=currencies, share=shares)
def test_a_line_lies_between_minimum_and_maximum(
    price: Price, events: list[Event], currency: str, share: Fraction
) -> None:
    line = pricing.rate(price, pricing.of_events(price, events), currency, share=share)

    scale = 10 ** money.minor_unit(currency) * (share if price.prorate else 1)
    if price.min_spend is not None:
        assert line.amount_minor >= money.round_half_up(Fraction(price.min_spend) * scale)
    if price.max_spend is not None:
        assert line.amount_minor <= money.round_half_up(Fraction(price.max_spend) * scale)


@given(price=prices.prices())
def test_a_price_is_read_as_it_was_written(price: Price) -> None:
    assert pricing.read(price.model, pricing.write(price)) == price


@given(price=prices.prices(), events=prices.events())
def test_every_event_falls_in_exactly_one_part(price: Price, events: list[Event]) -> None:
    assume(price.max_per is None)
    usage = pricing.of_events(price, events)

    assert usage.quantity == sum((event.amount for event in events), Decimal(0))
    names = [(part.filter, part.group) for part in usage.parts]
    assert len(set(names)) == len(names)


@given(price=prices.prices(), events=prices.events(), random=st.randoms(use_true_random=False))
def test_the_order_in_which_events_come_is_irrelevant(
    price: Price, events: list[Event], random: Any
) -> None:
    has_allowance = any(
        isinstance(tariff.terms, pricing.Percentage) and tariff.terms.has_allowance
        for tariff in price.tariffs
    )
    assume(not has_allowance)
    shuffled = list(events)
    random.shuffle(shuffled)

    assert (
        pricing.rate(price, pricing.of_events(price, shuffled), "EUR").amount
        == pricing.rate(price, pricing.of_events(price, events), "EUR").amount
    )


@given(price=simple_prices(*prices.RISING), less=quantities, more=quantities)
def test_more_never_costs_less(price: Price, less: Decimal, more: Decimal) -> None:
    assert amount_of(price, min(less, more)) <= amount_of(price, max(less, more))


@given(price=simple_prices(Model.per_unit), one=quantities, other=quantities)
def test_what_has_no_tiers_costs_the_same_in_parts(
    price: Price, one: Decimal, other: Decimal
) -> None:
    assert amount_of(price, one) + amount_of(price, other) == amount_of(price, one + other)


@given(price=simple_prices(*prices.OF_QUANTITIES), before=quantities, then=quantities)
def test_what_is_billed_in_between_does_not_change_what_the_period_costs(
    price: Price, before: Decimal, then: Decimal
) -> None:
    """Incremental packages, blocks and tiers count on the cumulative quantity."""
    first = pricing.rate(price, pricing.total(before), "EUR")
    whole = pricing.rate(price, pricing.total(before + then), "EUR")

    rest = pricing.less(whole, first.amount, "EUR")

    assert first.amount + rest.amount == whole.amount
    assert abs(first.amount_minor + rest.amount_minor - whole.amount_minor) <= 1


@given(
    price=simple_prices(Model.graduated, Model.volume, Model.graduated_percentage),
    quantity=quantities,
    share=shares,
)
def test_a_share_of_the_days_with_that_share_of_the_usage_costs_that_share(
    price: Price, quantity: Decimal, share: Fraction
) -> None:
    """So a period that is cut where a price changes costs what it would have cost whole."""
    tenth = Fraction(round(share * 10) or 1, 10)
    part = quantity * round(tenth * 10) / 10

    assert amount_of(price, part, tenth) == amount_of(price, quantity) * tenth


@given(price=simple_prices(Model.graduated, Model.volume))
def test_a_tier_holds_its_upper_bound_and_the_next_what_is_above(price: Price) -> None:
    terms = price.default.terms
    assert isinstance(terms, pricing.Graduated | pricing.Volume)
    for tier, following in zip(terms.tiers, terms.tiers[1:], strict=False):
        assert tier.up_to is not None
        at = pricing.rate(price, pricing.total(tier.up_to), "EUR")
        above = pricing.rate(price, pricing.total(tier.up_to + Decimal("0.001")), "EUR")
        assert at.steps[-1].up_to == tier.up_to
        assert above.steps[-1].above == tier.up_to
        if isinstance(terms, pricing.Graduated):
            rise = Fraction(following.unit_price) / 1000 + Fraction(following.flat_fee)
            assert above.amount - at.amount == rise


@given(
    price=simple_prices(Model.percentage),
    amounts=st.lists(st.sampled_from([Decimal(5), Decimal(90)]), max_size=9),
)
def test_like_events_one_by_one_cost_what_they_cost_as_one_row(
    price: Price, amounts: list[Decimal]
) -> None:
    """That is how the database hands over what an allowance does not reach."""
    terms = replace(price.default.terms, free_events=None, free_amount=None)
    price = Price(pricing.Tariff(terms))
    singly = Usage((Part(tuple((amount, 1) for amount in amounts)),))
    counted = Usage((Part(tuple((amount, amounts.count(amount)) for amount in set(amounts))),))

    assert pricing.rate(price, singly, "EUR").amount == pricing.rate(price, counted, "EUR").amount


@given(
    changes=st.lists(st.integers(-20, 20), min_size=2, max_size=31),
    before=st.integers(0, 50),
    cut=st.integers(1, 30),
)
def test_units_by_day_cost_the_same_in_two_parts_of_a_period(
    changes: list[int], before: int, cut: int
) -> None:
    cut = min(cut, len(changes) - 1)
    price = simple(
        Model.graduated, {"tiers": [{"up_to": "10", "unit_price": "3"}, {}], "recurring": True}
    )
    days = [Decimal(change) for change in changes]
    at_cut = Decimal(before) + sum(days[:cut])

    def cost(level: Decimal, some: list[Decimal]) -> Fraction:
        usage = pricing.recurring(pricing.levels(level, some), days_of_period=len(days))
        share = Fraction(len(some), len(days))
        return pricing.rate(price, usage, "EUR", share=share).amount

    in_parts = cost(Decimal(before), days[:cut]) + cost(at_cut, days[cut:])
    assert in_parts == cost(Decimal(before), days)
