"""Tiers, blocks, percentages, peaks, filters and levels, each at its edges."""

from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from models.rules import pricing
from models.rules.pricing import Event, Line, Model, Part, Price, Usage

TIERS = [
    {"up_to": "10", "unit_price": "3", "flat_fee": "100"},
    {"up_to": "20", "unit_price": "2", "flat_fee": "50"},
    {"unit_price": "1"},
]


def price_of(model: Model, **params: Any) -> Price:
    return pricing.read(model, params)


def amount_of(price: Price, quantity: str, **more: Any) -> Fraction:
    return pricing.rate(price, pricing.total(Decimal(quantity)), "EUR", **more).amount


def rate_events(price: Price, *events: Event) -> Line:
    return pricing.rate(price, pricing.of_events(price, events), "EUR")


def said(line: Line) -> list[tuple[str | None, str, str]]:
    return [(step.get("of"), step["kind"], step["amount"]) for step in pricing.as_json(line.steps)]


@pytest.mark.parametrize(
    ("quantity", "graduated", "volume"),
    [
        ("-1", 97, 97),
        ("0", 100, 100),
        ("10", 130, 130),
        ("10.000000000001", Fraction("180.000000000002"), Fraction("70.000000000002")),
        ("20", 200, 90),
        ("21", 201, 21),
    ],
)
def test_an_upper_bound_belongs_to_its_tier(
    quantity: str, graduated: Fraction, volume: Fraction
) -> None:
    assert amount_of(price_of(Model.graduated, tiers=TIERS), quantity) == graduated
    assert amount_of(price_of(Model.volume, tiers=TIERS), quantity) == volume


def test_steps_say_which_tier_they_are_in() -> None:
    line = pricing.rate(price_of(Model.graduated, tiers=TIERS), pricing.total(Decimal(12)), "EUR")
    assert pricing.as_json(line.steps) == [
        {
            "kind": "units",
            "up_to": "10",
            "quantity": "10",
            "unit_amount": "3",
            "amount": "30",
            "amount_minor": 3000,
        },
        {
            "kind": "flat_fee",
            "up_to": "10",
            "quantity": "1",
            "unit_amount": "100",
            "amount": "100",
            "amount_minor": 10000,
        },
        {
            "kind": "units",
            "above": "10",
            "up_to": "20",
            "quantity": "2",
            "unit_amount": "2",
            "amount": "4",
            "amount_minor": 400,
        },
        {
            "kind": "flat_fee",
            "above": "10",
            "up_to": "20",
            "quantity": "1",
            "unit_amount": "50",
            "amount": "50",
            "amount_minor": 5000,
        },
    ]


def test_a_volume_s_tier_may_be_found_by_the_next_whole_unit() -> None:
    tiers = [{"up_to": "10.5", "unit_price": "3"}, {"unit_price": "1"}]
    assert amount_of(price_of(Model.volume, tiers=tiers), "10.2") == Fraction("30.6")
    by_whole = price_of(Model.volume, tiers=tiers, tier_lookup="ceil(units)")
    assert amount_of(by_whole, "10.2") == Fraction("10.2")


def test_blocks_of_each_tier_or_of_the_top_one() -> None:
    blocks = [
        {"block_size": "100", "max_blocks": "10", "price": "1"},
        {"block_size": "1000", "max_blocks": "2", "price": "3"},
    ]
    each = price_of(Model.block, blocks=blocks)
    top = price_of(Model.block, blocks=blocks, charge="top_tier")
    by_units = [("0", 0, 0), ("1000", 10, 10), ("1001", 13, 6), ("9000", 34, 27), ("-500", 0, 0)]
    for units, if_each, if_top in by_units:
        assert amount_of(each, units) == if_each
        assert amount_of(top, units) == if_top


