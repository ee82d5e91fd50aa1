"""Plans that are prorated by the second, through the real path: invoices, credit notes, pages."""

import datetime as dt
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from sqlalchemy import Engine

from models.store.plan import PlanInUse
from tasks.invoice_list import preview_invoice
from tasks.invoice_runs import finalize_invoices, generate_invoices
from tasks.late_usage import bill_late_usage
from tasks.plan_changes import reactivate_subscription
from tasks.subscribing import PeriodFinalized
from tasks.subscriptions import end_subscription
from tasks.tenants import set_tenant
from tests.integration.billing_world import (
    assert_gapless,
    assert_reconciled,
    fee,
    instant,
    make_plan,
    query,
    redeem,
    subscribe,
    tax,
    usage_price,
)
from tests.integration.command import Command
from tests.integration.test_ahead_vectors import expected, newest, number
from tests.integration.test_fees_ahead import ahead, notes, run
from tests.integration.test_late_usage import close, used
from tests.integration.test_plan_changes import cancel, change
from tests.integration.test_plan_terms import of_kind
from tests.unit.rules import vectors
from tests.unit.rules.vectors import Row

LINES = """
    SELECT prices.plan_key, line.period_start, line.period_end, amount_minor
    FROM invoice_lines AS line JOIN prices ON prices.id = price_id
    JOIN invoices ON invoices.id = invoice_id
    WHERE line.kind = :kind AND state <> 'void' ORDER BY line.period_start, line.amount_minor
"""


def by_second(*prices: dict[str, Any], **more: Any) -> Any:
    return make_plan(*prices, proration="second", **more)


def lines(kind: str = "fixed") -> list[tuple[str, str, str, int]]:
    return [
        (plan_key, f"{start:%m-%d %H:%M:%S}", f"{end:%m-%d %H:%M:%S}", amount)
        for plan_key, start, end, amount in query(LINES, kind=kind)
    ]


BASIS = [
    row
    for row in vectors.rows("proration", "proration_upgrade")
    if isinstance(row["input"].get("period"), list)
]


@pytest.mark.parametrize("proration", ["second", "day"])
@pytest.mark.parametrize("row", BASIS, ids=vectors.row_id)
def test_published_upgrades_are_credited_and_charged(db: Engine, row: Row, proration: str) -> None:
    start, end = (instant(each) for each in row["input"]["period"])
    rhythm = "year" if end - start > dt.timedelta(days=31) else "month"
    for key, amount in (("old", "old_price"), ("new", "new_price")):
        make_plan(
            ahead(row["params"][amount]),
            plan_key=key,
            interval=rhythm,
            anchor="anniversary",
            proration=proration,
            as_of=instant("2010-01-01"),
        )
    made = subscribe("acme", start.isoformat(), plan_key="old")
    at = instant(row["input"]["change"])
    number(at)
    change(made, at.isoformat(), plan_key="new")

    generate_invoices(as_of=at)

    credit, charge = expected(row)
    assert query("SELECT total_minor FROM credit_notes") == [(credit,)]
    assert newest() == charge


def test_the_published_upgrade_at_noon_is_shared_out_to_the_second(db: Engine) -> None:
    """V258 at another time of its day: 21 days, 11 hours, 30 minutes and 30 seconds of 29 days."""
    for key, amount in (("old", "100"), ("new", "300")):
        by_second(ahead(amount), plan_key=key, anchor="anniversary", as_of=instant("2010-01-01"))
    made = subscribe("acme", "2024-02-18", plan_key="old")
    number(instant("2024-02-18"))
    change(made, "2024-02-25T12:29:30.900", plan_key="new")

    generate_invoices(as_of=instant("2024-02-25T12:30:00"))

    share = Fraction(21 * 86_400 + 11 * 3_600 + 30 * 60 + 30, 29 * 86_400)
    credit = 10_000 - round(10_000 * (1 - share))
    assert query("SELECT total_minor FROM credit_notes") == [(credit,)]
    assert newest() == round(30_000 * share)
    assert lines()[-1][:3] == ("new", "02-25 12:29:30", "03-18 00:00:00")


