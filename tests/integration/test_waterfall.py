"""Coupons, taxes and prepaid credit, from the lines of an invoice to the amount due."""

import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from models import database
from models.rules.refusal import Refusal
from tasks.catalog import set_product
from tasks.coupons import end_coupon, redeem_coupon, set_coupon
from tasks.credit_upkeep import audit
from tasks.credits import get_balance
from tasks.invoice_runs import finalize_invoices, generate_invoices
from tasks.invoices import finalize_invoice, generate_monthly_invoice, get_invoice
from tasks.issuing import set_issuer, set_prepaid_product
from tasks.reservations import reserve_credits
from tasks.taxes import set_tax_rate, set_tenant_taxes
from tasks.unpaid import void_invoice
from tests.integration.billing_world import (
    START,
    assert_gapless,
    assert_reconciled,
    fee,
    instant,
    make_plan,
    make_prepaid,
    query,
    redeem,
    said,
    subscribe,
    tax,
    top_up,
    usage_price,
    use,
)

LATER = instant("2026-12-31")
MONTHS = ["2026-01-01", "2026-02-01", "2026-03-01", "2026-04-01"]


def month(number: int = 0, tenant_id: str = "acme") -> Any:
    return generate_monthly_invoice(
        tenant_id=tenant_id,
        period_start=MONTHS[number],
        period_end=MONTHS[number + 1],
        as_of=LATER,
    )


def finalized(number: int = 0, tenant_id: str = "acme") -> Any:
    invoice = month(number, tenant_id)
    return finalize_invoice(invoice_id=invoice["invoice_id"], as_of=LATER)


def test_coupons_come_before_taxes_and_taxes_before_credit(db: Engine) -> None:
    make_plan(fee("50"), usage_price("calls", "0.01"))
    subscribe("acme", "2026-01-01")
    use("acme", "calls", "2026-01-05", "2000")
    redeem("acme", "ten", amount="10", currency="USD")
    tax("acme", ("vat", "10"))
    make_prepaid()
    top_up("acme", "20", "early")
    top_up("acme", "30", "late", as_of=START + dt.timedelta(days=1))

    invoice = finalized()

    assert (invoice["subtotal_minor"], invoice["discount_minor"]) == (7_000, 1_000)
    assert (invoice["tax_minor"], invoice["total_minor"]) == (600, 6_600)
    assert (invoice["credit_minor"], invoice["amount_due_minor"]) == (5_000, 1_600)
    assert [(line["discount_minor"], line["tax_minor"]) for line in invoice["lines"]] == [
        (714, 429),
        (286, 171),
    ]
    assert get_invoice(invoice_id=invoice["invoice_id"]) == invoice
    assert_reconciled()


def test_credit_is_taken_oldest_first_with_the_invoice_as_its_cause(db: Engine) -> None:
    make_plan(fee("25"))
    subscribe("acme", "2026-01-01")
    make_prepaid()
    first = top_up("acme", "20", "early")
    second = top_up("acme", "20", "late", as_of=START + dt.timedelta(days=1))

    invoice = finalized()

    entries = query("""
        SELECT batch_id::text, amount, cause_type, cause_id FROM ledger_entries
        WHERE direction = 'DEBIT' ORDER BY id
    """)
    assert entries == [
        (first["batch_id"], 20, "invoice", invoice["invoice_id"]),
        (second["batch_id"], 5, "invoice", invoice["invoice_id"]),
    ]
    assert [event["data"]["balance"] for event in said("billing.quota_consumed")] == ["15"]
    assert audit()["ok"]


def test_an_invoice_that_credit_pays_whole_is_paid_and_says_so(db: Engine) -> None:
    make_plan(fee("25"))
    subscribe("acme", "2026-01-01")
    make_prepaid()
    top_up("acme", "25")

    invoice = finalized()

    assert (invoice["state"], invoice["amount_due_minor"], invoice["number"]) == (
        "paid",
        0,
        "INV-000001",
    )
    (told,) = said("billing.invoice.finalized")
    (paid,) = said("billing.invoice.paid")
    assert (told["sequence"], paid["sequence"]) == (2, 3)
    assert said("billing.product_deactivated")[0]["data"]["reason"] == "exhausted"


