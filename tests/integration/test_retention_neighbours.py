"""Quotas and prices that look at events respect what is closed, too."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from models import database
from models.store import quota_counts
from models.store.horizon import UsageArchived
from tasks.aggregation import aggregate_usage
from tasks.invoices import generate_monthly_invoice
from tasks.meters import set_meter
from tasks.quotas import consume_entitlement
from tasks.tenants import set_tenant
from tasks.usage_refused import UsageConflict
from tests.integration import allowance
from tests.integration import archive_world as world
from tests.integration.archive_world import event
from tests.integration.billing_world import instant, make_plan, query, subscribe, usage_price


@pytest.fixture(autouse=True)
def folder(db: Engine, tmp_path: Path) -> Path:
    """A folder for archives, and the rule that usage goes there."""
    world.keep_in(tmp_path, even_uninvoiced=True)
    return tmp_path


def use(key: str, when: str, amount: str = "2") -> Any:
    at = instant(when)
    arguments: Any = {"tenant_id": "acme", "metric": "api", "amount": amount}
    return consume_entitlement(**arguments, idempotency_key=key, as_of=at)


def forget_answers() -> None:
    """Let the keys of events alone tell what is known."""
    with database.transaction() as session:
        session.execute(text("DELETE FROM idempotency_keys"))


def purge(as_of: dt.datetime = world.OLD) -> None:
    aggregate_usage(as_of=as_of)
    assert world.archive(as_of)["purged"]


def test_a_use_whose_event_was_purged_is_used_once(folder: Path) -> None:
    allowance.allow(5)
    assert use("a", "2026-01-05")["allowed"]
    purge()

    assert use("a", "2026-06-01")["allowed"], "its answer is kept"
    forget_answers()
    assert use("b", "2026-06-01")["used"] == "2"
    again = use("a", "2026-06-01")

    # It counts in the window in which it was used first.
    assert (again["allowed"], again["used"]) == (True, "2")
    forget_answers()
    with pytest.raises(UsageConflict, match="'a'"):
        use("a", "2026-06-01", "3")
    assert query("SELECT idempotency_key FROM usage_events") == [("b",)]


def test_nothing_is_used_behind_the_horizon(folder: Path) -> None:
    allowance.allow(5)
    use("a", "2026-01-05")
    purge()

    with pytest.raises(UsageArchived, match="lies before"):
        use("late", "2026-01-06")

    assert world.keys() == 0


def test_counters_of_closed_windows_are_not_held_against_events_that_went(folder: Path) -> None:
    allowance.allow(5)
    use("a", "2026-01-05")
    purge()
    assert query("SELECT used FROM quota_counters") == [(2,)]

    with database.transaction() as session:
        assert quota_counts.check(session, after="", limit=10).drifts == ()
    with database.transaction() as session:
        assert quota_counts.mend(session, tenant_id="acme", metric="api", now=world.OLD) == []

    assert query("SELECT used FROM quota_counters") == [(2,)]


BY_MODEL = {
    **usage_price("api", "1"),
    "model": "graduated",
    "unit_amount": None,
    "params": {
        "filters": [{"match": {"model": ["atlas"]}, "tiers": [{"unit_price": "3"}]}],
        "tiers": [{"unit_price": "1"}],
    },
}
"""A price that looks at the metadata of each event."""


def invoice(month: int) -> Any:
    return generate_monthly_invoice(
        tenant_id="acme",
        period_start=dt.date(2026, month, 1),
        period_end=dt.date(2026, month + 1, 1),
        as_of=world.OLD,
    )


def test_a_price_that_looks_at_events_is_not_applied_to_those_that_are_left(folder: Path) -> None:
    make_plan(BY_MODEL)
    world.record(
        event("1", "2026-01-05T10:00:00Z", metadata={"model": "atlas"}),
        event("2", "2026-03-05T10:00:00Z", metadata={"model": "atlas"}),
        event("3", "2026-03-05T11:00:00Z"),
    )
    purge(instant("2026-03-01") + world.AGE)
    subscribe("acme", "2026-01-01")

    with pytest.raises(UsageArchived, match="metric 'api' of tenant 'acme'"):
        invoice(1)

    assert invoice(2)["total"] == "0.00"
    assert invoice(3)["total"] == "4.00"


def test_after_a_change_of_the_zone_it_is_applied_from_the_horizon_on(folder: Path) -> None:
    make_plan(BY_MODEL)
    world.record(
        event("1", "2026-01-31T20:00:00Z", metadata={"model": "atlas"}),
        event("2", "2026-02-01T00:30:00Z", metadata={"model": "atlas"}),
    )
    purge(instant("2026-02-01") + world.AGE)
    set_tenant(tenant_id="acme", timezone="Asia/Tokyo", as_of=world.OLD)
    subscribe("acme", "2026-02-01", timezone="Asia/Tokyo")

    assert invoice(2)["total"] == "3.00"


def test_units_that_live_on_are_counted_from_what_was_closed(folder: Path) -> None:
    set_meter(metric="api", allow_corrections=True)
    make_plan(
        {
            **usage_price("api", "1"),
            "model": "graduated",
            "unit_amount": None,
            "params": {"tiers": [{"unit_price": "28"}], "recurring": True},
        }
    )
    world.record(
        event("1", "2025-12-05T10:00:00Z", "4"),
        event("2", "2026-01-05T10:00:00Z", "3"),
        event("3", "2026-02-14T23:00:00Z", "-2"),
    )
    purge(instant("2026-02-01") + world.AGE)
    subscribe("acme", "2026-02-01")

    (line,) = invoice(2)["lines"]

    # 13 days of 7 units, and 15 of 5: by days of which there are 28.
    assert line["amount"] == str(13 * 7 + 15 * 5) + ".00"
