"""Credit notes: whole, by line, by amount; never above what was billed; numbered without gaps."""

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from models import database
from tasks.credit_notes import create_credit_note, get_credit_note
from tasks.credit_upkeep import audit
from tasks.credits import get_balance
from tasks.invoices import finalize_invoice, generate_monthly_invoice, get_invoice
from tests.integration.billing_world import (
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
from tests.integration.test_payments import pay, refused

LATER = instant("2026-12-31")


def draft(tenant_id: str = "acme") -> Any:
    """100.00 and 50.00, less 10 %, with 20 % on top: 162.00."""
    make_plan(fee("100"), usage_price("calls", "1"))
    subscribe(tenant_id, "2026-01-01")
    use(tenant_id, "calls", "2026-01-05", "50")
    redeem(tenant_id, "TEN", percent="10", duration="forever")
    tax(tenant_id, ("vat", "20"))
    return generate_monthly_invoice(
        tenant_id=tenant_id, period_start="2026-01-01", period_end="2026-02-01", as_of=LATER
    )


def finalized(tenant_id: str = "acme") -> Any:
    return finalize_invoice(invoice_id=draft(tenant_id)["invoice_id"], as_of=LATER)


def credit(invoice: Any, key: str = "k", **more: Any) -> Any:
    return create_credit_note(
        invoice_id=invoice["invoice_id"],
        reason="a mistake",
        idempotency_key=key,
        as_of=LATER,
        **more,
    )


def standing(invoice: Any) -> Any:
    found = get_invoice(invoice_id=invoice["invoice_id"])
    return found["state"], found["credited_minor"], found["open_minor"]


def test_a_whole_note_of_an_unpaid_invoice_settles_it(db: Engine) -> None:
    invoice = finalized()

    note = credit(invoice)

    assert (note["number"], note["total"], note["tax_minor"]) == ("CN-000001", "162.00", 2_700)
    assert (note["reduced_minor"], note["payout_minor"], note["to_credit_minor"]) == (16_200, 0, 0)
    assert [(line["amount_minor"], line["tax_minor"]) for line in note["lines"]] == [
        (9_000, 1_800),
        (4_500, 900),
    ]
    assert standing(invoice) == ("paid", 16_200, 0)
    assert get_credit_note(credit_note_id=note["credit_note_id"]) == note
    (event,) = said("billing.credit_note.created")
    assert (event["data"]["number"], event["data"]["invoice_number"]) == (
        "CN-000001",
        "INV-000001",
    )
    assert len(said("billing.invoice.paid")) == 1
    assert_reconciled()


def test_the_same_key_is_one_note_and_the_next_whole_one_finds_nothing(db: Engine) -> None:
    invoice = finalized()

    assert credit(invoice) == credit(invoice)
    assert refused(credit, invoice, "k2") == "credit_note.nothing_left"
    assert query("SELECT last_number FROM invoice_series WHERE series = 'CN'") == [(1,)]


def test_lines_are_credited_as_priced_with_their_tax(db: Engine) -> None:
    invoice = finalized()

    note = credit(invoice, lines=[{"line": 2}, {"line": 1, "amount": "10"}])

    assert [(line["line"], line["amount_minor"], line["tax_minor"]) for line in note["lines"]] == [
        (1, 1_000, 200),
        (2, 4_500, 900),
    ]
    assert standing(invoice) == ("finalized", 6_600, 9_600)


def test_taxes_inside_the_price_are_taken_back_with_it(db: Engine) -> None:
    make_plan(fee("120"))
    subscribe("acme", "2026-01-01")
    tax("acme", ("vat", "20"), inclusive=True)
    drafted: Any = generate_monthly_invoice(
        tenant_id="acme", period_start="2026-01-01", period_end="2026-02-01", as_of=LATER
    )
    invoice = finalize_invoice(invoice_id=drafted["invoice_id"], as_of=LATER)

    first = credit(invoice, "1", amount="30")
    rest = credit(invoice, "2")

    assert [
        (note["subtotal_minor"], note["tax_minor"], note["total_minor"]) for note in (first, rest)
    ] == [(3_000, 500, 3_000), (9_000, 1_500, 9_000)]
    assert query("SELECT included_tax_minor FROM credit_notes ORDER BY sequence") == [
        (500,),
        (1_500,),
    ]
    assert standing(invoice) == ("paid", 12_000, 0)
    assert_reconciled()


def test_an_amount_is_spread_over_the_lines_with_their_tax(db: Engine) -> None:
    invoice = finalized()

    note = credit(invoice, amount="54")

    assert (note["subtotal_minor"], note["tax_minor"], note["total_minor"]) == (4_500, 900, 5_400)
    assert [line["amount_minor"] for line in note["lines"]] == [3_000, 1_500]


def test_notes_of_every_kind_come_to_the_invoice_exactly_and_not_a_cent_more(db: Engine) -> None:
    invoice = finalized()

    credit(invoice, "1", amount="33.33")
    credit(invoice, "2", lines=[{"line": 1, "amount": "12.34"}])
    credit(invoice, "3", amount="0.01")
    assert refused(credit, invoice, "4", amount="200") == "credit_note.exceeds_billed"
    over = [{"line": 2, "amount": "45"}]
    assert refused(credit, invoice, "5", lines=over) == "credit_note.exceeds_billed"
    credit(invoice, "6")

    assert standing(invoice) == ("paid", 16_200, 0)
    assert query("SELECT sum(total_minor), sum(tax_minor) FROM credit_notes") == [(16_200, 2_700)]
    assert_reconciled()
    assert_gapless()


def test_what_was_paid_is_paid_back_or_becomes_credit(db: Engine) -> None:
    invoice = finalized()
    make_prepaid()
    pay(invoice, "100")

    first = credit(invoice, "1", amount="72")
    second = credit(invoice, "2", amount="30", refund="credit")
    third = credit(invoice, "3")

    assert (first["reduced_minor"], first["payout_minor"]) == (6_200, 1_000)
    assert (second["to_credit_minor"], third["payout_minor"]) == (3_000, 6_000)
    # The first note left nothing to pay; those after it change nothing of that.
    assert len(said("billing.invoice.paid")) == 1
    assert get_balance(tenant_id="acme", product_key="MONEY", as_of=LATER)["available"] == "30"
    assert audit()["ok"]
    assert_reconciled()


def test_what_credit_paid_becomes_credit_again_money_goes_back_first(db: Engine) -> None:
    make_prepaid()
    top_up("acme", "62")
    invoice = finalized()
    pay(invoice, "100")

    note = credit(invoice)

    assert (note["payout_minor"], note["to_credit_minor"], note["reduced_minor"]) == (
        10_000,
        6_200,
        0,
    )
    assert get_balance(tenant_id="acme", product_key="MONEY", as_of=LATER)["available"] == "62"


def test_no_more_money_is_paid_back_than_came_however_many_notes_there_are(db: Engine) -> None:
    make_prepaid()
    top_up("acme", "62")
    invoice = finalized()
    pay(invoice, "100")

    notes = [credit(invoice, "1", amount="90"), credit(invoice, "2")]

    assert [(note["payout_minor"], note["to_credit_minor"]) for note in notes] == [
        (9_000, 0),
        (1_000, 6_200),
    ]
    assert get_balance(tenant_id="acme", product_key="MONEY", as_of=LATER)["available"] == "62"
    assert_reconciled()


def test_a_note_changes_nothing_of_the_invoice_but_what_is_owed(db: Engine) -> None:
    invoice = finalized()
    credit(invoice, amount="10")

    after: Any = get_invoice(invoice_id=invoice["invoice_id"])

    assert {key for key in invoice if invoice[key] != after[key]} == {
        "credited_minor",
        "open_minor",
        "version",
    }
    assert said("billing.invoice.paid") == []


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"lines": [{"line": 3}]}, "credit_note.unknown_line"),
        ({"lines": [{"line": 3, "amount": "1"}]}, "credit_note.unknown_line"),
        ({"lines": [{"line": 1}, {"line": 1}]}, "credit_note.unknown_line"),
        ({"lines": [{"line": 1, "amount": "90.01"}]}, "credit_note.exceeds_billed"),
        ({"amount": "162.01"}, "credit_note.exceeds_billed"),
        ({"amount": "1.001"}, "credit_note.invalid"),
        ({"amount": "1", "lines": [{"line": 1}]}, "credit_note.invalid"),
        ({"refund": "credit", "amount": "1"}, "prepaid.no_product"),
    ],
)
def test_what_can_not_be_taken_back_is_refused_by_name(
    db: Engine, arguments: dict[str, Any], code: str
) -> None:
    invoice = finalized()
    pay(invoice, "162")

    assert refused(credit, invoice, **arguments) == code
    assert query("SELECT count(*) FROM credit_notes") == [(0,)]