def test_credit_pays_whole_minor_units_and_what_is_smaller_stays(db: Engine) -> None:
    make_plan(fee("25"))
    subscribe("acme", "2026-01-01")
    make_prepaid()
    top_up("acme", "3.339")

    assert finalized()["credit_minor"] == 333
    balance = get_balance(tenant_id="acme", product_key="MONEY", as_of=LATER)
    assert balance["available"] == "0.009"
    assert finalized(1)["credit_minor"] == 0


def test_credit_that_is_over_or_not_valid_yet_pays_nothing(db: Engine) -> None:
    make_plan(fee("25"))
    subscribe("acme", "2026-01-01")
    make_prepaid()
    top_up("acme", "10", "over", expires_at=instant("2026-02-01"))
    top_up("acme", "10", "later", valid_from=instant("2027-01-01"))

    assert finalized()["credit_minor"] == 0


def test_credit_that_was_held_until_its_time_was_over_pays_and_its_end_is_told(
    db: Engine,
) -> None:
    make_plan(fee("25"))
    subscribe("acme", "2026-01-01")
    make_prepaid()
    top_up("acme", "20")
    reserve_credits(
        tenant_id="acme",
        product_key="MONEY",
        amount="15",
        idempotency_key="hold",
        ttl_seconds=60,
        as_of=instant("2026-01-31T12:00:00"),
    )

    assert finalized()["credit_minor"] == 2_000
    (event,) = said("billing.reservation_released")
    assert (event["data"]["amount"], event["data"]["reason"]) == ("15", "expired")
    assert audit()["ok"]


def test_credit_that_is_held_pays_nothing(db: Engine) -> None:
    make_plan(fee("25"))
    subscribe("acme", "2026-01-01")
    make_prepaid()
    top_up("acme", "20")
    reserve_credits(
        tenant_id="acme",
        product_key="MONEY",
        amount="15",
        idempotency_key="hold",
        ttl_seconds=3600,
        as_of=LATER,
    )

    assert finalized()["credit_minor"] == 500


def test_an_invoice_below_zero_becomes_credit(db: Engine) -> None:
    make_plan(usage_price("calls", "1"))
    subscribe("acme", "2026-01-01")
    use("acme", "calls", "2026-01-05", "-7")
    tax("acme", ("vat", "20"))
    draft = month()

    with pytest.raises(Refusal) as refused:
        finalize_invoice(invoice_id=draft["invoice_id"], as_of=LATER)
    assert refused.value.code == "prepaid.no_product"
    make_prepaid()
    invoice = finalize_invoice(invoice_id=draft["invoice_id"], as_of=LATER)

    assert (invoice["total_minor"], invoice["credit_minor"], invoice["state"]) == (
        -840,
        -840,
        "paid",
    )
    balance = get_balance(tenant_id="acme", product_key="MONEY", as_of=LATER)
    assert balance["available"] == "8.4"
    assert_gapless()


def test_credit_of_an_invoice_below_zero_pays_the_next_one_of_the_same_run(db: Engine) -> None:
    make_plan(usage_price("calls", "1"))
    subscribe("acme", "2026-01-01")
    use("acme", "calls", "2026-01-05", "-7")
    use("acme", "calls", "2026-02-05", "10")
    make_prepaid()
    generate_invoices(as_of=instant("2026-03-01"))

    finalize_invoices(as_of=instant("2026-03-03"))

    figures = query("SELECT credit_minor, amount_due_minor FROM invoices ORDER BY period_start")
    assert figures == [(-700, 0), (700, 300)]
    assert audit()["ok"]


def test_a_coupon_is_on_as_many_invoices_as_it_says(db: Engine) -> None:
    make_plan(fee("100"))
    for tenant_id in ("once", "twice", "always"):
        subscribe(tenant_id, "2026-01-01")
    redeem("once", "O", percent="10", duration="once")
    redeem("twice", "T", percent="10", duration="repeating", periods=2)
    redeem("always", "A", percent="10", duration="forever")

    generate_invoices(as_of=instant("2026-04-01"))

    discounts = query("""
        SELECT tenant_id, array_agg(discount_minor ORDER BY period_start) FROM invoices
        GROUP BY tenant_id ORDER BY tenant_id
    """)
    assert discounts == [
        ("always", [1_000, 1_000, 1_000]),
        ("once", [1_000, 0, 0]),
        ("twice", [1_000, 1_000, 0]),
    ]
    before = query("SELECT * FROM invoice_discounts ORDER BY 1")
    finalize_invoices(as_of=instant("2026-04-03"))
    assert query("SELECT * FROM invoice_discounts ORDER BY 1") == before
    assert_reconciled()


