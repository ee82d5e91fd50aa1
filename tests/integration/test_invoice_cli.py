"""`billing invoice`: listed, shown, previewed, finalized, withdrawn, laid out, exported."""

import csv
import io
import json
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from tasks.credit_notes import create_credit_note
from tasks.invoice_list import list_invoices, preview_invoice, render_invoice
from tasks.invoice_runs import generate_invoices
from tasks.invoices import finalize_invoice, generate_monthly_invoice
from tasks.issuing import set_issuer
from tasks.payments import record_payment
from tasks.tenants import set_tenant
from tasks.usage import record_usage
from tasks.usage_voids import void_usage
from tests import pdf_text
from tests.integration.billing_world import (
    fee,
    instant,
    make_plan,
    make_prepaid,
    query,
    redeem,
    subscribe,
    tax,
    top_up,
    usage_price,
    use,
)
from tests.integration.command import Command
from tests.integration.test_payments import refused
from tests.integration.test_tasks_twice import contents
from worker.cli import exporting

LATER = instant("2026-12-31")


def draft(tenant_id: str = "acme", *, timezone: str = "Europe/Berlin") -> Any:
    """31.00 and 12.34 of usage, less 10 %, with 19 % and 2.5 % on top."""
    make_plan(fee("31", description="Team plan"), usage_price("calls", "0.01"))
    subscribe(tenant_id, "2026-01-01", timezone=timezone)
    use(tenant_id, "calls", "2026-01-05", "1234", timezone=timezone)
    redeem(tenant_id, "TEN", percent="10", duration="forever")
    tax(tenant_id, ("vat", "19"), ("city", "2.5"))
    return generate_monthly_invoice(
        tenant_id=tenant_id, period_start="2026-01-01", period_end="2026-02-01", as_of=LATER
    )


def finalized(tenant_id: str = "acme", **more: Any) -> Any:
    invoice = draft(tenant_id, **more)
    return finalize_invoice(invoice_id=invoice["invoice_id"], as_of=instant("2026-02-02"))


def credit(invoice: Any, key: str = "k", **more: Any) -> Any:
    return create_credit_note(
        invoice_id=invoice["invoice_id"], reason="r", idempotency_key=key, as_of=LATER, **more
    )


def test_the_list_has_numbers_states_and_local_days(billing: Command) -> None:
    finalized()
    draft("other")

    ended = billing("invoice", "list")
    listed = json.loads(billing("invoice", "list", "--tenant", "acme", "--json").out)

    assert "2026-01-01 to 2026-01-31" in ended.out
    assert "INV-000001" in ended.out
    assert [(one["tenant_id"], one["number"]) for one in listed] == [("acme", "INV-000001")]
    assert json.loads(billing("invoice", "list", "--state", "void", "--json").out) == []
    assert billing("invoice", "list", "--state", "void").out == "no invoices\n"


def test_pages_of_the_list_go_through_all_of_it_once(db: Engine) -> None:
    for number in range(5):
        draft(f"tenant-{number}")

    seen, after, more = [], None, True
    while more:
        page = list_invoices(limit=2, after=after)
        seen += [one["tenant_id"] for one in page["invoices"]]
        after = page["next_after"]
        more = after is not None

    assert sorted(seen) == [f"tenant-{number}" for number in range(5)]


def test_an_invoice_is_shown_by_number_and_by_id_and_as_json(billing: Command) -> None:
    invoice = finalized()
    record_payment(invoice_id=invoice["invoice_id"], payment_id="p", amount="10")

    by_number = billing("invoice", "show", "INV-000001")
    as_json = json.loads(billing("invoice", "show", invoice["invoice_id"], "--json").out)

    assert by_number.out == billing("invoice", "show", invoice["invoice_id"]).out
    for text in ("Team plan", "Ten (10 %)", "VAT 19 %", "CITY 2.5 %", "Amount due", "37.40 USD"):
        assert text in by_number.out
    assert as_json["open_minor"] == 3_740
    unknown = billing("invoice", "show", "INV-9")
    assert (unknown.status, "INV-9" in unknown.err) == (1, True)


