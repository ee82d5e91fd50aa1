"""A tenant that moves to another zone: no hour of usage and no day of a fee is billed twice or left
out, however far it goes."""

import datetime as dt
from typing import Any

import pytest
from sqlalchemy import Engine

from tasks.invoice_list import render_invoice
from tasks.invoices import generate_monthly_invoice
from tasks.plan_changes import cancel_subscription
from tasks.subscriptions import end_subscription
from tasks.tenants import set_tenant
from tasks.unpaid import void_invoice
from tasks.usage import record_usage
from tests.integration.billing_world import (
    assert_gapless,
    assert_reconciled,
    fee,
    instant,
    make_plan,
    query,
    subscribe,
    usage_price,
)
from tests.integration.test_late_usage import close, invoices, lines

EAST, WEST = "Pacific/Kiritimati", "Pacific/Pago_Pago"
"""25 hours apart."""

MIDNIGHTS = {
    EAST: ("2025-11-30T10:00", "2026-02-28T10:00"),
    WEST: ("2025-12-01T11:00", "2026-03-01T11:00"),
}
"""When December and March begin there."""

BOTH_WAYS = pytest.mark.parametrize(("start", "to"), [(EAST, WEST), (WEST, EAST)])

MOVES = ("2026-02-01T10:30:00", "2026-02-10T00:00:00", "2026-02-27T09:59:59")

USED = """
    SELECT sum(quantity) FROM invoice_lines AS line JOIN invoices ON invoices.id = invoice_id
    WHERE metric IS NOT NULL AND state IN ('finalized', 'paid')
"""
FEES = """
    SELECT sum(amount_minor) FROM invoice_lines AS line JOIN invoices ON invoices.id = invoice_id
    WHERE line.kind = 'fixed' AND state IN ('finalized', 'paid')
"""
FIRST, LAST = instant("2025-11-29"), instant("2026-03-03")


def use_hourly() -> None:
    events: list[Any] = [
        {
            "tenant_id": "acme",
            "metric": "calls",
            "amount": "1",
            "at": FIRST + dt.timedelta(hours=number),
            "idempotency_key": f"call-{number}",
        }
        for number in range(hours(FIRST, LAST))
    ]
    record_usage(events=events, as_of=LAST)


def hours(first: dt.datetime, last: dt.datetime) -> int:
    return round((last - first) / dt.timedelta(hours=1))


def live(start: str, to: str, moves_at: str, *prices: Any, **plan: Any) -> int:
    """Three months in two zones; return how many hours they have."""
    begin, end = instant(MIDNIGHTS[start][0]), instant(MIDNIGHTS[to][1])
    make_plan(*(prices or (usage_price("calls", "1"), fee("10"))), **plan)
    subscribe("acme", begin.isoformat(), timezone=start)
    close("2026-01-05")
    close("2026-02-01T10:15:00")
    set_tenant(tenant_id="acme", timezone=to, as_of=instant(moves_at))
    end_subscription(tenant_id="acme", plan_key="pro", ended_at=end, as_of=instant(moves_at))
    return hours(begin, end)


@BOTH_WAYS
@pytest.mark.parametrize("moves_at", MOVES)
def test_every_hour_of_usage_and_every_month_is_billed_once(
    db: Engine, start: str, to: str, moves_at: str
) -> None:
    use_hourly()
    whole = live(start, to, moves_at)

    close("2026-03-03")
    close("2026-03-12")

    assert query(USED) == [(whole,)]
    assert query(FEES) == [(3000,)]
    january = invoices()[1]
    void_invoice(invoice_id=january["invoice_id"], reason="a test")
    again = generate_monthly_invoice(
        tenant_id="acme", period_start=dt.date(2026, 1, 1), period_end=dt.date(2026, 2, 1)
    )
    assert (lines(again), again["timezone"]) == (lines(january), january["timezone"])
    close("2026-03-13")
    assert query(USED) == [(whole,)]
    assert_reconciled()
    assert_gapless()


@BOTH_WAYS
def test_every_hour_is_billed_once_on_a_plan_of_plain_usage_alone(
    db: Engine, start: str, to: str
) -> None:
    use_hourly()
    whole = live(start, to, MOVES[1], usage_price("calls", "1"))

    close("2026-03-03")
    close("2026-03-12")

    assert query(USED) == [(whole,)]
    assert_reconciled()


