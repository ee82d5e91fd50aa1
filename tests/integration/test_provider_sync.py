"""Invoices at a provider: told step by step, once, whatever happens on the way."""

import dataclasses
import datetime as dt
import json
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine, event

from models import database
from models.rules.refusal import Refusal
from models.store import due
from tasks import config, shutdown, sync_run, sync_steps
from tasks.credit_notes import create_credit_note
from tasks.invoice_runs import finalize_invoices, generate_invoices
from tasks.invoices import finalize_invoice, generate_monthly_invoice
from tasks.issuing import set_issuer
from tasks.payments import record_payment
from tasks.subscriptions import end_subscription
from tasks.syncs import get_sync, list_syncs, retry_sync, set_provider_customer
from tasks.tenants import set_tenant
from tasks.unpaid import void_invoice, write_off_invoice
from tests.integration.billing_world import (
    fee,
    make_plan,
    make_prepaid,
    query,
    redeem,
    said,
    subscribe,
    tax,
    top_up,
)
from tests.integration.provider_world import (
    LATER,
    finalized,
    make_offer,
    run,
    syncs,
    tries,
    use_provider,
)
from tests.integration.test_credit_crashes import die_before_commit, ends_by_kill, kill
from tests.stripe_server import DO_AND_HANG_UP, HANG_UP, SECRET_KEY, Fault, Stripe, stripe
from webhooks.guard import Policy

STEPS = ["customer", "invoice", "items", "finalize"]


@pytest.fixture
def account(db: Engine) -> Iterator[Stripe]:
    """An account that this process tells of invoices, and something to sell."""
    with stripe() as running:
        use_provider(running)
        make_offer()
        yield running


def only(account: Stripe, kind: str = "invoice") -> Any:
    """The one object of a kind that there is."""
    (one,) = account.account.of(kind)
    return account.account.shown(one)


def test_a_numbered_invoice_arrives_with_its_figures_and_says_so(account: Stripe) -> None:
    set_tenant(
        tenant_id="acme",
        name="Acme GmbH",
        address="Lindenstr. 1\n10969 Berlin",
        metadata={"email": "ap@acme.example"},
    )
    make_prepaid()
    top_up("acme", "10")
    tax("acme", ("vat", "19"))
    redeem("acme", "TEN", percent="10", duration="forever")
    invoice = finalized()

    assert syncs() == [("pending", 0, None)]
    answer = run()

    assert answer == {
        "steps": 4, "synced": 1, "put_off": 0, "failed": 0, "lost": 0, "held": False
    }  # fmt: skip
    remote, customer = only(account), only(account, "customer")
    assert (remote["total"], remote["currency"]) == (invoice["amount_due_minor"], "usd")
    assert (remote["status"], remote["number"]) == ("open", invoice["number"])
    assert remote["auto_advance"] is False
    assert remote["customer"] == customer["id"]
    assert (customer["name"], customer["email"]) == ("Acme GmbH", "ap@acme.example")
    lines = account.account.lines[remote["id"]]
    assert [(line["description"], line["amount"]) for line in lines] == [
        ("Team plan", 3100),
        ("calls", 1234),
        ("Ten", -433),
        ("VAT 19 %", 741),
        ("Paid from prepaid credit", -1000),
    ]
    assert tries() == [(step, "done", 200) for step in STEPS]
    (told,) = said("billing.invoice.synced")
    assert told["tenant_id"] == "acme"
    assert told["data"] == {
        "tenant_id": "acme",
        "invoice_id": invoice["invoice_id"] and str(invoice["invoice_id"]),
        "number": invoice["number"],
        "provider": "stripe",
        "remote_customer_id": customer["id"],
        "remote_invoice_id": remote["id"],
        "state": "finalized",
        "currency": "USD",
        "amount_due_minor": invoice["amount_due_minor"],
    }
    assert run()["steps"] == 0