@pytest.mark.parametrize(
    ("params", "amounts", "expected"),
    [
        ({}, ["100", "50"], "1.5"),
        ({"fixed_per_event": "2"}, ["100", "50"], "5.5"),
        ({"free_events": 1}, ["100", "50"], "0.5"),
        ({"free_amount": "100"}, ["100", "50"], "0.5"),
        ({"free_amount": "120", "fixed_per_event": "2"}, ["100", "50"], "2.3"),
        ({"free_events": 5, "free_amount": "100"}, ["60", "60", "60"], "0.8"),
        ({"free_events": 1, "free_amount": "1000"}, ["60", "60", "60"], "1.2"),
        ({"free_events": 0, "free_amount": "100"}, ["100", "50"], "0.5"),
        ({"min_per_event": "1", "max_per_event": "2"}, ["1", "150", "1000"], "4.5"),
        ({"min_per_event": "1", "free_amount": "99"}, ["100"], "1"),
        ({"max_per_event": "2"}, ["1000", "-1000"], "0"),
        ({"fixed_per_event": "2", "min_per_event": "5"}, ["0"], "5"),
        ({"fixed_per_event": "2"}, [], "0"),
    ],
)
def test_a_percentage_has_allowances_fees_and_limits(
    params: dict[str, Any], amounts: list[str], expected: str
) -> None:
    price = price_of(Model.percentage, rate_percent="1", **params)
    line = rate_events(price, *(Event(Decimal(amount)) for amount in amounts))
    assert line.amount == Fraction(expected)


def test_like_amounts_may_come_as_one() -> None:
    price = price_of(
        Model.percentage, rate_percent="3", fixed_per_event="1", free_events=2, max_per_event="4"
    )
    one_by_one = Usage((Part(tuple((Decimal(amount), 1) for amount in (7, 7, 7, 7, 500))),))
    together = Usage((Part(((Decimal(7), 4), (Decimal(500), 1))),))
    assert (
        pricing.rate(price, one_by_one, "EUR").amount
        == pricing.rate(price, together, "EUR").amount
        == 2 * Fraction("1.21") + 4
    )


def test_free_events_of_some_days_are_a_whole_number() -> None:
    price = price_of(Model.percentage, rate_percent="1", free_events=3)
    usage = pricing.of_events(price, [Event(Decimal(100))] * 5)
    assert pricing.rate(price, usage, "EUR", share=Fraction(20, 31)).amount == 4


def test_events_say_what_they_cost() -> None:
    price = price_of(Model.dynamic, amount_field="cost", multiplier="1.2")
    line = rate_events(
        price,
        Event(Decimal(3), metadata={"cost": "0.70"}),
        Event(Decimal(1), metadata={"cost": 2}),
    )
    assert line.quantity == Decimal(4)
    assert line.amount == Fraction("3.24")
    with pytest.raises(pricing.Unpriceable, match=r"metadata\.cost None must be a number"):
        rate_events(price, Event(Decimal(1)))


FILTERS = [
    {"match": {"model": ["atlas", "atlas-2"], "region": "eu"}, "unit_price": "10"},
    {"match": {"model": "atlas"}, "unit_price": "5", "label": "Atlas elsewhere"},
]


def test_an_event_falls_in_the_first_filter_that_fits_or_in_the_rest() -> None:
    price = price_of(Model.per_unit, unit_price="1", filters=FILTERS)
    metadata: list[dict[str, Any]] = [
        {"model": "atlas", "region": "eu"},
        {"model": "atlas-2", "region": "eu"},
        {"model": "atlas", "region": "us"},
        {"model": "atlas-2"},
        {},
        {"model": None},
    ]
    line = rate_events(price, *(Event(Decimal(1), metadata=one) for one in metadata))
    assert said(line) == [
        ("model = atlas | atlas-2, region = eu", "units", "20"),
        ("Atlas elsewhere", "units", "5"),
        ("the rest", "units", "3"),
    ]
    assert line.quantity == Decimal(6)
    assert line.unit_amount is None


def test_filters_name_whatever_is_no_text_as_the_database_writes_it() -> None:
    filters = [{"match": {"live": "true", "size": "5"}, "unit_price": "3"}]
    price = price_of(Model.per_unit, unit_price="1", filters=filters)
    for live, amount in ((True, 3), (False, 1), ("true", 3), ("True", 1)):
        event = Event(Decimal(1), metadata={"live": live, "size": 5})
        assert rate_events(price, event).amount == amount