def test_in_arrears_each_plan_is_charged_up_to_the_instant_of_the_change(db: Engine) -> None:
    by_second(fee("744"), plan_key="old")
    by_second(fee("7440"), plan_key="new")
    made = subscribe("acme", "2026-01-05T10:00:00", plan_key="old")
    later = change(made, "2026-01-16T12:00:00.123456", plan_key="new")["subscription"]
    cancel(later, "2026-01-16T15:00:00", when="now")

    run("2026-02-01")

    assert lines() == [
        ("old", "01-05 10:00:00", "01-16 12:00:00", 26_600),
        ("new", "01-16 12:00:00", "01-16 15:00:00", 3_000),
    ]


def test_the_hours_of_a_period_that_one_ends_in_are_charged(db: Engine) -> None:
    """By days there are none of February; and one that begins and ends on one day has hours."""
    by_second(fee("744"))
    by_second(fee("744"), plan_key="short")
    subscribe("acme", "2026-01-31", ended_at=instant("2026-02-01T06:00:00"))
    subscribe("acme", "2026-02-03T01:00:00", plan_key="short",
              ended_at=instant("2026-02-03T03:00:00"))  # fmt: skip

    run("2026-03-01")

    assert lines() == [
        ("pro", "01-31 00:00:00", "02-01 00:00:00", 2_400),
        ("pro", "02-01 00:00:00", "02-01 06:00:00", round(Fraction(74_400 * 6, 672))),
        ("short", "02-03 01:00:00", "02-03 03:00:00", round(Fraction(74_400 * 2, 672))),
    ]
    assert query("SELECT next_invoice_at FROM subscriptions") == [(None,), (None,)]


def test_paid_ahead_the_hours_of_a_period_that_one_ends_in_are_kept(db: Engine) -> None:
    by_second(ahead("672"))
    made = subscribe("acme", "2026-01-01")
    number(instant("2026-02-01"))
    cancel(made, "2026-02-01T06:00:00", when="now")

    run("2026-02-01T06:01:00")

    assert notes() == [(66_600, 66_600, 0, 0)]
    run("2026-05-01")
    assert len(notes()) == 1
    assert query("SELECT next_invoice_at FROM subscriptions") == [(None,)]


def test_who_comes_and_goes_on_one_day_pays_ahead_for_its_hours(db: Engine) -> None:
    by_second(ahead("744"), of_kind("setup", "5", timing="advance"))
    subscribe("acme", "2026-01-10T08:00:00", ended_at=instant("2026-01-10T20:00:00"))

    run("2026-01-10T08:30:00")

    assert lines() == [("pro", "01-10 08:00:00", "01-10 20:00:00", 1_200)]
    assert lines("setup") == [("pro", "01-10 00:00:00", "01-11 00:00:00", 500)]


def test_seats_that_change_twice_a_day_are_each_charged_for_their_hours(db: Engine) -> None:
    by_second(ahead("744"))
    by_second(fee("744"), plan_key="behind")
    paid = subscribe("acme", "2026-01-01")
    behind = subscribe("behind", "2026-01-01", plan_key="behind")
    number(instant("2026-01-01"))
    for at, seats in (("10T10", "3"), ("10T12", "1"), ("10T15", "3"), ("20T00", "1")):
        change(paid, f"2026-01-{at}", quantity=seats)
        change(behind, f"2026-01-{at}:00", quantity=seats)
        run(f"2026-01-{at}")
        if at == "10T15":
            finalize_invoices(as_of=instant("2026-01-15"))

    assert len(notes()) == 1
    run("2026-02-01")
    finalize_invoices(as_of=instant("2026-02-05"))

    # 1 seat for 744 hours, 2 more for 2 hours, and 2 more for 9 hours and 9 days.
    owed = 100 * (744 + 2 * 2 + 2 * (9 + 9 * 24))
    (charged,) = query(
        """
        SELECT sum(amount_minor) - (SELECT sum(total_minor) FROM credit_notes)
        FROM invoice_lines JOIN invoices ON invoices.id = invoice_id
        WHERE tenant_id = 'acme' AND invoice_lines.period_start < '2026-02-01'
        """
    )[0]
    assert charged == owed
    (arrears,) = query("SELECT total_minor FROM invoices WHERE tenant_id = 'behind'")[0]
    assert arrears == owed


