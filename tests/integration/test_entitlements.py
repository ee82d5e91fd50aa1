"""Rights: of plans and of tenants, from one instant to another, and how they come together."""

from typing import Any

import pytest
from sqlalchemy import Engine

from models.rules.refusal import Refusal
from tasks.entitlement_list import get_entitlements, list_entitlements
from tasks.entitlements import set_entitlement
from tasks.meters import set_meter
from tasks.subscriptions import end_subscription, set_subscription
from tests.integration.allowance import NOON, allow, at, check, disallow, use
from tests.integration.billing_world import make_plan, subscribe

FEBRUARY, MARCH, APRIL = at("2026-02-01"), at("2026-03-01"), at("2026-04-01")


@pytest.fixture
def plans(db: Engine) -> None:
    """Two plans, of which acme is on the first."""
    make_plan(plan_key="pro")
    make_plan(plan_key="extra")
    subscribe("acme", "2026-01-01", plan_key="pro")


def versions(**conditions: Any) -> list[tuple[Any, ...]]:
    found = list_entitlements(show="all", as_of=NOON, **conditions)["entitlements"]
    ordered = sorted(found, key=lambda one: str(one["effective_at"]))
    return [(one["limit"], one["effective_at"], one["ended_at"]) for one in ordered]


def limit(when: Any = NOON) -> str | None:
    answer: str | None = check(when=when)["limit"]
    return answer


def test_a_plans_entitlement_is_that_of_everyone_on_it(plans: None) -> None:
    subscribe("bolt", "2026-01-01", plan_key="extra")

    allow(5, plan_key="pro")

    assert use(5, "k")["allowed"] is True
    assert use(1, "k2")["allowed"] is False
    assert check(tenant_id="bolt")["reason"] == "no_entitlement"


def test_a_subscription_gives_its_rights_while_it_lasts(plans: None) -> None:
    allow(5, plan_key="extra", as_of=at("2025-12-01"))
    subscribe("acme", "2026-02-01T12:00", plan_key="extra")
    end_subscription(tenant_id="acme", plan_key="extra", ended_at=MARCH, as_of=MARCH)

    assert check(when=at("2026-02-01T11:59:59"))["allowed"] is False
    assert check(when=at("2026-02-01T12:00"))["allowed"] is True
    assert check(when=at("2026-02-28T23:59:59"))["allowed"] is True
    assert check(when=MARCH)["allowed"] is False


def test_plans_add_up_and_seats_multiply_where_it_is_said(plans: None) -> None:
    set_subscription(
        tenant_id="acme",
        plan_key="extra",
        quantity="3",
        effective_at=at("2026-01-01"),
        idempotency_key="extra",
    )
    allow(100, plan_key="pro")
    allow("2.5", plan_key="extra", per_seat=True)

    assert limit() == "107.5"
    assert get_entitlements(tenant_id="acme", as_of=NOON)["entitlements"][0]["sources"] == [
        {"plan_key": "extra", "limit": "7.5"},
        {"plan_key": "pro", "limit": "100"},
    ]
    allow(None, plan_key="extra", as_of=NOON)
    assert limit() is None


def test_an_upgrade_counts_what_was_used_before(plans: None) -> None:
    allow(5, plan_key="pro")
    allow(20, plan_key="extra")
    use(5, "a")

    subscribe("acme", "2026-03-10T12:00", plan_key="extra")
    up = use(10, "b")
    end_subscription(tenant_id="acme", plan_key="extra", ended_at=at("2026-03-12"), as_of=NOON)
    down = use(1, "c", when=at("2026-03-12"))

    assert (up["allowed"], up["limit"], up["used"]) == (True, "25", "15")
    assert (down["allowed"], down["limit"], down["used"], down["remaining"]) == (
        False,
        "5",
        "15",
        "0",
    )


def test_a_tenants_own_stands_in_for_its_plans_until_it_ends(plans: None) -> None:
    allow(5, plan_key="pro")

    allow(50, as_of=FEBRUARY, ended_at=MARCH)

    assert [limit(when) for when in (at("2026-01-31"), FEBRUARY, at("2026-02-28"), MARCH)] == [
        "5",
        "50",
        "50",
        "5",
    ]
    allow(0, as_of=MARCH)
    assert limit(MARCH) == "0"
    disallow(ended_at=APRIL, as_of=MARCH)
    assert limit(APRIL) == "5"


