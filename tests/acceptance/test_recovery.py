"""The recovery recipes of docs/operations.md, command by command, each after its disaster."""

import datetime as dt
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from models import database
from tasks.aggregation import aggregate_usage
from tasks.catalog import set_product
from tasks.credits import add_credits, consume_quota
from tasks.delivery import deliver_webhooks
from tasks.invoices import finalize_invoice, generate_monthly_invoice
from tasks.payments import record_payment
from tests.acceptance.recipes import Recipe, shell
from tests.integration.billing_world import (
    assert_gapless,
    assert_reconciled,
    make_plan,
    query,
    subscribe,
    usage_price,
    use,
)
from tests.integration.command import Command
from tests.integration.outbox_world import emit, execute, states
from tests.integration.outbox_world import subscribe as listen
from tests.receiver import Answer, Received, receiver
from webhooks.keyring import new_master_key

pytestmark = pytest.mark.slow

JANUARY = {"period_start": "2026-01-01", "period_end": "2026-02-01"}
RESTORED = "billing_restored"
TOPICS = ["billing.quota_consumed"]
FINE = Answer(body=b"fine")


@pytest.fixture
def billing(
    db: Engine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    database_url: str,
) -> Command:
    """The command, with keys to sign webhooks with and the right to send them to this machine."""
    monkeypatch.setenv("BILLING_MASTER_KEYS", new_master_key("test"))
    monkeypatch.setenv("BILLING_WEBHOOK_ALLOW_HTTP", "true")
    monkeypatch.setenv("BILLING_WEBHOOK_PRIVATE_HOSTS", "127.0.0.0/8")
    ran = Command(monkeypatch, capsys, database_url)
    ran("endpoint", "list")  # from here on tasks obey the same settings as the command
    return ran


@pytest.fixture
def recipe(billing: Command, checkout: Path) -> Recipe:
    return Recipe(checkout / "docs" / "operations.md", billing)


def invoices(tenant_id: str) -> list[tuple[str, str, int]]:
    """A tenant's invoices: state, number, total."""
    return query(
        "SELECT state, number, total_minor FROM invoices WHERE tenant_id = :who ORDER BY id",
        who=tenant_id,
    )


def draft_of(tenant_id: str) -> str:
    [(found,)] = query(
        "SELECT id FROM invoices WHERE tenant_id = :who AND state = 'draft'", who=tenant_id
    )
    return str(found)


def test_a_wrong_price_is_mended_on_invoices_that_are_out(recipe: Recipe) -> None:
    make_plan(usage_price("calls", "0.50"))
    for tenant_id in ("acme", "berg"):
        subscribe(tenant_id, "2026-01-01")
        use(tenant_id, "calls", "2026-01-15", "200")
        made = generate_monthly_invoice(tenant_id=tenant_id, **JANUARY)
        finalize_invoice(invoice_id=made["invoice_id"])
    record_payment(invoice_id=made["invoice_id"], payment_id="bank-1", amount="100.00")
    assert invoices("acme") == [("finalized", "INV-000001", 10_000)]

    recipe.run("price-mend")
    recipe.run("price-unpaid", INVOICE=lambda: draft_of("acme"))
    recipe.run("price-paid")

    assert invoices("acme") == [
        ("void", "INV-000001", 10_000),
        ("finalized", "INV-000003", 1_000),
    ]
    assert invoices("berg") == [("paid", "INV-000002", 10_000)]
    # What berg paid and what it got back differ by what the right price comes to.
    assert query("SELECT total_minor, reduced_minor FROM credit_notes") == [(9_000, 0)]
    assert_reconciled()
    assert_gapless()


def test_a_storm_at_an_endpoint_is_stopped_and_everything_arrives_after_it(
    recipe: Recipe,
) -> None:
    since = dt.datetime.now(dt.UTC).isoformat()
    with receiver(Answer(status=500)) as broken, receiver(FINE) as neighbour:
        endpoint = listen(broken, topics=TOPICS)["endpoint_id"]
        listen(neighbour, tenant_id=None, topics=TOPICS)
        told = emit(count=12)
        deliver_webhooks()
        spent = len(broken.requests)

        recipe.run("storm-stop", ENDPOINT=endpoint)
        told += emit(count=3)
        deliver_webhooks()

        # Its neighbour has everything, and it was asked no more since its circuit opened.
        assert sorted(set(neighbour.ids)) == sorted(told)
        assert len(broken.requests) == spent < len(told)
        execute(
            database.engine(),
            "UPDATE deliveries SET state = 'dead' WHERE id = (SELECT min(id) FROM "
            "deliveries WHERE state = 'held')",
        )
        with receiver(FINE) as mended:
            execute(
                database.engine(),
                "UPDATE endpoints SET url = :url WHERE id = :id",
                url=mended.url,
                id=endpoint,
            )
            said = recipe.run("storm-go", SINCE=since)
            deliver_webhooks()

            assert sorted(mended.ids) == sorted(told)
    assert said[1:] == ["would send again: 1\n", "sent again: 1\n"]
    assert set(states(database.engine())) == {"delivered"}