def test_it_is_on_its_way_with_its_number_and_not_before(account: Stripe) -> None:
    subscribe("acme", "2026-01-01")
    generate_invoices(as_of=LATER)
    assert ends_by_kill(die_before_commit, lambda: finalize_invoices(as_of=LATER))
    assert query("SELECT 1 FROM invoice_syncs") == []

    finalize_invoices(as_of=LATER)

    with database.transaction() as session:
        waiting = due.by_job(session, now=LATER, closed_by=LATER)["billing.sync_invoices"]
    ((numbered, on_their_way),) = query("""
        SELECT count(*) FILTER (WHERE number IS NOT NULL), (SELECT count(*) FROM invoice_syncs)
        FROM invoices
    """)
    assert numbered == on_their_way == waiting.waiting > 0
    assert waiting.oldest == LATER


def test_nobody_is_told_where_no_provider_is_set(account: Stripe) -> None:
    config.use(config.Config(kick=False))
    finalized()

    assert syncs() == []
    assert run()["steps"] == 0
    with pytest.raises(Refusal, match="BILLING_PROVIDER") as refused:
        set_provider_customer(tenant_id="acme", remote_id="cus_1")
    assert refused.value.code == "sync.no_provider"


def test_every_step_carries_the_key_of_the_account_its_version_and_a_key_of_its_own(
    account: Stripe,
) -> None:
    finalized()
    run()

    posts = [headers for method, _, headers in account.account.seen if method == "POST"]
    assert len({headers["Idempotency-Key"] for headers in posts}) == len(posts) == 5
    assert {headers["Stripe-Version"] for headers in posts} == {"2024-10-28.acacia"}
    assert {headers["authorization"] for headers in posts} == {f"Bearer {SECRET_KEY}"}


def test_a_tenant_is_one_customer_however_many_invoices_it_has(account: Stripe) -> None:
    # Slow enough for the run to look for more while the customer is being made.
    account.account.pause = 0.2
    finalized()
    make_plan(fee("7", currency="EUR"), plan_key="euro")
    subscribe("acme", "2026-01-01", plan_key="euro", currency="EUR")
    draft = generate_monthly_invoice(
        tenant_id="acme",
        period_start="2026-01-01",
        period_end="2026-02-01",
        currency="EUR",
        as_of=LATER,
    )
    finalize_invoice(invoice_id=draft["invoice_id"], as_of=LATER)

    while run()["steps"]:
        pass

    assert len(account.account.of("customer")) == 1
    assert len(account.account.of("invoice")) == 2
    assert [state for state, _, _ in syncs()] == ["synced", "synced"]
    # Not by the key alone: the provider forgets it, and the second was not begun with the first.
    made = [path for method, path, _ in account.account.seen if method == "POST"]
    assert made.count("/v1/customers") == 1
    customer = only(account, "customer")["id"]
    assert query("SELECT remote_id FROM provider_customers") == [(customer,)]


def test_a_tenant_that_is_a_customer_already_stays_that_one(account: Stripe) -> None:
    account.account.objects["cus_old"] = {"id": "cus_old", "object": "customer", "metadata": {}}
    invoice = finalized()
    set_provider_customer(tenant_id="acme", remote_id="cus_old")

    run()

    assert [one["id"] for one in account.account.of("customer")] == ["cus_old"]
    assert only(account)["customer"] == "cus_old"
    shown = get_sync(invoice_id=invoice["invoice_id"])
    assert shown["done"]["customer"] == "cus_old"
    assert [one["step"] for one in shown["tries"]] == STEPS[::-1]


def test_taxes_inside_the_prices_are_no_items_of_their_own(account: Stripe) -> None:
    tax("acme", ("vat", "19"), inclusive=True)
    finalized()

    assert run()["synced"] == 1
    assert [line["amount"] for line in account.account.lines[only(account)["id"]]] == [3100, 1234]


def test_a_number_that_is_too_long_for_the_provider_is_left_to_it(account: Stripe) -> None:
    set_issuer(name="We", number_format="{series}-{year}-{month}-{sequence:16}", as_of=LATER)
    assert len(finalized("a")["number"]) == 28

    assert run()["synced"] == 1
    assert only(account)["number"] is None
    assert only(account)["metadata"]["number"] == "INV-2026-12-0000000000000001"


