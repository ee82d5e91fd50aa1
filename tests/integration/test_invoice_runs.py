"""The billing run: each zone's months at their own instants, each period once, gapless numbers."""

import datetime as dt
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine

from models import database
from tasks import invoice_runs
from tasks.invoice_runs import finalize_invoices, generate_invoices
from tasks.invoices import finalize_invoice, generate_monthly_invoice, get_invoice
from tasks.parking import list_parked, retry_parked
from tasks.subscriptions import end_subscription
from tasks.tenants import set_tenant
from tests.integration.billing_world import (
    fee,
    instant,
    make_plan,
    query,
    said,
    subscribe,
    usage_price,
    use,
)

PERIODS = "SELECT tenant_id, period_start, period_end FROM invoices ORDER BY period_end, tenant_id"


def invoiced() -> list[str]:
    return [row[0] for row in query(PERIODS)]


@pytest.mark.parametrize(
    ("timezone", "first", "end"),
    [
        ("Asia/Kathmandu", "2026-01-15", "2026-01-31T18:15:00Z"),
        ("America/Los_Angeles", "2026-01-15", "2026-02-01T08:00:00Z"),
        ("UTC", "2026-01-15", "2026-02-01T00:00:00Z"),
        ("Europe/Paris", "2026-03-15", "2026-03-31T22:00:00Z"),
        ("Europe/Paris", "2026-10-15", "2026-10-31T23:00:00Z"),
        ("America/Los_Angeles", "2026-11-15", "2026-12-01T08:00:00Z"),
        ("UTC", "2028-02-15", "2028-03-01T00:00:00Z"),
    ],
)
def test_a_month_closes_at_local_midnight_and_not_a_second_before(
    db: Engine, timezone: str, first: str, end: str
) -> None:
    make_plan(fee("10"))
    answer = subscribe("acme", first, timezone=timezone)
    assert answer["next_invoice_at"] == end

    early = generate_invoices(as_of=instant(end) - dt.timedelta(seconds=1))
    on_time = generate_invoices(as_of=instant(end))

    assert (early["invoices"], on_time["invoices"]) == (0, 1)
    assert query(PERIODS)[0][2] == instant(end)


def test_missed_months_are_caught_up_in_order(db: Engine) -> None:
    make_plan(fee("10"), usage_price("calls", "1"))
    subscribe("acme", "2026-01-01")
    for number, day in enumerate(("2026-01-31", "2026-02-28", "2026-03-31"), start=1):
        use("acme", "calls", day, str(number))

    answer = generate_invoices(as_of=instant("2026-04-01"))

    assert answer == {"invoices": 3, "failed": 0, "finished": True}
    totals = query("SELECT total_minor FROM invoices ORDER BY period_start")
    assert totals == [(1100,), (1200,), (1300,)]
    told = [event["data"]["period_start"][:10] for event in said("billing.invoice.created")]
    assert sorted(told) == ["2026-01-01", "2026-02-01", "2026-03-01"]
    assert query("SELECT billed_until, next_invoice_at FROM subscriptions") == [
        (dt.date(2026, 4, 1), instant("2026-05-01"))
    ]


def test_more_periods_than_fit_one_transaction_are_all_caught_up(db: Engine) -> None:
    make_plan(fee("1"), interval="day")
    subscribe("acme", "2026-01-01")

    answer = generate_invoices(as_of=instant("2026-03-02"))

    assert answer == {"invoices": 60, "failed": 0, "finished": True}


def test_running_again_changes_nothing_and_says_nothing(db: Engine) -> None:
    make_plan(fee("10"), usage_price("calls", "1"))
    subscribe("acme", "2026-01-01")
    generate_invoices(as_of=instant("2026-02-01"))
    finalize_invoices(as_of=instant("2026-02-03"))
    before = query("SELECT * FROM invoices"), query("SELECT count(*) FROM outbox_messages")

    assert generate_invoices(as_of=instant("2026-02-03"))["invoices"] == 0
    assert finalize_invoices(as_of=instant("2026-02-03"))["invoices"] == 0
    assert (
        query("SELECT * FROM invoices"),
        query("SELECT count(*) FROM outbox_messages"),
    ) == before


