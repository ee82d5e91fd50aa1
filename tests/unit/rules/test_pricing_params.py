"""Params of prices: what is wrong is said by field, value and what would be right."""

from decimal import Decimal
from typing import Any

import pytest

from models.rules import pricing
from models.rules.pricing import InvalidPrice, Model

TIER = {"up_to": "5", "unit_price": "1"}
OPEN = {"unit_price": "2"}
ATLAS = {"match": {"model": "atlas"}}


@pytest.mark.parametrize(
    ("model", "params", "message"),
    [
        ("per_unit", {}, "unit_price must be given"),
        ("per_unit", {"unit_prise": "1"}, "unit_price must be given; did you write it as unit_pr"),
        ("per_unit", {"unit_price": "1", "filter": []}, "filter [] must be left out; did you mean"),
        ("per_unit", {"unit_price": "-1"}, "unit_price -1 must be zero or more, below 10^18"),
        ("per_unit", {"unit_price": "NaN"}, "unit_price NaN must be zero or more"),
        ("per_unit", {"unit_price": "1E+1000"}, "unit_price 1E+1000 must be zero or more"),
        ("per_unit", {"unit_price": "1E+18"}, "unit_price 1E+18 must be zero or more, below 10^18"),
        ("per_unit", {"unit_price": "0.0000000000001"}, "with at most 12 decimals"),
        ("per_unit", {"unit_price": "0E-1000000"}, "unit_price 0E-1000000 must be zero or more"),
        ("per_unit", {"unit_price": "1." + "0" * 1000}, "with at most 12 decimals"),
        ("per_unit", {"unit_price": "ten"}, "unit_price 'ten' must be a decimal as text"),
        ("per_unit", {"unit_price": 0.1}, "unit_price 0.1 must be a decimal as text"),
        ("per_unit", {"unit_price": True}, "unit_price True must be a decimal as text"),
        ("per_unit", {"unit_price": "1", "per": "0"}, "per 0 must be more than zero"),
        ("per_unit", {"unit_price": "1", "recurring": "yes"}, "recurring 'yes' must be true or"),
        ("graduated", {"tiers": []}, "tiers 0 must be 1 to 100 of them"),
        ("graduated", {"tiers": [OPEN] * 101}, "tiers 101 must be 1 to 100 of them"),
        ("graduated", {"tiers": "5"}, "tiers '5' must be a list"),
        ("graduated", {"tiers": [5]}, "tiers[0] 5 must be a JSON object"),
        ("graduated", {"tiers": [TIER]}, "tiers[0].up_to 5 must be null: the last tier takes"),
        ("graduated", {"tiers": [OPEN, OPEN]}, "tiers[0].up_to must be a number: only the last"),
        ("graduated", {"tiers": [TIER, TIER, OPEN]}, "tiers[1].up_to 5 must be more than that of"),
        ("graduated", {"tiers": [{"up_to": "0"}, OPEN]}, "tiers[0].up_to 0 must be more than zero"),
        ("graduated", {"tiers": [{"unit_price": "-1"}]}, "tiers[0].unit_price -1 must be zero or"),
        ("graduated", {"tiers": [{"flat_fee": "-1"}]}, "tiers[0].flat_fee -1 must be zero or more"),
        ("graduated", {"tiers": [{"flat": "1"}]}, "tiers[0].flat '1' must be left out; did you"),
        ("volume", {"tiers": [OPEN], "tier_lookup": "round"}, "tier_lookup 'round' must be one of"),
        (
            "package",
            {"package_size": "0", "package_price": "1"},
            "package_size 0 must be more",
        ),
        ("block", {"blocks": []}, "blocks 0 must be 1 to 100"),
        (
            "block",
            {"blocks": [{"block_size": "1", "price": "1"}] * 2},
            "blocks[0].max_blocks must be a number: only the last tier is open",
        ),
        (
            "percentage",
            {"rate_percent": "1", "min_per_event": "2", "max_per_event": "1"},
            "min_per_event 2 must be at most max_per_event, 1",
        ),
        ("percentage", {"rate_percent": "1", "free_events": "1.5"}, "free_events 1.5 must be a wh"),
        ("percentage", {"rate_percent": "1", "free_events": "sNaN"}, "free_events sNaN must be a"),
        (
            "percentage",
            {"rate_percent": "1", "free_events": "1E+40"},
            "free_events 1E+40 must be a whole number",
        ),
        (
            "percentage",
            {"rate_percent": "1", "free_events": -1},
            "free_events -1 must be 0 to",
        ),
        (
            "percentage",
            {"rate_percent": "1", "free_units": "1"},
            "free_units 1 must be left",
        ),
        ("dynamic", {"amount_field": 5}, "amount_field 5 must be text"),
        ("dynamic", {"amount_field": ""}, "must have 1 to 64 characters"),
        ("dynamic", {"amount_field": "a\nb"}, "1 to 64 characters, none of them a control"),
        (
            "per_unit",
            {"unit_price": "1", "filters": [{"match": {"": "a"}, "unit_price": "1"}]},
            "filters[0].match. '' must have 1 to 64 characters",
        ),
        ("dynamic", {"amount_field": "x" * 65}, "must have 1 to 64 characters"),
        ("dynamic", {"amount_field": "cost", "max_per": "hour"}, "max_per 'hour' must be left out"),
        ("capacity", {"tiers": [{"price": "5"}]}, "group_by must be the key of the metadata that"),
        (
            "capacity",
            {"tiers": [{"price": "5", "limits": {"seats": "-1"}}], "group_by": "name"},
            "tiers[0].limits.seats -1 must be zero or more",
        ),
        (
            "per_unit",
            {"unit_price": "1", "min_spend": "5", "max_spend": "4"},
            "min_spend 5 must be at most max_spend, 4",
        ),
        (
            "per_unit",
            {"unit_price": "1", "max_per": "week"},
            "max_per 'week' must be one of m",
        ),
        (
            "per_unit",
            {"unit_price": "1", "recurring": True, "group_by": "team"},
            "group_by 'team' must be left out where units live on",
        ),
        ("package", {"package_size": "1", "package_price": "1", "recurring": True}, "recurring Tr"),
        (
            "fixed",
            {"unit_price": "1", "min_spend": "1"},
            "min_spend 1 must be left out wh",
        ),
        (
            "per_unit",
            {"unit_price": "1", "filters": [{"unit_price": "1"}]},
            "filters[0].match {}",
        ),
        (
            "per_unit",
            {"unit_price": "1", "filters": [{"match": {"model": []}, "unit_price": "1"}]},
            "filters[0].match.model [] must be at least one text",
        ),
        (
            "per_unit",
            {"unit_price": "1", "filters": [{"match": {"model": [1]}, "unit_price": "1"}]},
            "filters[0].match.model [1] must be a text or a list of texts",
        ),
        (
            "per_unit",
            {"unit_price": "1", "filters": [ATLAS]},
            "filters[0].unit_price must be",
        ),
        (
            "graduated",
            {"tiers": [OPEN], "filters": [{**ATLAS, "tiers": [TIER]}]},
            "filters[0].tiers[0].up_to 5 must be null",
        ),
        (
            "dynamic",
            {"amount_field": "cost", "filters": [{**ATLAS, "amount_field": "price"}]},
            "filters[0].amount_field 'price' must be that of the price, 'cost'",
        ),
        (
            "per_unit",
            {"unit_price": "1", "quantity_rounding": {"mode": "up", "decimals": 13}},
            "quantity_rounding.decimals 13 must be -12 to 12; -2 rounds to hundreds",
        ),
        (
            "per_unit",
            {"unit_price": "1", "quantity_rounding": {"mode": "near", "decimals": 0}},
            "quantity_rounding.mode 'near' must be one of half_up, up, down",
        ),
    ],
)
def test_what_can_not_be_charged_is_refused_by_name(
    model: str, params: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidPrice) as refused:
        pricing.read(Model(model), params)

    assert refused.value.message.startswith(message) or message in refused.value.message
    assert refused.value.code == "price.invalid"
    assert refused.value.message.startswith(str(refused.value.field))
    assert len(refused.value.message) < 200, "what was given is quoted in part"