def test_finalizing_and_withdrawing_say_where_the_invoice_stands(billing: Command) -> None:
    invoice = draft()

    done = billing("invoice", "finalize", invoice["invoice_id"], "--as-of", "2026-02-02")
    void = billing("invoice", "void", "INV-000001", "--reason", "wrong", "--json")

    assert done.out == "INV-000001 of acme is finalized, 47.40 USD open\n"
    assert json.loads(void.out)["state"] == "void"
    again = billing("invoice", "finalize", "INV-000001")
    assert again.out == "INV-000001 of acme is void\n"


def test_money_is_entered_and_taken_back_by_hand(billing: Command) -> None:
    finalized()

    part = billing("invoice", "pay", "INV-000001", "--payment-id", "p1", "--amount", "10")
    rest = billing("invoice", "pay", "INV-000001", "--payment-id", "p2", "--method", "bank")
    again = billing("invoice", "pay", "INV-000001", "--payment-id", "p3")
    words = ("--reason", "a mistake", "--key", "k", "--line", "1=5", "--line", "2")
    note = billing("invoice", "credit", "INV-000001", *words)

    assert part.out == "INV-000001 of acme is finalized, 37.40 USD open\n"
    assert rest.out == "INV-000001 of acme is paid\n"
    assert (again.status, "nothing of INV-000001 is open" in again.err) == (2, True)
    assert note.out == "CN-000001 takes 19.58 USD of INV-000001 back: 19.58 USD to be paid back\n"
    assert billing("invoice", "credit", "INV-000001", *words).out == note.out
    assert query("SELECT payment_id, method FROM payments ORDER BY id") == [
        ("p1", "manual"),
        ("p2", "bank"),
    ]
    wrong = billing("invoice", "credit", "INV-000001", "--reason", "r", "--line", "one")
    assert (wrong.status, "'one' must be a line's place" in wrong.err) == (2, True)
    of_note = billing("invoice", "credit", "CN-000001", "--reason", "r")
    assert (of_note.status, "is a credit note" in of_note.err) == (2, True)


def test_what_is_not_paid_is_written_off_by_hand_and_can_still_be_paid(billing: Command) -> None:
    finalized()

    off = billing("invoice", "write-off", "INV-000001", "--reason", "insolvent")
    over = billing("invoice", "pay", "INV-000001", "--payment-id", "p", "--amount", "50")
    paid = billing("invoice", "pay", "INV-000001", "--payment-id", "p", "--json")

    assert off.out == "INV-000001 of acme is uncollectible, 47.40 USD open\n"
    assert (over.status, "50.00 USD is more than is due" in over.err) == (1, True)
    assert json.loads(paid.out)["state"] == "paid"


