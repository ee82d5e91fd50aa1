"""A catalogue is one document: all of it is carried out, or nothing."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine

from tasks.catalog_import import CatalogRefused, export_catalog, import_catalog
from tasks.coupons import set_coupon
from tasks.entitlement_list import list_entitlements
from tasks.meters import set_meter
from tasks.plans import set_plan
from tests.integration.billing_world import START, instant, query, subscribe
from worker.demo import prices

LATER = instant("2026-02-10T12:00:00")


@pytest.fixture
def sample() -> Any:
    """The catalogue of the examples."""
    return prices.catalog()


def bring_in(catalog: Any, **more: Any) -> Any:
    return import_catalog(catalog=catalog, **{"as_of": START, **more})


def faults(catalog: Any) -> list[tuple[str, str, str | None]]:
    answer: Any = import_catalog(catalog=catalog, dry_run=True, as_of=LATER)
    return [(one["key"], one["code"], one["field"]) for one in answer["refused"]]


def test_what_is_exported_changes_nothing_when_it_comes_in_again(db: Engine, sample: Any) -> None:
    first = bring_in(sample)
    exported: Any = export_catalog(as_of=START)

    assert {one["action"] for one in first["changes"]} == {"create"}
    assert {name: len(entries) for name, entries in exported.items()} == {
        name: len(entries) for name, entries in sample.items()
    }
    for again in (sample, exported):
        answer = bring_in(again, as_of=LATER)
        assert answer["changes"] == []
        assert answer["unchanged"] == sum(len(entries) for entries in again.values())
    assert export_catalog(as_of=LATER) == exported
    assert query("SELECT count(*) FROM prices WHERE ended_at IS NOT NULL") == [(0,)]


def test_an_export_leaves_out_what_is_as_by_default(db: Engine, sample: Any) -> None:
    bring_in(sample)
    exported: Any = export_catalog(as_of=START)

    assert exported["products"][0] == {
        "product_key": "CALLS",
        "name": "Prepaid calls",
        "burn_policy": "soonest_expiry_first",
    }
    (free,) = (plan for plan in exported["plans"] if plan["plan_key"] == "llm-free")
    assert free["entitlements"] == [
        {"metric": "input_tokens", "limit": "200000", "window": "day"},
        {"metric": "output_tokens", "limit": "1000000"},
    ]
    assert free["credits"] == [{"product_key": "FREE_CALLS", "credit_limit": "100"}]


def test_a_dry_run_tells_each_field_and_changes_nothing(db: Engine, sample: Any) -> None:
    bring_in(sample)
    changed = copy.deepcopy(sample)
    changed["plans"][1]["prices"][3]["unit_amount"] = "0.000004"
    changed["plans"][0]["entitlements"].pop()
    changed["products"].append({"product_key": "seconds", "name": "Seconds"})
    before = export_catalog(as_of=LATER)

    answer: Any = bring_in(changed, dry_run=True, as_of=LATER)

    assert answer["applied"] is False
    assert export_catalog(as_of=LATER) == before
    assert [(one["section"], one["key"], one["action"]) for one in answer["changes"]] == [
        ("products", "SECONDS", "create"),
        ("plans", "llm-free", "change"),
        ("plans", "llm-pro", "change"),
    ]
    assert answer["changes"][1]["fields"] == [
        {"path": "entitlements.output_tokens.limit", "before": "1000000", "after": None},
        {"path": "entitlements.output_tokens.metric", "before": "output_tokens", "after": None},
    ]
    assert answer["changes"][2]["fields"] == [
        {"path": "prices.input USD.unit_amount", "before": "0.000003", "after": "0.000004"}
    ]
    assert bring_in(changed, as_of=LATER)["changes"] == answer["changes"]


def test_a_price_that_changes_starts_a_version_and_a_right_that_is_not_listed_ends(
    db: Engine, sample: Any
) -> None:
    bring_in(sample)
    sample["plans"][1]["prices"][3]["unit_amount"] = "0.000004"
    sample["plans"][0]["entitlements"].pop()

    bring_in(sample, as_of=LATER)

    assert query(
        "SELECT unit_amount::text, effective_at, ended_at FROM prices "
        "WHERE (plan_key, price_key, currency) = ('llm-pro', 'input', 'USD') ORDER BY id"
    ) == [("0.000003", None, LATER), ("0.000004", LATER, None)]
    held: Any = list_entitlements(plan_key="llm-free", as_of=LATER)
    assert [one["metric"] for one in held["entitlements"]] == ["input_tokens"]


def test_one_fault_and_nothing_is_carried_out_and_every_fault_is_told(
    db: Engine, sample: Any
) -> None:
    sample["offers"] += [
        {"sku": "TWICE", "name": "a", "price": 1, "currency": "USD", "items": []},
        {"sku": "twice", "name": "b", "price": 1, "currency": "USD", "items": []},
        {"sku": "CALLS", "name": "c", "price": "1", "currency": "USD", "items": [{}]},
        {"name": "no key", "price": "-1", "currency": "?", "items": []},
    ]
    sample["coupons"].append({"coupon_key": "OURS", "name": "x", "percent": 5, "tenant_id": "acme"})
    sample["plans"][0]["prices"][0]["unit_amount"] = "lots"

    with pytest.raises(CatalogRefused, match="faults in the catalogue") as refused:
        bring_in(sample)

    assert query("SELECT count(*) FROM catalog_keys") == [(0,)]
    assert query("SELECT count(*) FROM meters") == [(0,)]
    said = {one["field"]: one["code"] for one in refused.value.errors}
    assert said == {
        "catalog.offers[5] TWICE.sku": "catalog.listed_twice",
        "catalog.offers[6] twice.sku": "catalog.listed_twice",
        "catalog.offers[7] CALLS.items.0.product_key": "message.invalid",
        "catalog.offers[7] CALLS.items.0.quantity": "message.invalid",
        "catalog.offers[8].sku": "message.invalid",
        "catalog.offers[8].price": "message.invalid",
        "catalog.offers[8].items": "message.invalid",
        "catalog.coupons[2] OURS.tenant_id": "catalog.not_in_catalog",
        "catalog.plans[0] llm-free.prices.0.unit_amount": "message.invalid",
    }


def test_the_commands_refusals_are_told_by_their_own_codes(db: Engine, sample: Any) -> None:
    bring_in(sample)
    sample["products"][0]["type"] = "period"
    sample["offers"][0] |= {"sku": "COINS"}
    sample["offers"][1]["items"][0]["product_key"] = "NOBODYS"
    sample["tax_rates"][0]["percent"] = 20
    sample["coupons"][0]["percent"] = 30
    sample["meters"][0]["aggregation"] = "max"

    assert faults(sample) == [
        ("input_tokens", "meter.of_quota", "aggregation"),
        ("de-vat-19", "tax.rate_fixed", "percent"),
        ("FREE_CALLS", "product.type_fixed", "type"),
        ("COINS", "catalog.key_taken", "sku"),
        ("CALLS-10K", "product.unknown", "items"),
        ("LAUNCH20", "coupon.terms_fixed", "percent"),
    ]


def test_what_live_subscriptions_need_is_not_taken_from_them(db: Engine, sample: Any) -> None:
    bring_in(sample)
    subscribe("acme", "2026-01-01", plan_key="llm-pro", currency="EUR", as_of=LATER)
    subscribe("bolt", "2026-01-01", plan_key="llm-scale", currency="USD", as_of=LATER)
    pro, scale = sample["plans"][1:]
    pro["prices"] = [price for price in pro["prices"] if price["currency"] != "EUR"]
    scale["interval"] = "year"
    sample["products"][1]["active"] = False

    assert faults(sample) == [
        ("llm-scale", "plan.in_use", "interval"),
        ("CALLS-10K", "catalog.breaks", None),
        ("CALLS-1K", "catalog.breaks", None),
        ("llm-pro", "catalog.breaks", None),
        ("llm-scale", "catalog.breaks", None),
    ]
    with pytest.raises(CatalogRefused):
        bring_in(sample, as_of=LATER)
    for offer in sample["offers"][:2]:
        offer["active"] = False
    pro["prices"].append({**pro["prices"][0], "currency": "EUR"})
    scale |= {"interval": "month", "credits": []}
    assert faults(sample) == []


def test_what_was_broken_before_is_not_held_against_a_change(db: Engine, sample: Any) -> None:
    bring_in(sample)
    subscribe("acme", "2026-01-01", plan_key="llm-pro", currency="EUR", as_of=START)
    set_plan(plan_key="llm-pro", name="Pro", prices=[], as_of=instant("2026-02-01T00:00:00"))
    pro = sample["plans"][1]
    pro["prices"] = [price for price in pro["prices"] if price["currency"] != "EUR"]

    assert faults(sample) == []


def test_what_is_not_in_the_document_is_named_and_stays(db: Engine, sample: Any) -> None:
    bring_in(sample)
    set_meter(metric="seconds", as_of=START)

    answer = bring_in({"meters": sample["meters"][1:]}, as_of=LATER)

    assert answer["unlisted"] == {"meters": ["input_tokens", "seconds"]}
    assert answer["changes"] == []


def test_a_coupon_of_one_tenant_is_no_part_of_it(db: Engine) -> None:
    set_coupon(coupon_key="OURS", name="Ours", percent="5", tenant_id="acme")

    assert export_catalog() == {}


def test_an_entry_that_has_lost_a_field_has_its_default_again(db: Engine) -> None:
    product = {"product_key": "CALLS", "name": "Calls"}
    bring_in({"products": [{**product, "burn_policy": "soonest_expiry_first", "active": False}]})

    answer = bring_in({"products": [product]})

    assert [one["path"] for one in answer["changes"][0]["fields"]] == ["active", "burn_policy"]
    exported: Any = export_catalog()
    assert exported == {"products": [product]}


def test_a_metric_may_be_limited_in_the_document_that_mends_its_meter(db: Engine) -> None:
    set_meter(metric="tokens", aggregation="max", as_of=START)
    plan = {
        "plan_key": "p",
        "name": "P",
        "prices": [],
        "entitlements": [{"metric": "tokens", "limit": 5}],
    }

    assert faults({"plans": [plan]}) == [("p", "entitlement.not_summed", "metric")]
    bring_in({"meters": [{"metric": "tokens"}], "plans": [plan]}, as_of=LATER)
    exported: Any = export_catalog(as_of=LATER)
    assert exported["plans"] == [{**plan, "entitlements": [{"metric": "tokens", "limit": "5"}]}]


def test_two_imports_at_once_come_one_after_the_other(db: Engine, sample: Any) -> None:
    ready = threading.Barrier(4)

    def one(_: int) -> int:
        ready.wait()
        return len(bring_in(sample)["changes"])

    with ThreadPoolExecutor(4) as pool:
        counts = list(pool.map(one, range(4)))

    assert sorted(counts)[:3] == [0, 0, 0]
    assert max(counts) == sum(len(entries) for entries in sample.values())