def test_a_coupon_is_not_used_up_by_an_invoice_it_takes_nothing_off(db: Engine) -> None:
    make_plan(usage_price("calls", "1"))
    subscribe("acme", "2026-01-01")
    use("acme", "calls", "2026-02-05", "10")
    redeem("acme", "HALF", percent="50")

    assert [month(number)["discount_minor"] for number in (0, 1, 2)] == [0, 500, 0]


def test_a_void_invoice_gives_its_coupon_back(db: Engine) -> None:
    make_plan(fee("100"))
    subscribe("acme", "2026-01-01")
    redeem("acme", "ONCE", percent="10")
    invoice = finalized()
    assert month(1)["discount_minor"] == 0

    void_invoice(invoice_id=invoice["invoice_id"], reason="wrong plan")

    assert month(1)["discount_minor"] == 1_000


def test_a_coupon_is_on_the_periods_that_end_while_the_tenant_has_it(db: Engine) -> None:
    make_plan(fee("100"))
    subscribe("acme", "2026-01-01")
    terms = {"percent": "10", "duration": "forever"}
    redeem("acme", "ALWAYS", instant("2026-02-01T00:00:00"), **terms)
    end_coupon(tenant_id="acme", coupon_key="always", as_of=instant("2026-03-20"))

    assert [month(number)["discount_minor"] for number in (0, 1, 2)] == [0, 1_000, 0]


def test_coupons_are_taken_off_in_the_order_they_were_redeemed(db: Engine) -> None:
    make_plan(fee("100"))
    for tenant_id, keys in (("one", ("P", "A")), ("two", ("A", "P"))):
        subscribe(tenant_id, "2026-01-01")
        set_coupon(coupon_key="P", name="P", percent="10")
        set_coupon(coupon_key="A", name="A", amount="10", currency="USD")
        for later, key in enumerate(keys):
            redeem(tenant_id, key, START + dt.timedelta(minutes=later))

    assert month(tenant_id="one")["total"] == "80.00"
    assert month(tenant_id="two")["total"] == "81.00"


def test_a_scoped_coupon_and_a_scoped_tax_are_on_their_lines_alone(db: Engine) -> None:
    make_plan(fee("100"), usage_price("calls", "1"))
    subscribe("acme", "2026-01-01")
    use("acme", "calls", "2026-01-05", "50")
    redeem("acme", "CALLS", percent="20", scope={"metrics": ["calls"]})
    tax("acme", ("telecom", "10"), scope={"metrics": ["calls"]})

    invoice = month()

    assert [(line["discount_minor"], line["tax_minor"]) for line in invoice["lines"]] == [
        (0, 0),
        (1_000, 400),
    ]


def test_a_coupon_of_another_currency_is_on_no_invoice(db: Engine) -> None:
    make_plan(fee("100"))
    subscribe("acme", "2026-01-01")
    redeem("acme", "EURO", amount="10", currency="EUR")

    assert month()["discount_minor"] == 0


def test_of_the_last_redemption_left_one_of_eight_tenants_gets_it(db: Engine) -> None:
    set_coupon(coupon_key="LAST", name="Last", percent="50", max_redemptions=4)
    for number in range(3):
        redeem_coupon(tenant_id=f"early-{number}", coupon_key="LAST")

    def race(number: int) -> str:
        try:
            return str(redeem_coupon(tenant_id=f"t{number}", coupon_key="LAST")["tenant_id"])
        except Refusal as refusal:
            return refusal.code

    with ThreadPoolExecutor(8) as pool:
        ends = list(pool.map(race, range(8)))

    assert sorted(ends)[:7] == ["coupon.used_up"] * 7
    assert query("SELECT redemption_count FROM coupons") == [(4,)]
    assert query("SELECT count(*) FROM coupon_redemptions") == [(4,)]


def test_eight_times_the_same_redemption_counts_once(db: Engine) -> None:
    set_coupon(coupon_key="ME", name="Me", percent="50", max_redemptions=4)

    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda _: redeem_coupon(tenant_id="acme", coupon_key="me"), range(8))
        )

    assert all(answer == answers[0] for answer in answers)
    assert query("SELECT redemption_count FROM coupons") == [(1,)]