def test_an_invoice_of_which_nothing_is_due_is_paid_there_too(account: Stripe) -> None:
    make_prepaid()
    top_up("acme", "100")
    finalized()

    run()

    assert (only(account)["total"], only(account)["status"]) == (0, "paid")
    assert account.account.asked["POST pay"] == 0
    assert syncs() == [("synced", 0, None)]


def kill_in(step: str, *, after: bool) -> Any:
    """Die before a step is asked for, or when it was answered and nothing is written down."""

    def prepare(_: Engine) -> None:
        real = sync_steps.tell

        def tell(provider: Any, work: Any, *, now: dt.datetime) -> Any:
            if work.todo.step.value != step:
                return real(provider, work, now=now)
            if after:
                real(provider, work, now=now)
            return kill()

        sync_steps.tell = tell

    return prepare


def lease_over() -> None:
    query("""
        UPDATE invoice_syncs SET leased_until = now() WHERE state = 'running' RETURNING 1
    """)


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_kill_between_any_two_steps_makes_nothing_twice(account: Stripe, after: bool) -> None:
    invoice = finalized()

    for step in STEPS:
        assert ends_by_kill(kill_in(step, after=after), run)
        assert run()["steps"] == 0, "its lease has not ended yet"
        lease_over()
    run()
    record_payment(invoice_id=invoice["invoice_id"], payment_id="p", amount="43.34", as_of=LATER)
    assert ends_by_kill(kill_in("pay", after=after), run)
    lease_over()
    run()

    assert len(account.account.of("customer")) == 1
    remote = only(account)
    assert (remote["total"], remote["status"]) == (4334, "paid")
    assert len(account.account.lines[remote["id"]]) == 2
    assert syncs() == [("synced", 0, None)]
    told = {one["sequence"]: one["data"]["state"] for one in said("billing.invoice.synced")}
    assert told == {1: "finalized", 2: "paid"}
    posted = [path for method, path, _ in account.account.seen if method == "POST"]
    assert len(posted) == (11 if after else 6)


@pytest.mark.slow
def test_a_kill_before_any_statement_loses_nothing(account: Stripe) -> None:
    finalized()

    def die_before(number: int) -> Any:
        def prepare(engine: Engine) -> None:
            passed = iter(range(number))
            event.listen(
                engine,
                "before_cursor_execute",
                lambda *_: None if next(passed, None) is not None else kill(),
            )

        return prepare

    for number in range(0, 70, 7):
        if not ends_by_kill(die_before(number), run):
            break
        lease_over()
    else:
        pytest.fail("more than 70 statements")

    remote = only(account)
    assert (remote["total"], remote["status"]) == (4334, "open")
    assert len(account.account.of("customer")) == 1
    assert len(said("billing.invoice.synced")) == 1


def test_an_answer_that_never_came_is_asked_for_again_under_the_same_key(account: Stripe) -> None:
    finalized()
    for what in ("customers", "invoices", "add_lines", "finalize"):
        account.account.fail(what, DO_AND_HANG_UP)

    for minutes in range(0, 60, 10):
        run(minutes=minutes)

    assert len(account.account.of("customer")) == 1
    assert (only(account)["total"], only(account)["status"]) == (4334, "open")
    assert syncs() == [("synced", 0, None)]
    assert [outcome for _, outcome, _ in tries()] == ["later", "done"] * 4


def test_what_was_begun_a_day_ago_is_looked_for_before_it_is_made(account: Stripe) -> None:
    """The provider forgets keys: by the key alone everything would be there twice."""
    finalized("o'hara \\ sons")
    days = 0
    for what in ("customers", "invoices", "add_lines", "finalize"):
        account.account.fail(what, DO_AND_HANG_UP)
        run(days=days)
        account.account.forget_keys()
        days += 2
    run(days=days)

    assert len(account.account.of("customer")) == 1
    assert len(account.account.lines[only(account)["id"]]) == 2
    assert only(account)["status"] == "open"
    assert syncs() == [("synced", 0, None)]
    assert account.account.asked["POST invoices"] == 1