@pytest.fixture
def restored(db: Engine, recipe: Recipe, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The addresses that the recipe fills in; the restored database is dropped in the end."""
    url = db.url.set(drivername="postgresql")
    whole = url.render_as_string(hide_password=False)
    addresses = {
        "DATABASE_URL": whole,
        "RESTORED_URL": url.set(database=RESTORED).render_as_string(hide_password=False),
        "BACKUP": str(tmp_path / "billing.dump"),
        "KEPT": str(tmp_path / "kept.jsonl"),
    }
    recipe.values |= addresses
    yield addresses
    database.dispose()
    shell('dropdb --if-exists --force --maintenance-db="$DATABASE_URL" billing_restored', addresses)


def test_postgresql_of_yesterday_catches_up_with_what_others_kept(
    recipe: Recipe,
    billing: Command,
    restored: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_plan(usage_price("calls", "0.05"))
    subscribe("acme", "2026-01-01")
    set_product(product_key="CALLS", name="Calls", type="quantity")
    with receiver(FINE) as peer:
        listen(peer)
        grant = {"product_key": "CALLS", "amount": "100", "idempotency_key": "grant-1"}
        add_credits(tenant_id="acme", **grant)
        keep(restored, usage(range(10)))
        recipe.run("restore-usage")
        recipe.run("backup")
        # The day after the dump: more usage, a use of credit, an invoice; all of it is told.
        keep(restored, usage(range(10, 25)))
        recipe.run("restore-usage")
        consume_quota(tenant_id="acme", product_key="CALLS", amount="30", idempotency_key="use-1")
        aggregate_usage()
        made = generate_monthly_invoice(tenant_id="acme", **JANUARY)
        finalize_invoice(invoice_id=made["invoice_id"])
        deliver_webhooks()
        was, told = facts(), list(peer.requests)

        recipe.run("restore")
        switch(monkeypatch, restored["RESTORED_URL"])
        recipe.run("restore-check")
        assert facts() != was
        keep(restored, usage(range(25)))
        [summary] = recipe.run("restore-usage")
        recipe.run("restore-command")
        recipe.run("restore-command")
        recipe.run("restore-invoices", INVOICE=lambda: draft_of("acme"))
        recipe.run("restore-prove")
        deliver_webhooks()

    assert facts() == was
    assert_reconciled()
    assert re.search(r"15\b.*accepted|accepted.*15\b", summary, re.DOTALL), summary
    again = peer.requests[len(told) :]
    assert_told_apart(told, again)


def assert_told_apart(told: list[Received], again: list[Received]) -> None:
    """What the dump knew comes with the same id and bytes, the rest under a new id."""
    before = {one.id: one.body for one in told}
    same = [one for one in again if one.id in before]
    new = [one for one in again if one.id not in before]
    assert same
    assert all(before[one.id] == one.body for one in same)
    assert {said(one) for one in new} <= {said(one) for one in told}
    assert any(what == "billing.invoice.finalized" for what, _ in map(said, new))


def said(one: Received) -> tuple[str, str]:
    """What an event says, without the ids that were made here: what a subscriber compares."""
    data = one.event["data"]
    natural = {
        name: data[name]
        for name in ("metric", "day_start", "total", "number", "total_minor", "idempotency_key")
        if name in data
    }
    return one.event["type"], json.dumps(natural, sort_keys=True)


def usage(numbers: range) -> list[dict[str, Any]]:
    """Events as a producer keeps them."""
    return [
        {
            "tenant_id": "acme",
            "metric": "calls",
            "amount": str(100 + number),
            "at": f"2026-01-{1 + number:02d}T12:00:00Z",
            "idempotency_key": f"call-{number}",
        }
        for number in numbers
    ]


def keep(addresses: dict[str, str], events: list[dict[str, Any]]) -> None:
    Path(addresses["KEPT"]).write_text("".join(json.dumps(one) + "\n" for one in events))


def switch(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Point everything at another database, as an operator does."""
    monkeypatch.setenv("DATABASE_URL", url)
    database.configure(database.Options(url=url))


def facts() -> dict[str, list[Any]]:
    """What the books say, without the ids that were made here."""
    return {
        "events": query("SELECT idempotency_key, amount, at FROM usage_events ORDER BY 1"),
        "days": query(
            "SELECT period_start, granularity, total FROM usage_aggregates ORDER BY 1, 2"
        ),
        "balances": query("SELECT product_key, balance FROM credit_balances ORDER BY 1"),
        "entries": query("SELECT action, amount, balance_after FROM ledger_entries ORDER BY id"),
        "invoices": invoices("acme"),
    }