def test_a_period_that_was_asked_for_is_not_made_again_by_the_run(db: Engine) -> None:
    make_plan(fee("10"))
    subscribe("acme", "2026-01-01")
    generate_monthly_invoice(
        tenant_id="acme",
        period_start=dt.date(2026, 2, 1),
        period_end=dt.date(2026, 3, 1),
        as_of=instant("2026-03-01"),
    )

    assert generate_invoices(as_of=instant("2026-03-01"))["invoices"] == 1
    assert [row[1].month for row in query(PERIODS)] == [1, 2]
    assert query("SELECT billed_until FROM subscriptions") == [(dt.date(2026, 3, 1),)]


def test_an_ended_subscription_gets_its_last_invoice_and_no_more(db: Engine) -> None:
    make_plan(fee("31"))
    subscribe("acme", "2026-01-01")
    ended = end_subscription(tenant_id="acme", plan_key="pro", ended_at=instant("2026-01-11"))
    assert ended["next_invoice_at"] == "2026-02-01T00:00:00Z"

    assert generate_invoices(as_of=instant("2026-06-01"))["invoices"] == 1
    assert query("SELECT total_minor FROM invoices") == [(1000,)]
    assert query("SELECT next_invoice_at FROM subscriptions") == [(None,)]


def test_anniversary_months_are_anchored_to_the_first_day(db: Engine) -> None:
    make_plan(fee("10"), anchor="anniversary")
    subscribe("acme", "2026-01-31T09:00:00")

    generate_invoices(as_of=instant("2026-04-30"))

    spans = [(str(start)[:10], str(end)[:10]) for _, start, end in query(PERIODS)]
    assert spans == [
        ("2026-01-31", "2026-02-28"),
        ("2026-02-28", "2026-03-31"),
        ("2026-03-31", "2026-04-30"),
    ]
    assert query("SELECT DISTINCT total_minor FROM invoices") == [(1000,)]


def test_a_tenant_who_moved_is_billed_at_the_new_midnight(db: Engine) -> None:
    make_plan(fee("10"))
    subscribe("acme", "2026-01-01")
    generate_invoices(as_of=instant("2026-02-01"))
    set_tenant(
        tenant_id="acme", timezone="America/Los_Angeles", as_of=instant("2026-02-01T12:00:00")
    )

    assert generate_invoices(as_of=instant("2026-03-01T07:59:59"))["invoices"] == 0
    assert generate_invoices(as_of=instant("2026-03-01T08:00:00"))["invoices"] == 1
    assert query("SELECT sum(total_minor) FROM invoices") == [(2000,)]


def test_a_draft_of_a_subscription_that_never_was_gets_no_number(db: Engine) -> None:
    make_plan(fee("10"))
    make_plan(fee("20"), plan_key="other")
    subscribe("acme", "2026-01-01")
    generate_invoices(as_of=instant("2026-02-01"))
    end_subscription(tenant_id="acme", plan_key="pro", ended_at=instant("2026-01-01T10:00:00"))

    assert finalize_invoices(as_of=instant("2026-02-05"))["finished"]
    assert query("SELECT state, number FROM invoices") == [("void", None)]
    # The period is free: what turns out to have been then is billed by the run.
    subscribe("acme", "2026-01-01", plan_key="other")
    generate_invoices(as_of=instant("2026-02-06"))
    finalize_invoices(as_of=instant("2026-02-06"))
    assert query("SELECT number, total_minor FROM invoices WHERE state <> 'void'") == [
        ("INV-000001", 2000)
    ]


def test_a_plan_without_prices_makes_no_invoice_and_moves_on(db: Engine) -> None:
    make_plan()
    subscribe("acme", "2026-01-01")

    assert generate_invoices(as_of=instant("2026-02-01"))["invoices"] == 0
    assert query("SELECT next_invoice_at FROM subscriptions") == [(instant("2026-03-01"),)]