@pytest.mark.parametrize(
    "fault",
    [
        Fault(500, body={"error": {"type": "api_error", "message": "oops"}}),
        Fault(503, body=b"<html>"),
        Fault(409, body={"error": {"type": "idempotency_error", "message": "in use"}}),
        Fault(301, {"Location": "http://169.254.169.254/"}),
        Fault(200, body=b'{"id": "in_', does=True),
        Fault(drips=0.05, does=True),
        HANG_UP,
    ],
    ids=lambda fault: str(fault.status or ("drip" if fault.drips else "hang up")),
)
def test_what_passes_is_waited_for_by_the_schedule(account: Stripe, fault: Fault) -> None:
    finalized()
    account.account.fail("finalize", fault)
    use_provider(account, timeout=dt.timedelta(seconds=0.5))

    assert run()["put_off"] == 1
    ((due_in,),) = query("SELECT due_at - :now FROM invoice_syncs", now=LATER)
    ((state, attempts, code),) = syncs()
    assert (state, attempts) == ("pending", 1)
    assert code is not None
    assert dt.timedelta(seconds=5) <= due_in <= dt.timedelta(seconds=8)
    assert run()["steps"] == 0
    assert run(minutes=1)["synced"] == 1
    assert only(account)["status"] == "open"


def test_an_address_that_must_not_be_asked_spends_no_attempt(account: Stripe) -> None:
    """As of an endpoint: somebody has to allow it, which no attempt brings nearer."""
    finalized()
    allowed = config.current()
    config.use(dataclasses.replace(allowed, address_policy=Policy()))

    for hours in range(0, 30, 2):
        assert run(hours=hours)["put_off"] <= 1
    (one,) = set(tries())
    assert one == ("customer", "blocked", None)
    assert syncs() == [("pending", 0, "provider.address_refused")]
    assert len(tries()) > 10, "more often than there are attempts"

    config.use(allowed)
    assert run(hours=60)["synced"] == 1


def test_all_are_left_alone_for_as_long_as_the_provider_asks(account: Stripe) -> None:
    finalized("a")
    account.account.fail("invoices", Fault(429, {"Retry-After": "600"}))
    run()
    finalized("b")

    assert run(minutes=9)["held"] is True
    assert account.account.asked["POST invoices"] == 1
    # First one, to see how it does, and then the others.
    assert run(minutes=13)["synced"] == 2
    assert {code for _, _, code in syncs()} == {None}


def test_what_was_under_way_ends_no_wait_that_the_provider_asked_for(account: Stripe) -> None:
    """One of two is told to wait an hour; the other, a step behind, still succeeds."""
    for tenant in ("a", "b"):
        finalized(tenant)
    account.account.fail("invoices", Fault(429, {"Retry-After": "3600"}))
    account.account.pause = 0.05

    assert run()["steps"] > 2
    ((left,),) = query("SELECT hold_until - :now FROM provider_health", now=LATER)
    assert left >= dt.timedelta(hours=1)
    assert run(minutes=50)["held"] is True


def test_a_provider_that_is_down_is_asked_by_one_and_spends_nobodys_attempts(
    account: Stripe,
) -> None:
    for number in range(9):
        finalized(f"t{number}")
    account.stop()

    run()
    spent = sum(attempts for _, attempts, _ in syncs())
    assert sync_run.LANES >= spent >= 5
    held = "SELECT failures, hold_until - :now FROM provider_health"
    ((failures, left),) = query(held, now=LATER)
    assert failures == 5, "what was under way says nothing new"
    assert dt.timedelta(seconds=25) < left < dt.timedelta(seconds=60)
    for minutes in range(1, 30, 2):
        run(minutes=minutes)
    assert sum(attempts for _, attempts, _ in syncs()) <= spent + 8
    account.start()
    for minutes in range(45, 300, 60):
        run(minutes=minutes)

    assert {state for state, _, _ in syncs()} == {"synced"}
    assert len(account.account.of("invoice")) == 9