def test_what_was_given_back_is_charged_again_for_the_seconds_that_are_left(db: Engine) -> None:
    """Ended at noon, given back when that day began, and taken back in its morning."""
    by_second(ahead("744"))
    made = subscribe("acme", "2026-01-01", ended_at=instant("2026-02-01"))
    number(instant("2026-01-01"))
    end_subscription(
        tenant_id="acme",
        plan_key="pro",
        ended_at=instant("2026-01-16T12:00:00"),
        as_of=instant("2026-01-10"),
    )
    run("2026-01-16T00:10:00")
    assert notes() == [(37_200, 37_200, 0, 0)]

    reactivate_subscription(
        subscription_id=made["subscription_id"], as_of=instant("2026-01-16T06:00:00")
    )
    run("2026-01-16T06:10:00")

    assert lines() == [
        ("pro", "01-01 00:00:00", "02-01 00:00:00", 74_400),
        ("pro", "01-16 12:00:00", "02-01 00:00:00", 37_200),
    ]
    (rest,) = query("SELECT details ->> 'seconds' FROM invoice_lines ORDER BY period_start")[1]
    assert int(rest) == 372 * 3_600


def test_a_commitment_counts_what_begins_on_its_first_day(db: Engine) -> None:
    """Half of the month is committed to; its first day's usage is counted by the day."""
    by_second(fee("62"), usage_price("calls", "1"), of_kind("commitment", "620"), plan_key="second")
    subscribe("acme", "2026-01-16T12:00:00", plan_key="second")
    used("2026-01-16T01:00:00", "30")

    run("2026-02-01")

    assert lines("usage") == [("second", "01-16 00:00:00", "02-01 00:00:00", 3_000)]
    assert lines() == [("second", "01-16 12:00:00", "02-01 00:00:00", 3_100)]
    assert lines("commitment") == [
        ("second", "01-16 12:00:00", "02-01 00:00:00", 31_000 - 3_000 - 3_100)
    ]


def test_what_counts_for_one_commitment_does_not_count_for_the_next(db: Engine) -> None:
    by_second(fee("744"), usage_price("calls", "1"), of_kind("commitment", "7440"))
    subscribe("acme", "2026-01-01")
    used("2026-01-10T01:00:00", "30")
    by_second(
        fee("744"),
        usage_price("calls", "2"),
        of_kind("commitment", "14880"),
        as_of=instant("2026-01-16T12:00:00"),
    )
    # By the new price, which is that of the whole day, before the new commitment begins.
    used("2026-01-16T01:00:00", "10")

    run("2026-02-01")

    reached = query("SELECT details ->> 'reached_minor' FROM invoice_lines "
                    "WHERE kind = 'commitment' ORDER BY period_start")  # fmt: skip
    assert reached == [("77400",), ("2000",)]


def test_a_trial_that_ends_with_a_day_is_followed_by_seconds_of_that_zone(db: Engine) -> None:
    by_second(fee("743"))
    subscribe("acme", "2026-03-01T12:00:00+01:00", timezone="Europe/Paris", trial_days=28)

    run("2026-04-02")

    # From the 29th on, which has 23 hours: 3 days less an hour, of a month less an hour.
    assert [line[3] for line in lines()] == [7_100]