def test_numbers_may_be_whole_or_text_of_any_length_of_zeros() -> None:
    for given in ("0.0010000000000000", Decimal("0.001"), "1E-3"):
        assert pricing.read(Model.per_unit, {"unit_price": given}).unit_price == Decimal("0.001")
    assert pricing.read(Model.per_unit, {"unit_price": 7}).unit_price == 7


def test_params_are_written_without_what_has_its_default() -> None:
    given = {
        "tiers": [
            {"up_to": "5.0", "unit_price": "1.50", "flat_fee": "0"},
            {"up_to": None, "unit_price": "1E+3", "flat_fee": 2},
        ],
        "filters": [
            {"match": {"model": ["b", "a", "b"], "region": "eu"}, "tiers": [{}], "label": "Eu"}
        ],
        "free_units": "0",
        "group_by": None,
        "min_spend": "10.0",
        "recurring": False,
        "prorate": False,
        "quantity_rounding": {"mode": "up", "decimals": 0},
    }

    written = pricing.write(pricing.read(Model.graduated, given))

    assert written == {
        "tiers": [{"up_to": "5", "unit_price": "1.5"}, {"unit_price": "1000", "flat_fee": "2"}],
        "quantity_rounding": {"decimals": 0, "mode": "up"},
        "filters": [
            {"match": {"model": ["a", "b"], "region": ["eu"]}, "tiers": [{}], "label": "Eu"}
        ],
        "min_spend": "10",
        "prorate": False,
    }
    assert pricing.write(pricing.read(Model.graduated, written)) == written