@pytest.mark.parametrize(
    ("terms", "code"),
    [
        ({"percent": "10", "amount": "5", "currency": "USD"}, "coupon.invalid"),
        ({}, "coupon.invalid"),
        ({"amount": "5"}, "coupon.invalid"),
        ({"amount": "5.001", "currency": "USD"}, "coupon.invalid"),
        ({"percent": "10", "periods": 3}, "coupon.invalid"),
        ({"percent": "10", "duration": "repeating"}, "coupon.invalid"),
        ({"percent": "30"}, "coupon.terms_fixed"),
        ({"percent": "20", "duration": "forever"}, "coupon.terms_fixed"),
        ({"percent": "20", "max_redemptions": 0}, "coupon.terms_fixed"),
    ],
)
def test_a_coupon_that_is_unclear_or_would_change_is_refused_by_name(
    db: Engine, terms: dict[str, Any], code: str
) -> None:
    redeem("acme", "HELLO", percent="20")

    with pytest.raises(Refusal) as refused:
        set_coupon(coupon_key="HELLO", name="Hello", **terms)

    assert refused.value.code == code


def test_a_coupon_may_be_given_no_further_redemptions_and_setting_it_again_changes_nothing(
    db: Engine,
) -> None:
    redeem("acme", "HELLO", percent="20")
    stored = "SELECT version, name, max_redemptions FROM coupons"
    ((before, *_),) = query(stored)

    for _ in range(2):
        set_coupon(coupon_key="HELLO", name="Welcome", percent="20", max_redemptions=1)
        assert query(stored) == [(before + 1, "Welcome", 1)]


def test_who_can_not_redeem_a_coupon_is_told_why(db: Engine) -> None:
    set_coupon(coupon_key="MINE", name="Mine", percent="5", tenant_id="acme")
    set_coupon(coupon_key="OVER", name="Over", percent="5", expires_at=instant("2026-01-01"))
    set_coupon(coupon_key="OFF", name="Off", percent="5", active=False)

    for key, code in (
        ("MINE", "coupon.unknown"),
        ("OVER", "coupon.over"),
        ("OFF", "coupon.over"),
        ("NONE", "coupon.unknown"),
    ):
        with pytest.raises(Refusal) as refused:
            redeem("other", key, instant("2026-01-01"))
        assert refused.value.code == code
    assert redeem("acme", "MINE")["tenant_id"] == "acme"
    with pytest.raises(Refusal) as refused:
        end_coupon(tenant_id="other", coupon_key="MINE")
    assert refused.value.code == "coupon.not_redeemed"


def test_taxes_inside_the_prices_change_no_total(db: Engine) -> None:
    make_plan(fee("119"))
    subscribe("acme", "2026-01-01")
    tax("acme", ("vat", "19"), inclusive=True)

    invoice = month()

    assert (invoice["total_minor"], invoice["tax_minor"]) == (11_900, 1_900)
    assert invoice["taxes"][0]["taxable_minor"] == 10_000


def test_each_period_is_taxed_as_it_was_at_its_end(db: Engine) -> None:
    make_plan(fee("100"))
    subscribe("acme", "2026-01-01")
    tax("acme", ("old", "19"))
    set_tax_rate(tax_key="new", name="New", percent="21")
    # Mid-month: its invoice is of the new rate; a period that ends at that instant is of the old.
    set_tenant_taxes(tenant_id="acme", tax_keys=["new"], effective_at=instant("2026-02-01"))
    set_tenant_taxes(
        tenant_id="acme", exempt_note="Reverse charge", effective_at=instant("2026-03-15")
    )

    assert [month(number)["tax_minor"] for number in (0, 1, 2)] == [1_900, 2_100, 0]
    assert month(2)["tax_note"] == "Reverse charge"
    assert month(1)["tax_note"] is None


def test_a_draft_follows_a_change_of_taxes_and_says_so_once(db: Engine) -> None:
    make_plan(fee("100"))
    subscribe("acme", "2026-01-01")
    first = month()
    tax("acme", ("vat", "20"))

    again = month()

    assert (first["total_minor"], again["total_minor"]) == (10_000, 12_000)
    assert month() == again
    (event,) = said("billing.invoice.updated")
    assert (event["data"]["tax_minor"], event["data"]["total_minor"]) == (2_000, 12_000)