def test_two_who_are_alike_but_for_their_proration_are_not_taken_for_one_another(
    db: Engine,
) -> None:
    terms = fee("744"), usage_price("calls", "2")
    by_second(*terms, plan_key="second")
    make_plan(*terms, plan_key="day")
    for tenant_id in ("a", "b", "c"):
        for plan_key in ("second", "day"):
            subscribe(f"{tenant_id}-{plan_key}", "2026-01-16T12:00:00", plan_key=plan_key)
            used("2026-01-20T01:00:00", "3", tenant_id=f"{tenant_id}-{plan_key}")

    run("2026-02-01")

    found = query("SELECT tenant_id, total_minor FROM invoices ORDER BY 1")
    assert found == [
        (f"{tenant_id}-{plan_key}", total)
        for tenant_id in ("a", "b", "c")
        for plan_key, total in (("day", 38_400 + 600), ("second", 37_200 + 600))
    ]
    fingerprints = {print_ for (print_,) in query("SELECT fingerprint FROM invoices")}
    assert len(fingerprints) == 6
    before = query("SELECT id, version FROM invoices ORDER BY id")
    run("2026-02-01T01:00:00")
    finalize = finalize_invoices(as_of=instant("2026-02-01T01:00:00"))
    assert finalize
    assert query("SELECT id, version FROM invoices ORDER BY id") == before


def test_a_preview_says_what_the_invoice_will(db: Engine) -> None:
    by_second(ahead("744"), fee("31", price_key="behind"), of_kind("commitment", "2000"))
    made = subscribe("acme", "2026-01-05T10:00:00")
    number(instant("2026-01-05T10:00:00"))
    change(made, "2026-01-16T12:00:00", quantity="3")
    cancel(made, "2026-01-20T17:30:00", when="now")
    run("2026-01-20T18:00:00")

    (preview,) = preview_invoice(tenant_id="acme", as_of=instant("2026-01-25"))["invoices"]
    run("2026-02-01")

    (total,) = query("SELECT total_minor FROM invoices WHERE kind = 'subscription'")[0]
    assert preview["total_minor"] == total > 0


def test_late_usage_does_not_touch_fees_that_were_shared_out_by_the_second(db: Engine) -> None:
    by_second(fee("744"), usage_price("calls", "2"), of_kind("commitment", "7440"))
    subscribe("acme", "2026-01-16T12:00:00")
    close("2026-02-10")
    used("2026-01-20T01:00:00", "3")
    bill_late_usage(as_of=instant("2026-02-11"))
    close("2026-03-10")

    adjusted = query("SELECT amount_minor, details ->> 'seconds' FROM invoice_lines "
                     "WHERE kind = 'adjustment' ORDER BY 1")  # fmt: skip
    assert adjusted == [(-600, "1339200"), (600, None)]