def test_one_that_is_refused_fails_by_name_and_costs_the_others_nothing(account: Stripe) -> None:
    broken, fine = finalized("a"), finalized("b")
    set_provider_customer(tenant_id="a", remote_id="cus_gone")

    answer = run()

    assert (answer["failed"], answer["synced"]) == (1, 1)
    assert syncs() == [("failed", 1, "provider.resource_missing"), ("synced", 0, None)]
    (told,) = said("billing.invoice.sync_failed")
    assert told["tenant_id"] == ""
    data = told["data"]
    assert (data["tenant_id"], data["number"], data["step"]) == ("a", broken["number"], "customer")
    assert data["code"] == "provider.resource_missing"
    assert "No such object: 'cus_gone'" in data["reason"]
    assert run(days=9)["steps"] == 0
    set_provider_customer(tenant_id="a", remote_id=only(account, "customer")["id"])
    retry_sync(invoice_id=broken["invoice_id"], as_of=LATER)
    assert run()["synced"] == 1
    assert fine["number"] != broken["number"]


def test_after_its_last_attempt_it_waits_for_an_operator(account: Stripe) -> None:
    finalized()
    account.account.always["add_lines"] = Fault(500)

    for hours in range(0, 400, 30):
        run(hours=hours)

    ((state, attempts, code),) = syncs()
    assert (state, attempts, code) == ("failed", 10, "provider.status_500")
    assert len([step for step, _, _ in tries() if step == "items"]) == 10
    assert len(said("billing.invoice.sync_failed")) == 1
    account.account.always.clear()
    (found,) = list_syncs(state="failed")["syncs"]
    retry_sync(invoice_id=found["invoice_id"], as_of=LATER)
    retry_sync(invoice_id=found["invoice_id"], as_of=LATER)
    assert run(days=30)["synced"] == 1
    assert len(account.account.lines[only(account)["id"]]) == 2


def test_an_error_that_the_provider_keeps_under_the_key_is_got_over_by_an_operator(
    account: Stripe,
) -> None:
    invoice = finalized()
    said_no = {"error": {"type": "invalid_request_error", "code": "x", "message": "no"}}
    account.account.fail("invoices", Fault(400, body=said_no, saves=True))
    run()
    assert syncs()[0][0] == "failed"
    # What becomes of the invoice meanwhile does not send it again.
    record_payment(invoice_id=invoice["invoice_id"], payment_id="1", amount="1", as_of=LATER)
    assert (run(days=1)["steps"], syncs()[0][0]) == (0, "failed")

    retry_sync(invoice_id=invoice["invoice_id"], as_of=LATER)

    assert run()["synced"] == 1


def test_what_was_done_though_it_was_refused_is_found_by_an_operators_retry(
    account: Stripe,
) -> None:
    """It is a new request, under another key; by that alone the invoice would be there twice."""
    invoice = finalized()
    said_no = {"error": {"type": "invalid_request_error", "code": "x", "message": "no"}}
    account.account.fail("invoices", Fault(400, body=said_no, does=True))
    run()
    assert syncs()[0][0] == "failed"

    retry_sync(invoice_id=invoice["invoice_id"], as_of=LATER)

    assert run()["synced"] == 1
    assert only(account)["status"] == "open"


def test_another_total_is_a_failure_by_name_and_nothing_is_made_final(account: Stripe) -> None:
    invoice = finalized()
    account.account.skew = 1

    assert run()["failed"] == 1
    assert only(account)["status"] == "draft"
    assert syncs() == [("failed", 1, "provider.total_differs")]
    reason = get_sync(invoice_id=invoice["invoice_id"])["reason"]
    assert reason is not None
    assert "4335" in reason
    assert "4334 USD" in reason
    # It is looked at again, and a draft that was mended there is gone on with.
    account.account.skew = 0
    retry_sync(invoice_id=invoice["invoice_id"], as_of=LATER)
    assert run()["synced"] == 1