def test_a_faulty_tenant_stops_nobody_else_and_is_tried_again(db: Engine) -> None:
    make_plan(fee("10"))
    for tenant_id in ("ada", "bad", "cyd"):
        subscribe(tenant_id, "2026-01-01")
    _write("UPDATE tenants SET timezone = 'Mars/Olympus' WHERE tenant_id = 'bad'")

    answer = generate_invoices(as_of=instant("2026-02-01"))

    assert answer == {"invoices": 2, "failed": 1, "finished": True}
    assert invoiced() == ["ada", "cyd"]
    (kept,) = list_parked()["parked"]
    assert (kept["tenant_id"], kept["stage"], kept["tries"]) == ("bad", "invoicing", 1)
    assert "Mars/Olympus" in kept["reason"]
    (told,) = said("billing.parked")
    assert (told["data"]["tenant_id"], told["data"]["reason"]) == ("bad", kept["reason"])

    _write("UPDATE tenants SET timezone = 'UTC' WHERE tenant_id = 'bad'")
    assert generate_invoices(as_of=instant("2026-02-01T00:10:00"))["invoices"] == 1
    assert invoiced() == ["ada", "bad", "cyd"]
    assert list_parked()["parked"] == []
    assert [one["data"]["tenant_id"] for one in said("billing.resumed")] == ["bad"]
    assert generate_invoices(as_of=instant("2026-03-01"))["invoices"] == 3
    assert len(said("billing.resumed")) == 1


def test_a_parked_tenant_is_tried_ever_later_and_at_once_when_asked(db: Engine) -> None:
    make_plan(fee("10"))
    subscribe("bad", "2026-01-01")
    _write("UPDATE tenants SET timezone = 'Mars/Olympus' WHERE tenant_id = 'bad'")
    start, minute = instant("2026-02-01"), dt.timedelta(minutes=1)

    tried = [
        elapsed
        for elapsed in range(0, 100, 10)
        if generate_invoices(as_of=start + elapsed * minute)["failed"]
    ]

    assert tried == [0, 10, 30, 70]
    (kept,) = list_parked(tenant_id="bad")["parked"]
    assert (kept["tries"], str(kept["parked_at"])) == (4, "2026-02-01T00:00:00Z")
    assert len(said("billing.parked")) == 1
    later = start + 91 * minute
    assert generate_invoices(as_of=later)["failed"] == 0
    assert retry_parked(tenant_id="bad", as_of=later)["stages"] == ["invoicing"]
    assert generate_invoices(as_of=later)["failed"] == 1
    _write("UPDATE tenants SET timezone = 'UTC' WHERE tenant_id = 'bad'")
    assert generate_invoices(tenant_id="bad", as_of=later)["invoices"] == 1

    _write("UPDATE tenants SET timezone = 'Mars/Olympus' WHERE tenant_id = 'bad'")
    assert generate_invoices(as_of=instant("2026-03-05"))["failed"] == 1
    (again,) = list_parked()["parked"]
    assert (again["tries"], str(again["parked_at"])) == (1, "2026-03-05T00:00:00Z")
    assert [one["sequence"] for one in said("billing.parked")] == [1, 3]


def test_who_was_billed_when_somebody_asked_does_not_wait_any_more(db: Engine) -> None:
    make_plan(fee("1"), interval="day")
    subscribe("bad", "2026-01-31")
    _write("UPDATE tenants SET timezone = 'Mars/Olympus' WHERE tenant_id = 'bad'")
    assert generate_invoices(as_of=instant("2026-02-01T23:55:00"))["failed"] == 1
    _write("UPDATE tenants SET timezone = 'UTC' WHERE tenant_id = 'bad'")
    asked = generate_invoices(tenant_id="bad", as_of=instant("2026-02-01T23:56:00"))
    assert asked["invoices"] == 1

    assert generate_invoices(as_of=instant("2026-02-02"))["invoices"] == 1


