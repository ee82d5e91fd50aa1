"""One closed period is one invoice, priced by local days."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from models import database
from models.rules.refusal import Refusal
from models.store.invoice import UnknownInvoice
from models.store.tenant import UnknownTenant
from tasks import invoices
from tasks.invoices import finalize_invoice, generate_monthly_invoice, get_invoice
from tasks.subscriptions import end_subscription, set_subscription
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

LATER = instant("2026-12-31")


def january(tenant_id: str = "acme", **more: Any) -> Any:
    return month("2026-01-01", "2026-02-01", tenant_id, **more)


def month(start: str, end: str, tenant_id: str = "acme", **more: Any) -> Any:
    arguments = {"period_start": start, "period_end": end, "as_of": LATER, **more}
    return generate_monthly_invoice(tenant_id=tenant_id, **arguments)


def amounts(invoice: Any) -> list[tuple[str, str]]:
    return [(line["description"], line["amount"]) for line in invoice["lines"]]


def test_a_fee_and_two_metrics_are_three_priced_lines_that_add_up(db: Engine) -> None:
    make_plan(fee("10"), usage_price("calls", "0.002"), usage_price("bytes", "0.0000015"))
    subscribe("acme", "2026-01-01")
    use("acme", "calls", "2026-01-01", "1000")
    use("acme", "calls", "2026-01-31", "234")
    use("acme", "calls", "2026-02-01", "999999")
    use("acme", "bytes", "2026-01-15", "10000000")

    invoice = january()

    assert amounts(invoice) == [("base", "10.00"), ("bytes", "15.00"), ("calls", "2.47")]
    assert [line["quantity"] for line in invoice["lines"]] == ["1", "10000000", "1234"]
    assert invoice["total_minor"] == sum(line["amount_minor"] for line in invoice["lines"])
    assert (invoice["total"], invoice["state"], invoice["number"]) == ("27.47", "draft", None)
    assert invoice == get_invoice(invoice_id=invoice["invoice_id"])


def test_the_created_event_says_what_the_invoice_says(db: Engine) -> None:
    make_plan(fee("10"), usage_price("calls", "1"))
    subscribe("acme", "2026-01-01")

    invoice = january()

    (event,) = said("billing.invoice.created")
    assert event["sequence"] == 1
    assert event["tenant_id"] == "acme"
    assert event["data"] == {
        "tenant_id": "acme",
        "invoice_id": invoice["invoice_id"],
        "period_start": "2026-01-01T00:00:00Z",
        "period_end": "2026-02-01T00:00:00Z",
        "currency": "USD",
        "subtotal_minor": 1000,
        "discount_minor": 0,
        "tax_minor": 0,
        "total_minor": 1000,
        "line_count": 2,
    }


def test_twice_is_one_invoice_and_says_nothing_more(db: Engine) -> None:
    make_plan(fee("10"))
    subscribe("acme", "2026-01-01")

    assert january() == january()
    assert query("SELECT count(*) FROM invoices") == [(1,)]
    assert query("SELECT count(*) FROM outbox_messages WHERE type LIKE '%invoice%'") == [(1,)]


def test_eight_at_once_are_one_invoice(db: Engine) -> None:
    make_plan(fee("10"), usage_price("calls", "1"))
    subscribe("acme", "2026-01-01")
    use("acme", "calls", "2026-01-05", "7")

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: january(), range(8)))

    assert all(answer == answers[0] for answer in answers)
    assert query("SELECT count(*), sum(total_minor) FROM invoices") == [(1, 1700)]
    assert len(said("billing.invoice.created")) == 1


def test_instants_of_local_midnights_name_the_same_period_as_days(db: Engine) -> None:
    make_plan(fee("10"))
    subscribe("acme", "2025-12-31T18:15:00Z", timezone="Asia/Kathmandu")

    by_day = january()

    assert by_day["period_start"] == "2025-12-31T18:15:00Z"
    assert by_day["period_end"] == "2026-01-31T18:15:00Z"
    assert month("2025-12-31T18:15:00Z", "2026-02-01T00:00:00+05:45") == by_day


def test_usage_counts_on_the_local_day(db: Engine) -> None:
    make_plan(usage_price("calls", "1"))
    subscribe("west", "2026-01-01T08:00:00Z", timezone="America/Los_Angeles")
    use("west", "calls", "2025-12-31", "1", timezone="America/Los_Angeles")
    use("west", "calls", "2026-01-01", "10", timezone="America/Los_Angeles")
    use("west", "calls", "2026-01-31", "100", timezone="America/Los_Angeles")
    use("west", "calls", "2026-02-01", "1000", timezone="America/Los_Angeles")

    assert january("west")["total"] == "110.00"


@pytest.mark.parametrize(
    ("effective_at", "start", "end", "amount"),
    [
        ("2026-01-16T15:30:00", "2026-01-01", "2026-02-01", "16.00"),  # 16 of 31 days
        ("2028-02-12T06:00:00", "2028-02-01", "2028-03-01", "19.24"),  # 18 of 29 days
        ("2026-02-12T06:00:00", "2026-02-01", "2026-03-01", "18.82"),  # 17 of 28 days
        ("2026-01-01T00:00:00", "2026-01-01", "2026-02-01", "31.00"),
    ],
)
def test_a_subscription_from_mid_month_pays_its_share_of_days(
    db: Engine, effective_at: str, start: str, end: str, amount: str
) -> None:
    make_plan(fee("31"))
    subscribe("acme", effective_at)

    assert month(start, end, as_of=instant("2029-01-01"))["total"] == amount


@pytest.mark.parametrize(
    ("effective_at", "start", "end"),
    [
        ("2026-03-17T12:00:00Z", "2026-03-01", "2026-04-01"),  # the clocks go forward
        ("2026-10-17T12:00:00Z", "2026-10-01", "2026-11-01"),  # the clocks go back
    ],
)
def test_days_are_counted_alike_when_the_clocks_change(
    db: Engine, effective_at: str, start: str, end: str
) -> None:
    make_plan(fee("31"))
    subscribe("acme", effective_at, timezone="Europe/Paris")

    invoice = month(start, end)

    assert invoice["total"] == "15.00"
    assert invoice["lines"][0]["details"]["days"] == 15


def test_quantity_multiplies_fees_and_not_usage(db: Engine) -> None:
    make_plan(fee("9.99"), usage_price("calls", "2"))
    subscribe("acme", "2026-01-01", quantity="7")
    use("acme", "calls", "2026-01-02", "3")

    assert amounts(january()) == [("base", "69.93"), ("calls", "6.00")]


def test_the_day_of_a_plan_change_belongs_to_the_new_plan(db: Engine) -> None:
    make_plan(fee("31"), usage_price("calls", "1"), plan_key="old")
    make_plan(fee("62"), usage_price("calls", "10"), plan_key="new")
    subscribe("acme", "2026-01-01", plan_key="old", ended_at=instant("2026-01-11T17:00:00"))
    subscribe("acme", "2026-01-11T17:00:00", plan_key="new")
    use("acme", "calls", "2026-01-10", "1")
    use("acme", "calls", "2026-01-11", "1")

    invoice = january()

    charged = [(line["details"]["plan_key"], line["amount"]) for line in invoice["lines"]]
    assert charged == [("new", "42.00"), ("old", "10.00"), ("new", "10.00"), ("old", "1.00")]


def test_each_version_of_a_price_is_billed_for_its_own_days(db: Engine) -> None:
    make_plan(fee("31"), usage_price("calls", "1"))
    subscribe("acme", "2026-01-01")
    use("acme", "calls", "2026-01-20", "5")
    use("acme", "calls", "2026-01-21", "7")
    make_plan(fee("62"), usage_price("calls", "2"), as_of=instant("2026-01-21T10:00:00"))

    invoice = january()

    assert amounts(invoice) == [
        ("base", "20.00"),
        ("base", "22.00"),
        ("calls", "5.00"),
        ("calls", "14.00"),
    ]
    assert invoice["lines"][0]["period_end"] == "2026-01-21T00:00:00Z"
    assert invoice["lines"][1]["period_start"] == "2026-01-21T00:00:00Z"


def test_a_line_without_usage_is_kept(db: Engine) -> None:
    make_plan(usage_price("calls", "1"))
    subscribe("acme", "2026-01-01")

    (line,) = january()["lines"]

    assert (line["quantity"], line["amount_minor"]) == ("0", 0)


def test_prices_in_another_currency_are_not_on_the_invoice(db: Engine) -> None:
    make_plan(fee("10"), fee("1500", currency="JPY"))
    subscribe("acme", "2026-01-01", currency="JPY")

    invoice = january()

    assert (invoice["currency"], invoice["total"], len(invoice["lines"])) == ("JPY", "1500", 1)


def test_plans_of_one_rhythm_share_an_invoice_and_others_do_not(db: Engine) -> None:
    make_plan(fee("10"))
    make_plan(fee("20"), plan_key="extra")
    make_plan(fee("7"), plan_key="weekly", interval="week")
    for plan_key in ("pro", "extra", "weekly"):
        subscribe("acme", "2026-01-01", plan_key=plan_key)

    assert sorted(line["amount"] for line in january()["lines"]) == ["10.00", "20.00"]
    assert month("2026-01-05", "2026-01-12")["total"] == "7.00"


def test_a_tenant_who_moves_west_is_not_billed_again_for_the_same_month(db: Engine) -> None:
    make_plan(fee("31"))
    subscribe("acme", "2026-01-01")
    first = january()

    set_tenant(
        tenant_id="acme", timezone="America/Los_Angeles", as_of=instant("2026-02-01T12:00:00")
    )

    assert january()["invoice_id"] == first["invoice_id"]
    february = month("2026-02-01", "2026-03-01")
    assert (february["period_start"], february["total"]) == ("2026-02-01T08:00:00Z", "31.00")


@pytest.mark.parametrize(
    ("start", "end", "as_of", "code"),
    [
        ("2026-01-15", "2026-02-15", "2026-12-01", "invoice.nothing_to_bill"),
        ("2025-12-01", "2026-01-01", "2026-12-01", "invoice.nothing_to_bill"),
        ("2026-02-01", "2026-01-01", "2026-12-01", "invoice.not_a_period"),
        ("2026-01-01T05:00:00Z", "2026-02-01", "2026-12-01", "invoice.not_a_period"),
        ("2026-01-01", "2026-02-01", "2026-01-31T23:59:59", "invoice.period_not_over"),
    ],
)
def test_what_is_no_closed_billing_period_is_refused_by_name(
    db: Engine, start: str, end: str, as_of: str, code: str
) -> None:
    make_plan(fee("10"))
    subscribe("acme", "2026-01-01")

    with pytest.raises(Refusal) as refused:
        month(start, end, as_of=instant(as_of))

    assert refused.value.code == code
    assert query("SELECT count(*) FROM invoices") == [(0,)]


def test_an_unknown_tenant_or_invoice_is_refused_by_name(db: Engine) -> None:
    with pytest.raises(UnknownTenant):
        january("nobody")
    with pytest.raises(UnknownInvoice):
        get_invoice(invoice_id=UUID(int=0))


def test_a_draft_follows_late_usage_when_it_is_asked_for_again(db: Engine) -> None:
    make_plan(usage_price("calls", "1"))
    subscribe("acme", "2026-01-01")
    use("acme", "calls", "2026-01-31", "5")
    first = january()
    use("acme", "calls", "2026-01-31", "8")

    again = january()

    assert (again["invoice_id"], again["total"]) == (first["invoice_id"], "8.00")
    assert again == get_invoice(invoice_id=first["invoice_id"])
    (event,) = said("billing.invoice.updated")
    assert (event["sequence"], event["data"]["total_minor"]) == (2, 800)


def test_a_finalized_invoice_has_a_number_and_stays_as_it_is(db: Engine) -> None:
    make_plan(usage_price("calls", "1"))
    subscribe("acme", "2026-01-01")
    use("acme", "calls", "2026-01-31", "5")
    draft = january()

    final = finalize_invoice(invoice_id=draft["invoice_id"], as_of=LATER)
    use("acme", "calls", "2026-01-31", "500")

    assert (final["state"], final["number"], final["total"]) == ("finalized", "INV-000001", "5.00")
    assert finalize_invoice(invoice_id=draft["invoice_id"]) == final
    assert january() == final
    (event,) = said("billing.invoice.finalized")
    assert (event["sequence"], event["data"]["number"]) == (2, "INV-000001")
    assert said("billing.invoice.updated") == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE invoices SET total_minor = 0",
        "UPDATE invoices SET number = 'INV-9'",
        "UPDATE invoices SET state = 'draft', number = NULL, finalized_at = NULL",
        "DELETE FROM invoices",
        "UPDATE invoice_lines SET amount_minor = 0",
        "DELETE FROM invoice_lines",
        """INSERT INTO invoice_lines (invoice_id, position, kind, description, quantity, currency,
                                      amount_minor, period_start, period_end)
           SELECT id, 9, 'fixed', 'more', 1, currency, 1, period_start, period_end FROM invoices""",
    ],
)
def test_the_database_refuses_to_change_a_finalized_invoice(db: Engine, statement: str) -> None:
    make_plan(fee("10"))
    subscribe("acme", "2026-01-01")
    final = finalize_invoice(invoice_id=january()["invoice_id"])

    with pytest.raises(IntegrityError, match="finalized"), database.transaction() as session:
        session.execute(text(statement))

    assert get_invoice(invoice_id=final["invoice_id"]) == final


def test_a_numbered_period_takes_no_further_subscription(db: Engine) -> None:
    make_plan(fee("10"))
    make_plan(fee("5"), plan_key="extra")
    held = subscribe("acme", "2026-01-01")
    finalize_invoice(invoice_id=january()["invoice_id"])

    with pytest.raises(Refusal, match="INV-000001 of 2026-01-01 to 2026-01-31"):
        subscribe("acme", "2026-01-20", plan_key="extra")
    with pytest.raises(Refusal, match="INV-000001"):
        end_subscription(
            subscription_id=held["subscription_id"], ended_at=instant("2026-01-20T00:00:00")
        )
    subscribe("acme", "2026-02-01", plan_key="extra")
    assert month("2026-02-01", "2026-03-01")["total"] == "15.00"


def test_a_backdated_subscription_joins_a_draft(db: Engine) -> None:
    make_plan(fee("10"))
    make_plan(fee("31"), plan_key="extra")
    subscribe("acme", "2026-01-01")
    january()

    subscribe("acme", "2026-01-22", plan_key="extra")

    assert sorted(amounts(january())) == [("base", "10.00"), ("base", "10.00")]


def test_lines_and_totals_stay_exact_for_huge_quantities(db: Engine) -> None:
    make_plan(usage_price("calls", "0.000000000001"))
    subscribe("acme", "2026-01-01")
    use("acme", "calls", "2026-01-02", "999999999999999999.999999999999")

    assert january()["total"] == "1000000.00"


def test_the_tenants_only_currency_is_used_when_none_is_named(db: Engine) -> None:
    make_plan(fee("10", currency="EUR"))
    set_subscription(
        tenant_id="acme",
        plan_key="pro",
        currency="EUR",
        effective_at=instant("2026-01-01"),
        idempotency_key="one",
    )

    assert january()["currency"] == "EUR"
    with pytest.raises(invoices.NothingToBill, match="USD"):
        january(currency="USD")