def test_a_draft_that_was_deleted_there_is_made_anew_when_an_operator_says_so(
    account: Stripe,
) -> None:
    invoice = finalized()
    account.account.skew = 1
    run()
    account.account.skew = 0
    del account.account.objects[only(account)["id"]]
    retry_sync(invoice_id=invoice["invoice_id"], as_of=LATER)
    assert run()["failed"] == 1
    retry_sync(invoice_id=invoice["invoice_id"], anew=True, as_of=LATER)

    assert run()["synced"] == 1
    assert only(account)["total"] == 4334


def test_nothing_is_forgotten_of_what_is_final_there(account: Stripe) -> None:
    invoice = finalized()
    run()
    said_no = {"error": {"type": "invalid_request_error", "code": "x", "message": "no"}}
    account.account.fail("void", Fault(400, body=said_no))
    void_invoice(invoice_id=invoice["invoice_id"], reason="a test", as_of=LATER)
    assert run()["failed"] == 1

    again = retry_sync(invoice_id=invoice["invoice_id"], anew=True, as_of=LATER)

    assert sorted(again["done"]) == sorted(STEPS)
    assert run()["synced"] == 1
    assert only(account)["status"] == "void"


def test_a_payment_a_withdrawal_and_a_loss_are_told_once_they_happen(account: Stripe) -> None:
    paid, void, lost = (finalized(tenant) for tenant in ("a", "b", "c"))
    run()
    record_payment(invoice_id=paid["invoice_id"], payment_id="1", amount="20", as_of=LATER)
    assert run()["steps"] == 0, "part of a payment is nothing that the provider can be told"
    assert len(said("billing.invoice.synced")) == 3
    record_payment(invoice_id=paid["invoice_id"], payment_id="2", amount="23.34", as_of=LATER)
    void_invoice(invoice_id=void["invoice_id"], reason="wrong", as_of=LATER)
    write_off_invoice(invoice_id=lost["invoice_id"], reason="gone", as_of=LATER)

    assert run()["synced"] == 3

    states = {one["number"]: one["status"] for one in account.account.of("invoice")}
    assert states == {
        paid["number"]: "paid",
        void["number"]: "void",
        lost["number"]: "uncollectible",
    }
    told = said("billing.invoice.synced")
    after = [one["data"]["state"] for one in told if one["data"]["state"] != "finalized"]
    assert sorted(after) == ["paid", "uncollectible", "void"]
    record_payment(invoice_id=lost["invoice_id"], payment_id="3", amount="43.34", as_of=LATER)
    run()
    assert {one["status"] for one in account.account.of("invoice")} == {"paid", "void"}


def test_what_the_provider_did_by_itself_is_no_fault(account: Stripe) -> None:
    """It collected, or somebody withdrew the invoice there, before we told of it."""
    paid, void = finalized("a"), finalized("b")
    run()
    for one in account.account.of("invoice"):
        one["status"] = "paid" if one["number"] == paid["number"] else "void"
    record_payment(invoice_id=paid["invoice_id"], payment_id="1", amount="43.34", as_of=LATER)
    void_invoice(invoice_id=void["invoice_id"], reason="wrong", as_of=LATER)

    assert run()["synced"] == 2
    assert account.account.asked["POST pay"] == 0


def test_credit_notes_take_back_what_is_open_and_what_was_paid(account: Stripe) -> None:
    make_prepaid()
    top_up("acme", "13.34")
    invoice = finalized()
    run()
    assert only(account)["total"] == 3000
    identified: dict[str, Any] = {"invoice_id": invoice["invoice_id"], "as_of": LATER}
    create_credit_note(amount="5", reason="r", idempotency_key="1", **identified)
    record_payment(payment_id="1", amount="10", **identified)
    # 15 are open and not owed any more, 10 were paid, the rest prepaid credit had paid.
    create_credit_note(reason="all", idempotency_key="2", **identified)

    assert run()["synced"] == 1

    notes = account.account.of("credit_note")
    assert [(one["amount"], one["out_of_band_amount"]) for one in notes] == [
        (500, 0),
        (1500, 0),
        (1000, 1000),
    ]
    assert only(account)["status"] == "paid"
    assert run()["steps"] == 0