def test_who_can_not_be_finalized_is_invoiced_all_the_same(db: Engine) -> None:
    make_plan(fee("10"), usage_price("calls", "999999999999"))
    subscribe("bad", "2026-01-01")
    generate_invoices(as_of=instant("2026-02-01"))
    use("bad", "calls", "2026-01-31", "999999999999999999")
    assert finalize_invoices(as_of=instant("2026-02-28T23:55:00"))["failed"] == 1

    assert generate_invoices(as_of=instant("2026-03-01"))["invoices"] == 1

    assert [one["stage"] for one in list_parked()["parked"]] == ["finalization"]
    assert said("billing.resumed") == []


def test_an_amount_too_large_for_the_books_is_one_tenants_fault(db: Engine) -> None:
    make_plan(usage_price("calls", "999999999999"))
    for tenant_id in ("ada", "bad"):
        subscribe(tenant_id, "2026-01-01")
    use("bad", "calls", "2026-01-02", "999999999999999999")

    answer = generate_invoices(as_of=instant("2026-02-01"))

    assert answer == {"invoices": 1, "failed": 1, "finished": True}
    assert invoiced() == ["ada"]


def test_eight_runs_at_once_make_each_invoice_once(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invoice_runs, "CHUNK", 5)
    make_plan(fee("10"), usage_price("calls", "1"))
    _many_subscriptions(60)

    made = _at_once(8, lambda: generate_invoices(as_of=instant("2026-02-01"))["invoices"])

    assert sum(made) == 60
    assert query("SELECT count(*), count(DISTINCT tenant_id), sum(total_minor) FROM invoices") == [
        (60, 60, 60_000)
    ]
    assert len(said("billing.invoice.created")) == 60


def test_eight_finalizers_at_once_leave_no_gap(db: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invoice_runs, "DRAFTS", 5)
    make_plan(fee("10"))
    _many_subscriptions(40)
    generate_invoices(as_of=instant("2026-03-01"))

    done = _at_once(8, lambda: finalize_invoices(as_of=instant("2026-03-02"))["invoices"])

    assert sum(done) == 80
    numbers = [row[0] for row in query("SELECT number FROM invoices ORDER BY sequence")]
    assert numbers == [f"INV-{sequence:06d}" for sequence in range(1, 81)]
    out_of_order = """
        SELECT count(*) FROM invoices AS a JOIN invoices AS b USING (tenant_id)
        WHERE a.period_end < b.period_end AND a.sequence > b.sequence
    """
    assert query(out_of_order) == [(0,)]
    told = [event["data"]["number"] for event in said("billing.invoice.finalized")]
    assert sorted(told) == numbers


def test_numbers_follow_period_then_tenant(db: Engine) -> None:
    make_plan(fee("10"))
    subscribe("bob", "2026-01-01")
    subscribe("ann", "2026-02-01")
    generate_invoices(as_of=instant("2026-03-01"))

    finalize_invoices(as_of=instant("2026-04-01"))

    numbered = query("SELECT tenant_id, period_start FROM invoices ORDER BY number")
    months = [(tenant_id, start.month) for tenant_id, start in numbered]
    assert months == [("bob", 1), ("ann", 2), ("bob", 2)]


def test_a_draft_waits_for_an_older_one_that_somebody_holds(db: Engine) -> None:
    make_plan(fee("10"))
    subscribe("acme", "2026-01-01")
    generate_invoices(as_of=instant("2026-03-01"))

    with db.begin() as other:
        # As when its tenant comes free between the two of them.
        other.exec_driver_sql("SELECT FROM invoices ORDER BY period_end LIMIT 1 FOR UPDATE")
        assert finalize_invoices(as_of=instant("2026-04-01"))["invoices"] == 0

    assert finalize_invoices(as_of=instant("2026-04-01"))["invoices"] == 2
    numbered = query("SELECT period_start FROM invoices ORDER BY number")
    assert [start.month for (start,) in numbered] == [1, 2]