def test_a_number_with_a_slash_names_a_file_and_no_folder(
    billing: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_issuer(name="Us", number_format="{series}/{year}/{sequence}")
    finalized()
    monkeypatch.chdir(tmp_path)

    assert billing("invoice", "pdf", "INV/2026/1").status == 0

    assert [file.name for file in tmp_path.iterdir()] == ["INV-2026-1.pdf"]


def test_the_running_period_is_previewed_with_coupons_taxes_and_credit(db: Engine) -> None:
    make_plan(fee("30", description="Team plan"), usage_price("calls", "0.01"))
    subscribe("acme", "2026-01-01", timezone="Europe/Berlin")
    redeem("acme", "TEN", percent="10", duration="forever")
    tax("acme", ("vat", "20"))
    make_prepaid()
    top_up("acme", "12.345")
    # Counted by no roll-up yet.
    record_usage(
        tenant_id="acme",
        metric="calls",
        amount="500",
        at="2026-02-05T12:00:00Z",
        idempotency_key="a",
        as_of=instant("2026-02-06"),
    )
    before = contents(db)

    preview: Any
    (preview,) = preview_invoice(tenant_id="acme", as_of=instant("2026-02-10"))["invoices"]

    assert (preview["subtotal_minor"], preview["discount_minor"]) == (3_500, 350)
    assert (preview["tax_minor"], preview["total_minor"]) == (630, 3_780)
    assert (preview["credit_minor"], preview["amount_due_minor"]) == (1_234, 2_546)
    assert (preview["period_start"], preview["number"]) == ("2026-01-31T23:00:00Z", None)
    assert contents(db) == before


def test_the_preview_is_what_the_invoice_then_says(db: Engine) -> None:
    invoice = finalized()
    use("acme", "calls", "2026-02-05", "77", timezone="Europe/Berlin")

    preview: Any
    (preview,) = preview_invoice(tenant_id="acme", as_of=instant("2026-02-10"))["invoices"]
    made: Any = generate_monthly_invoice(
        tenant_id="acme", period_start="2026-02-01", period_end="2026-03-01", as_of=LATER
    )

    own = {"invoice_id"}
    assert {key: preview[key] for key in preview.keys() - own} == {
        key: made[key] for key in made.keys() - own
    }
    assert invoice["invoice_id"] != preview["invoice_id"]


def test_a_tenant_without_a_running_period_has_no_preview(billing: Command) -> None:
    set_tenant(tenant_id="acme")

    ended = billing("invoice", "preview", "acme")

    assert (ended.status, "no subscription in a running period" in ended.out) == (0, True)
    assert billing("invoice", "preview", "nobody").status == 1


def test_the_preview_is_shown_in_the_terminal(billing: Command) -> None:
    finalized()

    shown = billing("invoice", "preview", "acme", "--as-of", "2026-02-10")
    as_json = billing("invoice", "preview", "acme", "--as-of", "2026-02-10", "--json")

    for text in ("1 February 2026", "28 February 2026", "Team plan", "Ten (10 %)", "draft"):
        assert text in shown.out
    assert json.loads(as_json.out)[0]["total_minor"] == 3_390


def test_pages_are_written_as_html_and_pdf(
    billing: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    invoice = finalized()
    set_tenant(tenant_id="acme", name="Renamed later")
    note = credit(invoice, amount="5")
    monkeypatch.chdir(tmp_path)

    for named in ("INV-000001", "CN-000001"):
        assert billing("invoice", "html", named).status == 0
        assert billing("invoice", "pdf", named, "-o", f"{named}.pdf").status == 0
        page = (tmp_path / f"{named}.html").read_text(encoding="utf-8")
        printed = "".join(pdf_text.pages((tmp_path / f"{named}.pdf").read_bytes()))
        for text in (named, "Team plan", "acme"):
            assert text in page
            assert text in printed
        assert "Renamed later" not in page
        assert render_invoice(invoice=named)["html"] == page
    assert note["total"] in (tmp_path / "CN-000001.html").read_text(encoding="utf-8")
    assert refused(render_invoice, invoice="INV-9") == "invoice.unknown"


def test_the_export_reconciles_to_the_cent(billing: Command, tmp_path: Path) -> None:
    first, second = finalized("one"), finalized("two", timezone="Pacific/Auckland")
    void = finalized("three")
    billing("invoice", "void", void["number"], "--reason", "wrong")
    credit(first, lines=[{"line": 1, "amount": "7.77"}])
    file = tmp_path / "books.csv"

    said = billing("invoice", "export", "-o", str(file))
    rows = list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"))))

    totals: dict[str, Decimal] = defaultdict(Decimal)
    for row in rows:
        totals[row["number"]] += Decimal(row["total"])
        assert Decimal(row["net"]) + Decimal(row["tax"]) == Decimal(row["total"])
    ((note,),) = query("SELECT total_minor FROM credit_notes")
    assert totals == {
        first["number"]: Decimal(first["total"]),
        second["number"]: Decimal(second["total"]),
        void["number"]: Decimal(0),
        "CN-000001": -Decimal(note) / 100,
    }
    assert said.err.endswith("4 documents\n")
    taxes = sum(Decimal(row["tax"]) for row in rows if row["number"] == first["number"])
    assert taxes == Decimal(first["tax_minor"]) / 100
    assert billing("invoice", "export").out.replace("\r", "") == file.read_text().replace("\r", "")


def test_the_export_goes_on_from_page_to_page(
    billing: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [finalized(f"tenant-{number}") for number in range(5)]
    for place, invoice in enumerate(made):
        credit(invoice, f"k{place}", amount=str(place + 1))
    draft("unnumbered")
    at_once = billing("invoice", "export").out

    monkeypatch.setattr(exporting, "PAGE", 2)

    assert billing("invoice", "export").out == at_once
    numbers = {row["number"] for row in csv.DictReader(io.StringIO(at_once))}
    assert numbers == {f"{series}-00000{n}" for series in ("INV", "CN") for n in range(1, 6)}


def test_the_export_is_of_the_time_and_the_tenant_that_are_asked_for(billing: Command) -> None:
    finalized("one")
    credit(finalized("two"))

    def numbers(*words: str) -> set[str]:
        return {
            row["number"]
            for row in csv.DictReader(io.StringIO(billing("invoice", "export", *words).out))
        }

    assert numbers("--tenant", "one") == {"INV-000001"}
    assert numbers("--from", "2026-02-02", "--to", "2026-02-03") == {"INV-000001", "INV-000002"}
    assert numbers("--from", "2026-02-03") == numbers("--from", "2026-12-31") == {"CN-000001"}
    # What was issued at the first instant is inside, at the last it is not.
    assert numbers("--to", "2026-02-02") == set()
    assert numbers("--from", "2026-02-03", "--to", "2026-12-31") == set()


def test_who_can_not_be_billed_is_listed_with_the_reason_and_tried_again(
    billing: Command,
) -> None:
    make_plan(
        {**usage_price("calls", "1"), "model": "dynamic", "unit_amount": None,
         "params": {"amount_field": "cost"}}
    )  # fmt: skip
    subscribe("acme", "2026-01-01")
    event = {"tenant_id": "acme", "metric": "calls", "amount": "1", "at": "2026-01-05"}
    record_usage(**event, idempotency_key="bad", as_of=LATER)
    generate_invoices(as_of=instant("2026-02-01"))

    listed = billing("invoice", "parked")
    assert "acme" in listed.out
    assert "1 events of metric 'calls' have no number in metadata.cost" in listed.out
    assert json.loads(billing("invoice", "parked", "--json").out)[0]["code"] == "usage.unpriceable"
    assert billing("invoice", "retry", "acme", "--as-of", "2026-02-01").status == 1

    void_usage(tenant_id="acme", metric="calls", idempotency_key="bad", reason="a test")
    retried = billing("invoice", "retry", "acme", "--as-of", "2026-02-01")
    assert (retried.status, retried.out) == (0, "tenant acme is billed again\n")
    assert billing("invoice", "parked").out == "nobody is parked\n"
    assert "is not parked" in billing("invoice", "retry", "acme").out


def test_papers_and_accounts_go_where_they_are_wanted(billing: Command, tmp_path: Path) -> None:
    number = str(finalized()["number"])
    commands = {
        ("invoice", "html", number): b"<!doctype html",
        ("invoice", "export"): b"document,number,",
    }
    for command, begins in commands.items():
        file, nowhere = tmp_path / command[1], tmp_path / "missing" / "file"
        assert billing(*command, "--output", str(file)).status == 0
        assert file.read_bytes().lower().startswith(begins)
        assert billing(*command, "--output", "-").out == file.read_bytes().decode()
        refused = billing(*command, "--output", str(nowhere))
        assert refused.status == 2
        assert f"{nowhere}: No such file or directory" in refused.err