def test_a_draft_with_a_coupon_and_taxes_is_written_anew_with_others(db: Engine) -> None:
    make_plan(fee("100"), usage_price("calls", "1"))
    subscribe("acme", "2026-01-01")
    tax("acme", ("vat", "20"), ("city", "5"))
    redeem("acme", "TEN", percent="10", duration="forever")
    assert month()["total_minor"] == 11_250

    use("acme", "calls", "2026-01-05", "100")
    tax("acme", ("vat", "20"))

    again = month()
    assert (again["discount_minor"], again["tax_minor"], again["total_minor"]) == (
        2_000,
        3_600,
        21_600,
    )
    assert [one["tax_key"] for one in again["taxes"]] == ["vat"]
    assert_reconciled()


def test_a_finalized_invoice_keeps_its_coupons_taxes_and_names(db: Engine) -> None:
    make_plan(fee("100"))
    subscribe("acme", "2026-01-01")
    tax("acme", ("vat", "20"))
    redeem("acme", "ALWAYS", percent="10", duration="forever")
    invoice = finalized()

    set_tax_rate(tax_key="vat", name="Another name", percent="20")
    set_tenant_taxes(tenant_id="acme", exempt_note="Reverse charge", effective_at=START)
    end_coupon(tenant_id="acme", coupon_key="ALWAYS", as_of=START)

    assert month() == invoice
    assert finalize_invoice(invoice_id=invoice["invoice_id"]) == invoice


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE invoices SET tax_minor = 0, total_minor = subtotal_minor - discount_minor",
        "UPDATE invoices SET credit_minor = 5, amount_due_minor = total_minor - 5",
        "UPDATE invoices SET due_at = now()",
        "UPDATE invoices SET issuer = '{}'",
        "UPDATE invoice_lines SET taxes_minor = '{1}'",
        "UPDATE invoice_discounts SET name = 'x'",
        "DELETE FROM invoice_discounts",
        """INSERT INTO invoice_discounts SELECT invoice_id, 9, redemption_id, coupon_key, name,
                                                percent, currency, 1 FROM invoice_discounts""",
        "UPDATE invoice_taxes SET amount_minor = 0",
        "DELETE FROM invoice_taxes",
        """INSERT INTO invoice_taxes SELECT invoice_id, 9, tax_key, name, percent, inclusive,
                                            currency, 1, 1 FROM invoice_taxes""",
    ],
)
def test_the_database_keeps_discounts_and_taxes_of_a_finalized_invoice(
    db: Engine, statement: str
) -> None:
    make_plan(fee("100"))
    subscribe("acme", "2026-01-01")
    tax("acme", ("vat", "20"))
    redeem("acme", "ALWAYS", percent="10", duration="forever")
    invoice = finalized()

    with pytest.raises(IntegrityError, match="finalized"), database.transaction() as session:
        session.execute(text(statement))

    assert get_invoice(invoice_id=invoice["invoice_id"]) == invoice


def test_numbers_are_written_as_the_issuer_says_and_days_are_the_tenants(db: Engine) -> None:
    make_plan(fee("100"))
    subscribe("acme", "2025-12-31T10:00:00Z", timezone="Pacific/Kiritimati")
    set_issuer(
        name="Us", invoice_series="BENT-11", number_format="{series}-{year}{month}-{sequence:3}"
    )

    draft = month()
    # Already the next month where the tenant is.
    invoice = finalize_invoice(
        invoice_id=draft["invoice_id"], as_of=instant("2026-05-31T12:00:00Z")
    )

    assert invoice["number"] == "BENT-11-202606-001"
    assert query("SELECT issuer ->> 'name', due_at FROM invoices") == [
        ("Us", instant("2026-06-14T12:00:00Z"))
    ]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"currency": "USD", "product_key": "CALLS"}, "prepaid.not_a_currency"),
        ({"currency": "EUR", "product_key": "MONEY"}, "prepaid.taken"),
        ({"currency": "EUR", "product_key": "NONE"}, "product.unknown"),
    ],
)
def test_what_can_not_hold_money_is_refused_by_name(
    db: Engine, arguments: dict[str, str], code: str
) -> None:
    make_prepaid()
    set_product(product_key="CALLS", name="Calls", type="quantity")

    with pytest.raises(Refusal) as refused:
        set_prepaid_product(**arguments)

    assert refused.value.code == code