def test_each_group_has_tiers_of_its_own() -> None:
    price = price_of(Model.graduated, tiers=[{"up_to": "1", "unit_price": "1"}, {}], group_by="key")
    events = [Event(Decimal(2), metadata={"key": key}) for key in ("b", "a", "a")]
    line = rate_events(price, *events, Event(Decimal(1)))
    assert line.amount == 3
    assert {of for of, _, _ in said(line)} == {"key = a", "key = b", "key = "}
    assert rate_events(price).amount == 0


def test_many_groups_are_added_up_by_tier() -> None:
    price = price_of(Model.graduated, tiers=[{"up_to": "1", "unit_price": "1"}, {}], group_by="key")
    events = [Event(Decimal(2), metadata={"key": str(place)}) for place in range(300)]
    line = rate_events(price, *events)
    assert line.amount == 300
    assert len(line.steps) == 2


def test_the_greatest_value_of_each_stretch_of_time_is_priced_by_itself() -> None:
    tiers = [{"up_to": "10", "unit_price": "1"}, {"unit_price": "0.1"}]
    events = [
        Event(Decimal(amount), datetime(2026, 3, day, hour, minute))  # noqa: DTZ001
        for amount, day, hour, minute in [(9, 1, 0, 0), (15, 1, 0, 59), (4, 1, 1, 0), (20, 2, 0, 1)]
    ]
    for stretch, expected in (("minute", "34.5"), ("hour", "25.5"), ("day", "21.5")):
        price = price_of(Model.graduated, tiers=tiers, max_per=stretch)
        assert rate_events(price, *events).amount == Fraction(expected)


def test_one_peak_above_its_limit_moves_everything_to_the_next_tier() -> None:
    tiers: list[Any] = [
        {"limits": {"bandwidth": "100", "members": "500"}, "price": "5"},
        {"limits": {"bandwidth": "200"}, "price": "9"},
    ]
    # The last tier is the fee of whatever is too large for all of them, open or not.
    for last, largest in (([], 9), ([{"price": "20"}], 20)):
        price = price_of(Model.capacity, group_by="name", tiers=[*tiers, *last])
        assert capacity_fee(price, 100, 500) == 5
        assert capacity_fee(price, 50, 501) == 9
        assert capacity_fee(price, 0, 0) == 5
        assert capacity_fee(price, 201, 1) == largest


def capacity_fee(price: Any, bandwidth: int, members: int) -> Fraction:
    """Of a whole period, reckoned from half of one."""
    peaks = {"bandwidth": bandwidth, "members": members}
    parts = [Part(((Decimal(peak), 1),), group=name) for name, peak in peaks.items()]
    return 2 * pricing.rate(price, Usage(tuple(parts)), "EUR", share=Fraction(1, 2)).amount


def test_units_that_live_on_are_charged_for_their_days() -> None:
    price = price_of(Model.graduated, tiers=TIERS, recurring=True)
    levels = pricing.levels(Decimal(5), map(Decimal, [0, 10, 0, -20, 0]))
    usage = pricing.recurring(levels, days_of_period=10)
    assert levels == ((Decimal(5), 1), (Decimal(15), 2), (Decimal(-5), 2))
    line = pricing.rate(price, usage, "EUR", share=Fraction(1, 2))
    # 5 units for a day, 15 for two, none for two; half the fee of both tiers.
    assert line.amount == Fraction(15, 10) + 2 * Fraction(40, 10) + 75
    assert line.quantity == Decimal("3.5")
    assert sum(step.amount_minor for step in line.steps) == line.amount_minor


def test_tiers_of_a_part_of_the_period_are_that_part_of_them() -> None:
    price = price_of(Model.graduated, tiers=TIERS)
    assert amount_of(price, "6", share=Fraction(1, 2)) == 50 + 15 + 25 + 2
    whole = price_of(Model.graduated, tiers=TIERS, prorate=False)
    assert amount_of(whole, "6", share=Fraction(1, 2)) == 118