def test_lines_are_not_taken_back_above_an_invoice_that_a_correction_lessened(db: Engine) -> None:
    """100.00 and -60.00: 40.00 was billed, so 40.00 is all there is to take back."""
    make_plan(fee("100"), usage_price("calls", "1"))
    subscribe("acme", "2026-01-01")
    use("acme", "calls", "2026-01-05", "-60")
    made: Any = generate_monthly_invoice(
        tenant_id="acme", period_start="2026-01-01", period_end="2026-02-01", as_of=LATER
    )
    invoice = finalize_invoice(invoice_id=made["invoice_id"], as_of=LATER)

    assert refused(credit, invoice, lines=[{"line": 1}]) == "credit_note.exceeds_billed"
    assert refused(credit, invoice, lines=[{"line": 2}]) == "credit_note.exceeds_billed"
    note = credit(invoice, lines=[{"line": 1, "amount": "40"}])

    assert note["total"] == "40.00"
    assert refused(credit, invoice, "k2") == "credit_note.nothing_left"
    assert standing(invoice) == ("paid", 4_000, 0)
    assert_reconciled()


def test_a_draft_is_not_taken_back(db: Engine) -> None:
    assert refused(credit, draft()) == "invoice.not_open"
    assert refused(get_credit_note, credit_note_id=UUID(int=0)) == "credit_note.unknown"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE credit_notes SET reason = 'x'",
        "DELETE FROM credit_notes",
        "UPDATE credit_note_lines SET amount_minor = 1",
        "DELETE FROM credit_note_lines",
    ],
)
def test_the_database_keeps_credit_notes_as_they_are(db: Engine, statement: str) -> None:
    credit(finalized())

    with pytest.raises(IntegrityError, match="append-only"), database.transaction() as session:
        session.execute(text(statement))