def test_credit_notes_of_seconds_carry_their_share_of_coupons_and_taxes(db: Engine) -> None:
    by_second(ahead("744"))
    made = subscribe("acme", "2026-01-01")
    redeem("acme", "TENTH", percent="10", duration="forever")
    tax("acme", ("vat", "20"))
    number(instant("2026-01-01"))
    cancel(made, "2026-01-11T06:00:00", when="now")

    run("2026-01-11T07:00:00")

    gross = 100 * (744 - 246)
    net = gross - gross // 10
    assert notes() == [(net + net // 5, net + net // 5, 0, 0)]
    reason = query("SELECT reason FROM credit_notes")[0][0]
    assert "base of 2026-01-01 00:00:00 to 2026-02-01 00:00:00" in reason
    assert_reconciled()
    assert_gapless()


def test_a_tenant_that_moves_is_charged_for_the_hours_its_month_had(db: Engine) -> None:
    """The days of its month end where it is by then; each second is charged once."""
    by_second(fee("744"))
    by_second(ahead("744"), plan_key="ahead")
    subscribe("acme", "2026-01-01", timezone="UTC")
    subscribe("acme", "2026-01-01", timezone="UTC", plan_key="ahead")
    number(instant("2026-02-01"))
    set_tenant(tenant_id="acme", timezone="America/New_York", as_of=instant("2026-02-10"))
    for until in ("2026-03-01T05:00:00", "2026-04-01T05:00:00"):
        run(until)
    finalize_invoices(as_of=instant("2026-04-05"))

    found = [line for line in lines() if line[0] == "pro"]
    assert [line[3] for line in found] == [74_400, 74_400, 74_400]
    assert [line[1:3] for line in found[1:]] == [
        ("02-01 00:00:00", "03-01 05:00:00"),
        ("03-01 05:00:00", "04-01 04:00:00"),
    ]
    assert [line[3] for line in lines() if line[0] == "ahead"] == [74_400] * 4
    assert notes() == []


@pytest.mark.parametrize(
    ("zone", "hours"), [("America/Los_Angeles", 8), ("Pacific/Kiritimati", -14)]
)
def test_half_a_month_paid_ahead_is_half_of_the_month_that_it_became_by_a_move(
    db: Engine, zone: str, hours: int
) -> None:
    by_second(ahead("744"))
    subscribe("acme", "2026-01-16T12:00:00", timezone="UTC")
    number(instant("2026-01-16T12:00:00"))
    set_tenant(tenant_id="acme", timezone=zone, as_of=instant("2026-01-25"))

    run("2026-01-25T00:10:00")
    finalize_invoices(as_of=instant("2026-01-30"))

    owed = round(Fraction(74_400 * (372 + hours), 744 + hours))
    charged = sum(line[3] for line in lines()) - sum(note[0] for note in notes())
    assert charged == owed
    assert bool(notes()) == (hours < 0)


def test_a_draft_of_one_who_moves_has_the_seconds_that_the_month_will_have(db: Engine) -> None:
    """February's fee waits on January's draft, and is told in the zone that is left."""
    by_second(ahead("744"))
    subscribe("acme", "2026-01-01", timezone="UTC")
    run("2026-02-01")
    set_tenant(tenant_id="acme", timezone="America/New_York", as_of=instant("2026-02-02"))

    finalize_invoices(as_of=instant("2026-02-10"))

    assert lines()[-1] == ("pro", "02-01 00:00:00", "03-01 05:00:00", 74_400)


def test_hours_of_a_period_that_is_numbered_are_not_changed(db: Engine) -> None:
    by_second(fee("744"))
    subscribe("acme", "2026-01-31", ended_at=instant("2026-02-01T06:00:00"))
    close("2026-03-10")

    with pytest.raises(PeriodFinalized):
        end_subscription(
            tenant_id="acme",
            plan_key="pro",
            ended_at=instant("2026-02-01T18:00:00"),
            as_of=instant("2026-03-10"),
        )


def test_the_page_says_from_when_until_when_and_of_how_many_hours(
    db: Engine, billing: Command
) -> None:
    by_second(fee("744"))
    made = subscribe("acme", "2026-01-05T10:00:00+01:00", timezone="Europe/Paris")
    cancel(made, "2026-01-16T12:30:00+01:00", when="now")
    close("2026-02-05")
    (shown,) = query("SELECT number FROM invoices")[0]

    said = " ".join(billing("invoice", "show", shown).out.split())

    period = "5 January 2026 10:00:00 \N{EN DASH} 16 January 2026 12:30:00"
    assert f"{period}, 15,990 of 44,640 minutes" in said


def test_a_plan_says_its_proration_and_keeps_it(db: Engine, billing: Command) -> None:
    made = by_second(fee("744"))
    assert made["proration"] == "second"
    subscribe("acme", "2026-01-01")
    with pytest.raises(PlanInUse, match="prorated by the second") as refused:
        make_plan(fee("744"))
    assert refused.value.field == "proration"
    assert billing("plan", "show", "pro").out.splitlines()[0] == (
        "pro, Pro: every month, by calendar, prorated by the second, version 1"
    )


def test_whatever_the_days_say_a_whole_period_costs_a_whole_fee(db: Engine) -> None:
    by_second(fee("29.99"), plan_key="pro")
    subscribe("acme", "2026-01-01T00:00:00+01:00", timezone="Europe/Paris")

    run("2026-12-31T23:00:00")

    assert [line[3] for line in lines()] == [2_999] * 12
    assert {Decimal(one) for (one,) in query("SELECT quantity FROM invoice_lines")} == {Decimal(1)}