@BOTH_WAYS
@pytest.mark.parametrize("moves_at", MOVES)
def test_usage_that_comes_late_is_billed_once(
    db: Engine, start: str, to: str, moves_at: str
) -> None:
    whole = live(start, to, moves_at)
    close("2026-03-12")
    use_hourly()

    close("2026-03-13")
    close("2026-03-18")

    assert query(USED) == [(whole,)]
    assert_reconciled()


def test_a_page_names_the_days_that_late_usage_was_on(db: Engine) -> None:
    live(WEST, EAST, MOVES[1])
    record_usage(
        tenant_id="acme",
        metric="calls",
        amount="3",
        at=instant("2025-12-10"),
        idempotency_key="late",
        as_of=LAST,
    )
    close("2026-03-12")

    (late,) = [one for one in invoices() if len(one["lines"]) == 3]
    page = render_invoice(invoice=str(late["number"]))["html"]

    assert late["lines"][2]["details"]["timezone"] == WEST
    assert "1 December 2025 \N{EN DASH} 31 December 2025" in page


def test_a_fee_ahead_is_for_the_days_until_an_end_that_is_another_day_now(db: Engine) -> None:
    make_plan(fee("31", timing="advance"))
    made = subscribe("acme", MIDNIGHTS[EAST][0], timezone=EAST)
    close("2026-01-05")
    cancel_subscription(
        subscription_id=made["subscription_id"],
        when="period_end",
        idempotency_key="end",
        as_of=instant("2026-01-10"),
    )
    set_tenant(tenant_id="acme", timezone=WEST, as_of=instant("2026-01-20"))

    close("2026-02-05")

    # The end, midnight of 1 February in the east, is on 30 January in the west.
    assert query("SELECT sum(amount_minor) FROM invoice_lines") == [(6200,)]
    assert query("SELECT sum(total_minor) FROM credit_notes") == [(200,)]


@BOTH_WAYS
def test_days_are_billed_once_where_each_has_its_invoice(db: Engine, start: str, to: str) -> None:
    use_hourly()
    whole = live(start, to, "2026-02-10T00:00:00", interval="day")

    close("2026-03-03")
    close("2026-03-12")

    assert query(USED) == [(whole,)]
    spans = query("SELECT period_start, period_end FROM invoices ORDER BY period_end")
    assert len(spans) == len({end for _, end in spans}) == 90


def test_who_was_never_billed_had_a_wrong_zone_and_moves_as_a_whole(db: Engine) -> None:
    make_plan(usage_price("calls", "1"))
    subscribe("acme", "2026-01-01T11:00:00")
    use_hourly()

    set_tenant(tenant_id="acme", timezone=WEST, as_of=instant("2026-01-20"))
    close("2026-02-01T11:00:00")
    close("2026-02-10")

    assert query(USED) == [(31 * 24,)]
    assert query("SELECT * FROM tenant_zones") == []


def test_who_had_a_period_that_cost_nothing_moves_on_from_where_it_was(db: Engine) -> None:
    """In the west the trial would have ended a day before, in a month that is over."""
    make_plan(usage_price("calls", "1"))
    subscribe("acme", "2026-08-18T06:24:57", timezone="America/Santiago", trial_days=14)
    record_usage(
        tenant_id="acme",
        metric="calls",
        amount="7",
        at="2026-09-01T05:00:00Z",
        idempotency_key="after the trial",
        as_of=instant("2026-09-02"),
    )
    close("2026-09-01T06:00:00")
    assert invoices() == []

    set_tenant(tenant_id="acme", timezone=WEST, as_of=instant("2026-09-02"))
    close("2026-10-03")

    (invoice,) = invoices()
    assert lines(invoice) == [("usage", "2026-09-01", 700)]
    assert query("SELECT timezone FROM tenant_zones") == [("America/Santiago",)]


def test_what_had_no_day_is_billed_for_the_one_that_it_has_elsewhere(db: Engine) -> None:
    """New Year's Day in the Chatham Islands, from its midnight to 22:00 UTC, is the last day of the
    year in Beirut."""
    make_plan(fee("31"))
    made = subscribe(
        "acme",
        "2026-12-31T10:15:00",
        ended_at=instant("2026-12-31T22:00:00"),
        timezone="Pacific/Chatham",
    )
    assert made["next_invoice_at"] is None

    set_tenant(tenant_id="acme", timezone="Asia/Beirut", as_of=instant("2026-12-01"))
    close("2027-01-10")

    (invoice,) = invoices()
    assert lines(invoice) == [("fixed", "2026-12-30", 100)]  # from 22:00 UTC
    assert query("SELECT next_invoice_at FROM subscriptions") == [(None,)]