def test_a_note_made_while_its_invoice_is_on_its_way_follows_it_at_once(account: Stripe) -> None:
    invoice = finalized()
    real = sync_steps.tell

    def tell(provider: Any, work: Any, *, now: dt.datetime) -> Any:
        if work.todo.step.value == "finalize":
            create_credit_note(
                invoice_id=invoice["invoice_id"],
                amount="5",
                reason="r",
                idempotency_key="1",
                as_of=LATER,
            )
        return real(provider, work, now=now)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sync_steps, "tell", tell)
        assert run()["synced"] == 1

    assert [one["amount"] for one in account.account.of("credit_note")] == [500]
    assert {outcome for _, outcome, _ in tries()} == {"done"}


def test_a_note_begun_a_day_ago_is_looked_for_before_it_is_made(account: Stripe) -> None:
    invoice = finalized()
    run()
    create_credit_note(
        invoice_id=invoice["invoice_id"], amount="5", reason="r", idempotency_key="1", as_of=LATER
    )
    account.account.fail("credit_notes", DO_AND_HANG_UP)
    run()
    account.account.forget_keys()

    assert run(days=2)["synced"] == 1
    assert [one["amount"] for one in account.account.of("credit_note")] == [500]


def test_two_runs_at_once_tell_each_thing_once(
    account: Stripe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_run, "LANES", 2)
    for number in range(9):
        finalized(f"t{number}")
    account.account.pause = 0.02

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: run(), range(4)))
    while run()["steps"]:
        pass

    assert sum(answer["steps"] for answer in answers) == 36
    assert len(account.account.of("invoice")) == len(account.account.of("customer")) == 9
    assert account.account.most_at_once <= sync_run.LANES
    assert len(said("billing.invoice.synced")) == 9


def test_a_run_that_outlived_its_lease_changes_nothing(account: Stripe) -> None:
    finalized()
    real = sync_steps.tell

    def tell(provider: Any, work: Any, *, now: dt.datetime) -> Any:
        answer = real(provider, work, now=now)
        if work.todo.step.value == "finalize":
            query("UPDATE invoice_syncs SET lease_token = gen_random_uuid() RETURNING 1")
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sync_steps, "tell", tell)
        assert run()["lost"] == 1
    assert syncs() == [("running", 0, None)]
    lease_over()
    assert run()["synced"] == 1


def test_a_fault_of_our_own_costs_an_attempt_and_stops_nobody_else(account: Stripe) -> None:
    (broken, _) = (finalized(tenant)["invoice_id"] for tenant in ("a", "b"))
    real = sync_steps.tell

    def tell(provider: Any, work: Any, *, now: dt.datetime) -> Any:
        if str(work.leased.invoice_id) == str(broken):
            raise ValueError("not as it should be")
        return real(provider, work, now=now)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sync_steps, "tell", tell)
        answer = run()

    assert (answer["put_off"], answer["synced"]) == (1, 1)
    assert syncs() == [("pending", 1, "provider.unexpected"), ("synced", 0, None)]
    assert run(minutes=1)["synced"] == 1


def test_a_run_whose_worker_goes_down_ends_what_is_under_way_and_leaves_the_rest(
    account: Stripe,
) -> None:
    for tenant in ("a", "b", "c"):
        finalized(tenant)
    real, goes_down = sync_steps.tell, threading.Event()

    def tell(provider: Any, work: Any, *, now: dt.datetime) -> Any:
        answer = real(provider, work, now=now)
        goes_down.set()
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sync_run, "LANES", 1)
        patch.setattr(sync_steps, "tell", tell)
        patch.setattr(shutdown, "has_begun", goes_down.is_set)
        assert run()["steps"] == 1

    # Nobody waits for a lease to end.
    assert syncs() == [("pending", 0, None)] * 3
    assert sum(run()["synced"] for _ in range(2)) == 3


