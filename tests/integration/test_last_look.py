"""The last look at a draft: cheap where nothing changed, and nothing that did is missed."""

import datetime as dt
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson
import pytest
from sqlalchemy import text

from models import database
from models.rules import ids
from models.rules.billing import Line
from models.rules.period import Period
from models.rules.waterfall import Bill, Discount, Tax
from models.store import drafting, finalizing, invoice, line_rows, subscription_due
from tasks import invoicing
from tasks.aggregation import aggregate_usage
from tasks.invoice_runs import finalize_invoices, generate_invoices
from tasks.usage import record_usage
from tests.integration.billing_world import (
    assert_gapless,
    fee,
    instant,
    make_plan,
    query,
    redeem,
    said,
    subscribe,
    tax,
    usage_price,
    use,
)
from webhooks import events

pytestmark = pytest.mark.usefixtures("db")

CLOSED, OVER = instant("2026-02-01"), instant("2026-02-05")

TIERS = {
    "price_key": "tokens",
    "kind": "usage",
    "metric": "tokens",
    "model": "graduated",
    "params": {"tiers": [{"up_to": "10", "unit_price": "1"}, {"unit_price": "0.5"}]},
    "currency": "USD",
}

ONE = Line(
    kind="usage",
    subscription_id=UUID(int=1),
    price_id=UUID(int=2),
    metric="calls",
    description="Calls",
    quantity=Decimal("1.5"),
    unit_amount=Decimal("0.01"),
    amount_minor=2,
    period=Period(instant("2026-01-01"), CLOSED),
    details={"plan_key": "pro"},
)

OTHERS: dict[str, Any] = {
    "kind": "adjustment",
    "subscription_id": UUID(int=7),
    "price_id": None,
    "metric": None,
    "description": "Tokens",
    "quantity": Decimal("1.51"),
    "unit_amount": None,
    "amount_minor": 3,
    "period": Period(instant("2026-01-02"), CLOSED),
    "details": {"plan_key": "pro", "steps": [{"amount": "1"}]},
    "adjusts": UUID(int=8),
}

COUPON = Discount(UUID(int=3), "tenth", "A tenth", Decimal(10), (1,))
VAT = Tax("vat", "VAT", Decimal(20), inclusive=False, taxable_minor=1, lines_minor=(1,))
PLAIN = Bill((2,))

COUPON_OTHERS: dict[str, Any] = {
    "redemption_id": UUID(int=4),
    "coupon_key": "other",
    "name": "Other",
    "percent": None,
    "lines_minor": (2,),
}

VAT_OTHERS: dict[str, Any] = {
    "tax_key": "other",
    "name": "Other",
    "percent": Decimal(1),
    "inclusive": True,
    "taxable_minor": 2,
    "lines_minor": (2,),
}


def fingerprint(*lines: Line, bill: Bill = PLAIN) -> str:
    (found,) = line_rows.fingerprints([(UUID(int=5), "USD", lines, bill)])
    return found


def contents() -> Iterator[str]:
    """The fingerprints of contents that all differ in one thing from the first."""
    yield fingerprint(ONE)
    yield fingerprint()
    yield fingerprint(ONE, ONE)
    for field in fields(Line):
        yield fingerprint(replace(ONE, **{field.name: OTHERS[field.name]}))
    yield fingerprint(ONE, bill=replace(PLAIN, tax_note="exempt"))
    for bill in bills(COUPON, VAT):
        yield fingerprint(ONE, bill=bill)


def bills(coupon: Discount, vat: Tax) -> Iterator[Bill]:
    yield replace(PLAIN, discounts=(coupon,))
    yield replace(PLAIN, taxes=(vat,))
    for name, value in COUPON_OTHERS.items():
        yield replace(PLAIN, discounts=(replace(coupon, **{name: value}),))
    for name, value in VAT_OTHERS.items():
        yield replace(PLAIN, taxes=(replace(vat, **{name: value}),))


def test_whatever_differs_in_anything_has_another_fingerprint() -> None:
    found = list(contents())

    for kind, others in ((Line, OTHERS), (Discount, COUPON_OTHERS), (Tax, VAT_OTHERS)):
        assert {field.name for field in fields(kind)} == others.keys()
    assert len(set(found)) == len(found)
    assert fingerprint(replace(ONE, details={"plan_key": "pro"})) == found[0]


def rich() -> None:
    """A tenant whose invoice has everything: a fee, a plain line, tiers, a coupon and taxes."""
    make_plan(fee("10"), usage_price("calls", "0.0125"), TIERS)
    make_plan(usage_price("calls", "0.0125"), plan_key="plain")
    for tenant_id, plan_key in (("acme", "pro"), ("beta", "plain")):
        subscribe(tenant_id, "2026-01-01", plan_key=plan_key)
        use(tenant_id, "calls", "2026-01-20", "100")
        use(tenant_id, "tokens", "2026-01-20", "25")
    redeem("acme", "tenth", percent="10", duration="forever")
    tax("acme", ("vat", "20"))


def refreshed() -> list[drafting.Drafted]:
    """Every draft, computed again."""
    with database.transaction() as session:
        found = session.execute(invoice.SELECT.order_by(text("tenant_id")))
        headers = [invoice.read(row) for row in found]
        return invoicing.refresh(session, headers, now=OVER)


def test_a_draft_that_is_computed_again_has_the_fingerprint_that_is_stored() -> None:
    rich()
    generate_invoices(as_of=CLOSED)

    again = refreshed()

    content = [(one.header.id, "USD", one.lines, one.bill) for one in again]
    assert [len(one.lines) for one in again] == [3, 1]
    assert again[0].bill.discounts
    assert again[0].bill.taxes
    assert query("SELECT fingerprint FROM invoices ORDER BY tenant_id") == [
        (found,) for found in line_rows.fingerprints(content)
    ]
    with database.transaction() as session:
        assert drafting.get_all(session, [one.header for one in again]) == again