def test_a_change_ends_one_version_and_starts_another(plans: None) -> None:
    allow(5, plan_key="pro")
    allow(7, plan_key="pro", as_of=FEBRUARY)
    allow(7, plan_key="pro", as_of=MARCH)
    allow(9, plan_key="pro", as_of=MARCH, effective_at=APRIL)

    assert versions() == [
        ("5", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"),
        ("7", "2026-02-01T00:00:00Z", "2026-04-01T00:00:00Z"),
        ("9", "2026-04-01T00:00:00Z", None),
    ]
    assert [limit(when) for when in (at("2026-01-15"), FEBRUARY, MARCH, APRIL)] == [
        "5",
        "7",
        "7",
        "9",
    ]


def test_a_change_for_a_while_leaves_what_was_before_and_after(plans: None) -> None:
    allow(5, plan_key="pro")

    allow(50, plan_key="pro", as_of=FEBRUARY, effective_at=MARCH, ended_at=APRIL)

    assert versions() == [
        ("5", "2026-01-01T00:00:00Z", "2026-03-01T00:00:00Z"),
        ("50", "2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z"),
        ("5", "2026-04-01T00:00:00Z", None),
    ]


def test_what_is_past_stays_what_it_was(plans: None) -> None:
    allow(5, plan_key="pro")

    changed = allow(7, plan_key="pro", as_of=MARCH, effective_at=FEBRUARY)

    assert changed["effective_at"] == "2026-03-01T00:00:00Z"
    assert limit(FEBRUARY) == "5"


def test_an_ended_right_is_no_right(plans: None) -> None:
    allow(5, plan_key="pro")
    allow(7, plan_key="pro", as_of=FEBRUARY, effective_at=APRIL)

    ended = disallow(plan_key="pro", as_of=MARCH)

    assert ended["ended_at"] == "2026-03-01T00:00:00Z"
    assert disallow(plan_key="pro", as_of=NOON) == ended
    assert check(when=at("2026-02-28"))["allowed"] is True
    assert check(when=MARCH)["reason"] == "no_entitlement"
    assert check(when=APRIL)["reason"] == "no_entitlement"


def test_windows_are_rights_of_their_own(plans: None) -> None:
    allow(5, plan_key="pro")
    allow(2, plan_key="pro", window="day")
    disallow(plan_key="pro", window="month", as_of=FEBRUARY)

    assert [one["window"] for one in check()["windows"]] == ["day"]


def test_they_are_listed_page_by_page(plans: None) -> None:
    for number, metric in enumerate(["a", "b", "c"]):
        allow(number, plan_key="pro", metric=metric)
    allow(3)
    allow(4, tenant_id="bolt", ended_at=FEBRUARY)

    first = list_entitlements(limit=3, as_of=NOON)
    rest = list_entitlements(limit=3, after=first["next_after"], as_of=NOON)
    listed = first["entitlements"] + rest["entitlements"]

    assert sorted((one["metric"], one["limit"]) for one in listed) == [
        ("a", "0"),
        ("api", "3"),
        ("b", "1"),
        ("c", "2"),
    ]
    assert rest["next_after"] is None
    assert [one["metric"] for one in list_entitlements(tenant_id="acme")["entitlements"]] == ["api"]
    assert len(list_entitlements(plan_key="pro")["entitlements"]) == 3
    assert len(list_entitlements(metric="b")["entitlements"]) == 1
    assert versions(tenant_id="bolt") == [("4", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z")]


def test_what_a_tenant_has_is_told_with_what_it_used(plans: None) -> None:
    allow(5, plan_key="pro")
    allow(9, metric="gb", window="day")
    use(2, "k")

    found = get_entitlements(tenant_id="acme", as_of=NOON)["entitlements"]

    assert [(one["metric"], one["window"], one["used"], one["remaining"]) for one in found] == [
        ("api", "month", "2", "3"),
        ("gb", "day", "0", "9"),
    ]
    assert found[1]["sources"] == [{"plan_key": None, "limit": "9"}]
    with pytest.raises(Refusal, match="unknown"):
        get_entitlements(tenant_id="nobody")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"plan_key": "pro", "tenant_id": "acme"}, "entitlement.no_owner_named"),
        ({"tenant_id": None}, "entitlement.no_owner_named"),
        ({"plan_key": "none"}, "plan.unknown"),
        ({"per_seat": True}, "entitlement.no_seats"),
        ({"ended_at": at("2026-01-01")}, "entitlement.ends_before_it_starts"),
        (
            {"effective_at": MARCH, "ended_at": FEBRUARY},
            "entitlement.ends_before_it_starts",
        ),
        ({"limit": "-1"}, "message.invalid"),
        ({"limit": "1e18"}, "message.invalid"),
        ({"window": "week"}, "message.invalid"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(
    plans: None, arguments: dict[str, Any], code: str
) -> None:
    given = {"limit": "5", **arguments}
    with pytest.raises(Refusal) as refused:
        allow(given.pop("limit"), **given)

    assert refused.value.code == code
    assert versions() == []


def test_a_limit_must_be_said(plans: None) -> None:
    with pytest.raises(Refusal, match="limit: is missing; it must be a number"):
        set_entitlement(tenant_id="acme", metric="api")  # type: ignore[call-arg]


def test_an_end_without_a_beginning_is_refused(plans: None) -> None:
    with pytest.raises(
        Refusal, match="there is no entitlement to 'api' by the month of plan 'pro'"
    ):
        disallow(plan_key="pro", as_of=NOON)


@pytest.mark.parametrize(
    "meter",
    [
        {"aggregation": "max"},
        {"aggregation": "unique_count", "value_field": "user"},
        {"aggregation": "sum", "value_field": "tokens"},
        {"aggregation": "sum", "filters": {"status": ["200"]}},
    ],
)
def test_only_a_metric_that_is_summed_can_have_a_limit(plans: None, meter: dict[str, Any]) -> None:
    set_meter(metric="api", **meter)

    with pytest.raises(Refusal) as refused:
        allow(5)

    assert refused.value.code == "entitlement.not_summed"
    set_meter(metric="api", aggregation="sum", unit="calls")
    allow(5)
    with pytest.raises(Refusal) as refused:
        set_meter(metric="api", **meter, as_of=NOON)
    assert refused.value.code == "meter.of_quota"
    set_meter(metric="other", **meter, as_of=NOON)
    disallow(as_of=NOON)
    set_meter(metric="api", **meter, as_of=NOON)
