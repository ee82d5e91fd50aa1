"""Many at once, and processes that are killed: one winner, every cent once, no number lost."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine

from models.rules.refusal import Refusal
from tasks import invoice_runs
from tasks.credit_notes import create_credit_note
from tasks.credit_upkeep import audit
from tasks.credits import consume_quota, get_balance
from tasks.invoice_runs import finalize_invoices, generate_invoices
from tasks.invoices import finalize_invoice, generate_monthly_invoice, get_invoice
from tasks.payments import record_payment
from tasks.unpaid import void_invoice, write_off_invoice
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
)
from tests.integration.test_credit_crashes import (
    begin,
    die_after_commit,
    die_before,
    die_before_commit,
    ends_by_kill,
    was_killed,
)
from tests.integration.test_tasks_twice import contents

LATER = instant("2026-12-31")
MOST_STATEMENTS = 80


def draft(tenant_id: str = "acme") -> Any:
    """100.00 and 20 % on top."""
    make_plan(fee("100"))
    subscribe(tenant_id, "2026-01-01")
    tax(tenant_id, ("vat", "20"))
    return generate_monthly_invoice(
        tenant_id=tenant_id, period_start="2026-01-01", period_end="2026-02-01", as_of=LATER
    )


def finalized(tenant_id: str = "acme") -> Any:
    return finalize_invoice(invoice_id=draft(tenant_id)["invoice_id"], as_of=LATER)


def at_once(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """What calls answer that begin at the same instant; a refusal by its code."""
    gate = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        gate.wait()
        try:
            return call()
        except Refusal as refusal:
            return refusal.code

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def pay(invoice: Any, amount: str, payment_id: str, **more: Any) -> Callable[[], Any]:
    return lambda: record_payment(
        invoice_id=invoice["invoice_id"],
        amount=amount,
        payment_id=payment_id,
        as_of=LATER,
        **more,
    )


def finalize(invoice: Any) -> Callable[[], Any]:
    return lambda: finalize_invoice(invoice_id=invoice["invoice_id"], as_of=LATER)


def void(invoice: Any) -> Callable[[], Any]:
    return lambda: void_invoice(invoice_id=invoice["invoice_id"], reason="r", as_of=LATER)


@pytest.mark.parametrize("turn", range(5))
def test_of_payment_void_and_write_off_one_moves_the_invoice(db: Engine, turn: int) -> None:
    invoice = finalized()
    calls = [
        pay(invoice, "120", "p1"),
        void(invoice),
        pay(invoice, "120", "p2"),
        lambda: write_off_invoice(invoice_id=invoice["invoice_id"], reason="r"),
    ]

    at_once(calls[turn % 4 :] + calls[: turn % 4])

    state = get_invoice(invoice_id=invoice["invoice_id"])["state"]
    paid = query("SELECT count(*) FROM payments") == [(1,)]
    assert (state == "paid") == paid
    assert state in {"paid", "void"}
    told = Counter(
        topic for (topic,) in query("SELECT type FROM outbox_messages WHERE type ~ 'paid|void'")
    )
    assert told == {"billing.invoice.paid" if paid else "billing.invoice.voided": 1}
    assert_reconciled()


def test_finalization_and_what_follows_at_once_leave_one_history(db: Engine) -> None:
    invoice = draft()

    at_once(
        [
            finalize(invoice),
            lambda: finalize_invoices(as_of=LATER),
            pay(invoice, "120", "p1"),
            void(invoice),
            finalize(invoice),
        ]
    )

    after = get_invoice(invoice_id=invoice["invoice_id"])
    assert after["number"] == "INV-000001"
    assert after["state"] in {"finalized", "paid", "void"}
    assert len(said("billing.invoice.finalized")) == 1
    assert_gapless()
    assert_reconciled()


def test_eight_payments_at_once_never_pay_more_than_is_due(db: Engine) -> None:
    invoice = finalized()
    make_prepaid()

    answers = at_once([pay(invoice, "50", f"p{number}") for number in range(8)])
    over = at_once([pay(invoice, "50", f"q{number}", excess="credit") for number in range(4)])

    assert answers.count("payment.exceeds_due") == 6
    assert sum(answer["excess_minor"] for answer in over) == 18_000
    found = get_invoice(invoice_id=invoice["invoice_id"])
    assert (found["state"], found["paid_minor"]) == ("paid", 12_000)
    assert get_balance(tenant_id="acme", product_key="MONEY", as_of=LATER)["available"] == "180"
    assert_reconciled()
    assert audit()["ok"]


def test_one_payment_id_for_two_invoices_at_once_is_entered_for_one(db: Engine) -> None:
    invoices = [finalized(f"tenant-{number}") for number in range(6)]

    answers = at_once([pay(invoice, "120", "the-one") for invoice in invoices])

    assert answers.count("payment.conflict") == 5
    assert query("SELECT count(*) FROM invoices WHERE state = 'paid'") == [(1,)]
    assert_reconciled()


def test_credit_notes_at_once_never_exceed_the_invoice(db: Engine) -> None:
    invoice = finalized()

    def credit(number: int) -> Callable[[], Any]:
        return lambda: create_credit_note(
            invoice_id=invoice["invoice_id"],
            reason="r",
            amount="50",
            idempotency_key=f"k{number}",
            as_of=LATER,
        )

    answers = at_once([credit(number) for number in range(8)])

    assert answers.count("credit_note.exceeds_billed") == 6
    assert query("SELECT credited_minor FROM invoices") == [(10_000,)]
    assert_gapless()
    assert_reconciled()


def test_credit_is_spent_once_by_invoices_and_calls_at_once(db: Engine) -> None:
    make_prepaid()
    invoices = [draft(f"tenant-{number}") for number in range(3)]
    for number in range(3):
        top_up(f"tenant-{number}", "70")

    def spend(number: int) -> Callable[[], Any]:
        return lambda: consume_quota(
            tenant_id=f"tenant-{number}",
            product_key="MONEY",
            amount="30",
            idempotency_key="spend",
            as_of=LATER,
        )

    at_once(
        [spend(number) for number in range(3)]
        + [lambda: finalize_invoices(as_of=LATER)] * 2
        + [finalize(one) for one in invoices]
    )

    for tenant_id, credit_minor in query("SELECT tenant_id, credit_minor FROM invoices"):
        assert credit_minor in {4_000, 7_000}, tenant_id
    assert audit()["ok"]
    assert_gapless()


CALLS: dict[str, Callable[[Any], Any]] = {
    "finalize": lambda world: finalize_invoice(invoice_id=world["draft"], as_of=LATER),
    "pay": lambda world: record_payment(
        invoice_id=world["invoice"],
        payment_id="p",
        amount="150",
        excess="credit",
        as_of=LATER,
    ),
    "void": lambda world: void_invoice(invoice_id=world["invoice"], reason="r", as_of=LATER),
    "credit note": lambda world: create_credit_note(
        invoice_id=world["invoice"],
        reason="r",
        idempotency_key="k",
        refund="credit",
        as_of=LATER,
    ),
    "redeem": lambda _: redeem("newcomer", "TEN"),
}


@pytest.fixture
def world(db: Engine) -> dict[str, str]:
    """A draft that coupon and credit are on, and an invoice that credit paid part of."""
    make_prepaid()
    found = {"draft": draft("one")["invoice_id"]}
    top_up("one", "30")
    top_up("two", "30")
    redeem("one", "TEN", percent="10")
    found["invoice"] = finalized("two")["invoice_id"]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_dying_between_statements_and_before_the_commit_leaves_nothing(
    db: Engine, world: dict[str, str], name: str
) -> None:
    before = contents(db)

    assert ends_by_kill(die_before_commit, lambda: CALLS[name](world))
    assert contents(db) == before
    # Not each of them: a fork takes a while, and one transaction is all or nothing anywhere.
    for number in range(0, MOST_STATEMENTS, 6):
        if not ends_by_kill(die_before(number), lambda: CALLS[name](world)):
            break
        assert contents(db) == before
    else:
        pytest.fail(f"{name} needs more than {MOST_STATEMENTS} statements")

    assert number >= 6
    assert contents(db) != before
    assert_gapless()
    assert_reconciled()
    assert audit()["ok"]


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_dying_after_the_commit_leaves_all_and_the_call_comes_again(
    db: Engine, world: dict[str, str], name: str
) -> None:
    assert ends_by_kill(die_after_commit, lambda: CALLS[name](world))
    done = contents(db)

    CALLS[name](world)

    assert contents(db) == done


@pytest.mark.slow
def test_killed_finalizers_lose_no_number_and_no_credit(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invoice_runs, "DRAFTS", 3)
    make_prepaid()
    make_plan(fee("100"))
    tenants = 24
    for number in range(tenants):
        subscribe(f"tenant-{number:02d}", "2026-01-01")
        top_up(f"tenant-{number:02d}", "30")
    generate_invoices(as_of=instant("2026-02-01"))

    for pair in ((5, 25), (40, 12), (50, 70)):
        children = [
            begin(die_before(statements), lambda: finalize_invoices(as_of=LATER))
            for statements in pair
        ]
        for child in children:
            assert was_killed(child)
        assert_gapless()
    ((numbered,),) = query("SELECT count(*) FROM invoices WHERE number IS NOT NULL")
    assert 0 < numbered < tenants
    finalize_invoices(as_of=LATER)

    assert_gapless()
    assert_reconciled()
    assert audit()["ok"]
    assert query("SELECT DISTINCT credit_minor, state FROM invoices") == [(3_000, "finalized")]
    told = [event["data"]["number"] for event in said("billing.invoice.finalized")]
    assert sorted(told) == [f"INV-{number:06d}" for number in range(1, tenants + 1)]