@pytest.mark.parametrize("forgotten", [False, True])
def test_a_draft_of_which_nothing_changed_gets_its_number_and_no_other_event(
    forgotten: bool,
) -> None:
    rich()
    generate_invoices(as_of=CLOSED)
    if forgotten:  # as of drafts from before there were fingerprints
        with database.transaction() as session:
            session.execute(text("UPDATE invoices SET fingerprint = NULL"))

    finalize_invoices(as_of=OVER)

    assert said("billing.invoice.updated") == []
    assert [one["sequence"] for one in said("billing.invoice.finalized")] == [2, 2]
    assert_gapless()


def test_what_a_worker_without_fingerprints_made_of_a_draft_is_noticed() -> None:
    """The release before writes lines and figures, and leaves the fingerprint as it was."""
    rich()
    generate_invoices(as_of=CLOSED)
    with database.transaction() as session:
        session.execute(
            text("""
            UPDATE invoice_lines SET quantity = 200, amount_minor = 250
            WHERE metric = 'calls' AND invoice_id IN
                (SELECT id FROM invoices WHERE tenant_id = 'beta')
        """)
        )
        session.execute(
            text("""
            UPDATE invoices SET subtotal_minor = 250, total_minor = 250, amount_due_minor = 250,
                                version = version + 1
            WHERE tenant_id = 'beta'
        """)
        )

    finalize_invoices(as_of=OVER)

    (told,) = said("billing.invoice.updated")
    assert (told["tenant_id"], told["data"]["total_minor"]) == ("beta", 125)
    assert query("""
        SELECT total_minor, sum(amount_minor) FROM invoices
        JOIN invoice_lines ON invoice_id = invoices.id WHERE tenant_id = 'beta' GROUP BY 1
    """) == [(125, 125)]


def test_a_draft_that_has_a_line_is_not_withdrawn_whoever_believes_it_is_empty() -> None:
    """Even if the line costs nothing: it says that the metric was looked at."""
    make_plan(usage_price("calls", "1"))
    subscribe("acme", "2026-01-01")
    generate_invoices(as_of=CLOSED)
    with database.transaction() as session:
        (header,) = [invoice.read(row) for row in session.execute(invoice.SELECT)]
        finalizing.drop(session, [header], now=OVER)

    assert query("SELECT state, version FROM invoices") == [("draft", 1)]


def test_each_change_of_a_draft_is_told_once_and_is_on_its_number() -> None:
    rich()
    generate_invoices(as_of=CLOSED)
    use("beta", "calls", "2026-01-21", "100")
    tax("beta", ("vat", "20"))

    refreshed()
    refreshed()
    finalize_invoices(as_of=OVER)

    (updated,) = said("billing.invoice.updated")
    assert (updated["tenant_id"], updated["data"]["total_minor"]) == ("beta", 300)
    totals = [one["data"]["total_minor"] for one in said("billing.invoice.finalized")]
    assert totals == [3104, 300]


def test_usage_that_is_counted_beside_the_making_of_a_draft_is_on_its_number() -> None:
    """A roll-up that can not see the draft yet leaves no trace of it."""
    make_plan(usage_price("calls", "1"))
    subscribe("acme", "2026-01-01")
    made, counted = threading.Event(), threading.Event()

    def draft() -> None:
        with database.transaction() as session:
            timezones = subscription_due.claim_due_tenants(session, now=CLOSED, limit=1)
            assert len(invoicing.invoice_due(session, timezones, now=CLOSED)) == 1
            made.set()
            assert counted.wait(30)

    def count() -> None:
        assert made.wait(30)
        try:
            record_usage(
                tenant_id="acme", metric="calls", amount="8", idempotency_key="late",
                at="2026-01-31T12:00:00Z", as_of=CLOSED,
            )  # fmt: skip
            aggregate_usage(as_of=CLOSED)
        finally:
            counted.set()

    with ThreadPoolExecutor(2) as pool:
        for running in [pool.submit(draft), pool.submit(count)]:
            running.result()
    assert query("SELECT total_minor FROM invoices") == [(0,)]
    assert query("SELECT count(*) FROM late_usage") == [(0,)]

    finalize_invoices(as_of=OVER)

    assert query("SELECT state, total_minor FROM invoices") == [("finalized", 800)]


def test_what_is_told_of_invoices_is_byte_for_byte_what_python_would() -> None:
    rich()
    subscribe('say "hi"\\ 料金', "2026-01-10T10:00", plan_key="plain", timezone="Asia/Kathmandu")
    generate_invoices(as_of=CLOSED)
    use("beta", "calls", "2026-01-21", "100")
    finalize_invoices(as_of=OVER + dt.timedelta(microseconds=1))

    rows = query("""
        SELECT id, type, tenant_id, sequence, created_at, body, truncated FROM outbox_messages
        WHERE type LIKE 'billing.invoice.%' ORDER BY id
    """)
    assert [kind.rpartition(".")[2] for _, kind, *_ in rows] == [
        *["created"] * 3, "updated", *["finalized"] * 3, "paid",
    ]  # fmt: skip
    for message_id, topic, tenant_id, sequence, told_at, body, truncated in rows:
        event = events.CATALOGUE[topic].model_validate(orjson.loads(body)["data"])
        written = events.serialise(
            event,
            message_id=ids.event_id(message_id),
            tenant_id=tenant_id,
            sequence=sequence,
            timestamp=told_at,
        )
        assert (bytes(body), truncated) == (written.content, written.truncated)
        assert getattr(event, "tenant_id") == tenant_id  # noqa: B009 (of all these topics)