def test_late_usage_in_the_grace_period_is_billed_before_the_number_is_given(db: Engine) -> None:
    make_plan(usage_price("calls", "1"))
    subscribe("acme", "2026-01-01")
    use("acme", "calls", "2026-01-31", "5")
    generate_invoices(as_of=instant("2026-02-01"))
    use("acme", "calls", "2026-01-31", "8")

    assert finalize_invoices(as_of=instant("2026-02-01T23:59:59"))["invoices"] == 0
    assert finalize_invoices(as_of=instant("2026-02-02T00:00:00"))["invoices"] == 1

    (invoice_id,) = query("SELECT id FROM invoices")[0]
    final = get_invoice(invoice_id=invoice_id)
    assert (final["total"], final["version"]) == ("8.00", 3)
    (updated,), (finalized,) = said("billing.invoice.updated"), said("billing.invoice.finalized")
    assert (updated["sequence"], updated["data"]["total_minor"]) == (2, 800)
    assert (finalized["sequence"], finalized["data"]["total_minor"]) == (3, 800)
    assert finalized["data"]["number"] == final["number"] == "INV-000001"


def test_a_draft_that_can_not_be_finalized_takes_no_number_and_stops_no_other(db: Engine) -> None:
    make_plan(fee("10"), usage_price("calls", "999999999999"))
    for tenant_id in ("ada", "bad", "cyd"):
        subscribe(tenant_id, "2026-01-01")
    generate_invoices(as_of=instant("2026-02-01"))
    use("bad", "calls", "2026-01-31", "999999999999999999")

    answer = finalize_invoices(as_of=instant("2026-02-03"))

    assert answer == {"invoices": 2, "failed": 1, "finished": True}
    assert query("SELECT tenant_id, number FROM invoices ORDER BY tenant_id") == [
        ("ada", "INV-000001"),
        ("bad", None),
        ("cyd", "INV-000002"),
    ]
    (kept,) = list_parked()["parked"]
    assert (kept["tenant_id"], kept["stage"]) == ("bad", "finalization")
    use("bad", "calls", "2026-01-31", "0")
    finalize_invoices(as_of=instant("2026-02-03T00:10:00"))
    assert finalize_invoice(invoice_id=kept["invoice_id"])["number"] == "INV-000003"
    assert list_parked()["parked"] == []


def test_every_total_is_the_sum_of_its_lines(db: Engine) -> None:
    make_plan(fee("9.99"), usage_price("calls", "0.0333333"), usage_price("bytes", "0.125"))
    for number in range(7):
        subscribe(f"t{number}", f"2026-01-0{number + 1}")
        use(f"t{number}", "calls", "2026-01-20", str(number * 17))
        use(f"t{number}", "bytes", "2026-01-21", f"{number}.5")
    generate_invoices(as_of=instant("2026-02-01"))

    wrong = """
        SELECT id FROM invoices
        WHERE total_minor <> (SELECT sum(amount_minor) FROM invoice_lines WHERE invoice_id = id)
    """
    assert query(wrong) == []
    assert query("SELECT count(*) FROM invoice_lines") == [(21,)]


def _write(statement: str, **parameters: int) -> None:
    with database.transaction() as session:
        session.connection().exec_driver_sql(statement, parameters)


def _many_subscriptions(count: int) -> None:
    """Subscriptions from January on, laid in one go."""
    subscribe("t0000", "2026-01-01")
    _write(
        """
        INSERT INTO tenants (tenant_id)
        SELECT 't' || lpad(n::text, 4, '0') FROM generate_series(1, %(more)s) AS n
        """,
        more=count - 1,
    )
    _write(
        """
        INSERT INTO subscriptions (id, tenant_id, plan_key, currency, effective_at, anchored_on,
                                   next_invoice_at)
        SELECT gen_random_uuid(), 't' || lpad(n::text, 4, '0'), plan_key, currency, effective_at,
               anchored_on, next_invoice_at
        FROM subscriptions, generate_series(1, %(more)s) AS n
        """,
        more=count - 1,
    )


def _at_once(workers: int, work: Callable[[], int]) -> list[int]:
    with ThreadPoolExecutor(workers) as pool:
        futures: list[Any] = [pool.submit(work) for _ in range(workers)]
        return [future.result() for future in futures]