def test_no_secret_is_in_a_log_a_table_or_an_error(
    account: Stripe, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    other = "sk_live_51OtherSecretKey"
    use_provider(account, secret_key=other)
    finalized("a")
    run()
    # A wrong key is no invoice's fault.
    assert syncs() == [("pending", 1, "provider.invalid_request_error")]
    use_provider(account)
    finalized("b")
    leaks = {"error": {"type": "card_error", "message": f"you sent Bearer {SECRET_KEY} twice"}}
    account.account.fail("invoices", Fault(402, body=leaks))
    account.account.fail("finalize", Fault(503))
    run(minutes=30)

    kept = json.dumps(
        [
            query("SELECT to_jsonb(a) FROM invoice_sync_attempts a"),
            query("SELECT to_jsonb(s) FROM invoice_syncs s"),
            query("SELECT convert_from(body, 'UTF8') FROM outbox_messages"),
        ],
        default=str,
    )
    assert "***" in kept
    for text in (kept, caplog.text, repr(config.current())):
        assert SECRET_KEY not in text
        assert other not in text


def test_what_is_at_the_provider_is_listed_a_page_at_a_time(account: Stripe) -> None:
    made = {tenant: finalized(tenant)["invoice_id"] for tenant in ("a", "b", "c")}
    set_provider_customer(tenant_id="a", remote_id="cus_gone")
    run()
    waits = finalized("d")["invoice_id"]

    def listed(**asked: Any) -> tuple[list[Any], Any]:
        page = list_syncs(**asked)
        return [one["invoice_id"] for one in page["syncs"]], page["next_after"]

    whole = sorted([*made.values(), waits], reverse=True)
    assert listed() == listed(limit=4) == (whole, None)
    assert listed(limit=2) == (whole[:2], whole[1])
    assert listed(limit=2, after=whole[1]) == (whole[2:], None)
    assert listed(tenant_id="b") == ([made["b"]], None)
    assert listed(state="failed") == ([made["a"]], None)
    assert listed(state="pending") == ([waits], None)
    due_at = {one["invoice_id"]: one["due_at"] for one in list_syncs()["syncs"]}
    assert [one for one, at in due_at.items() if at] == [waits], "only what is to be sent is due"


def test_what_has_no_number_is_sent_by_nobody(account: Stripe) -> None:
    subscribe("acme", "2026-01-01")
    draft = generate_monthly_invoice(
        tenant_id="acme", period_start="2026-01-01", period_end="2026-02-01", as_of=LATER
    )
    asked = {"invoice_id": draft["invoice_id"], "as_of": LATER}
    with pytest.raises(Refusal, match="is a draft") as refused:
        retry_sync(**asked)
    assert refused.value.code == "sync.not_numbered"
    end_subscription(tenant_id="acme", plan_key="pro", ended_at="2026-01-01T10:00:00Z")
    finalize_invoice(**asked)

    with pytest.raises(Refusal, match="never numbered") as refused:
        retry_sync(**asked)

    assert refused.value.code == "sync.not_numbered"
    assert syncs() == []
    with pytest.raises(Refusal, match="was never sent") as refused:
        get_sync(invoice_id=draft["invoice_id"])
    assert refused.value.code == "sync.unknown"
    with pytest.raises(Refusal) as refused:
        set_provider_customer(tenant_id="nobody", remote_id="cus_1")
    assert refused.value.code == "tenant.unknown"


def test_attempts_are_facts_that_nothing_changes(account: Stripe) -> None:
    finalized()
    run()

    for change in ("DELETE FROM {}", "UPDATE {} SET status = 1"):
        with pytest.raises(Exception, match="append-only"):
            query(f"{change.format('invoice_sync_attempts')} RETURNING 1")
