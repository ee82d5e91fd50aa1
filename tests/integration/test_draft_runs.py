"""A draft says what its period comes to while usage arrives, and tells when that changes."""

from typing import Any

import pytest
from sqlalchemy import Engine

from models import database
from models.store import due
from models.store.due import Due
from tasks import draft_runs, invoicing
from tasks.aggregation import aggregate_usage
from tasks.draft_runs import refresh_drafts
from tasks.invoice_runs import finalize_invoices, generate_invoices
from tasks.invoices import finalize_invoice
from tasks.usage_voids import void_usage
from tests.integration.billing_world import (
    fee,
    instant,
    make_plan,
    query,
    said,
    subscribe,
    usage_price,
)
from tests.integration.test_late_usage import used

OVER = instant("2026-02-01T00:10:00")
GRACE_OVER = instant("2026-02-02T00:10:00")


def use(tenant_id: str, metric: str, day: str, amount: str) -> str:
    """Record an event and count it, as beat would do within seconds; return its key."""
    key = used(day, amount, tenant_id=tenant_id, metric=metric)
    aggregate_usage(as_of=OVER)
    return key


@pytest.fixture
def acme(db: Engine) -> None:
    """January of acme is a draft of 15.00."""
    make_plan(fee("10"), usage_price("calls", "1"))
    subscribe("acme", "2026-01-01")
    use("acme", "calls", "2026-01-20", "5")
    generate_invoices(as_of=OVER)


def total(tenant_id: str = "acme") -> list[tuple[int, int]]:
    return [
        (row[0], row[1])
        for row in query(
            "SELECT total_minor, version FROM invoices WHERE tenant_id = :tenant_id"
            " ORDER BY period_end",
            tenant_id=tenant_id,
        )
    ]


def waiting(job: str) -> Due:
    with database.transaction() as session:
        return due.by_job(session, now=OVER, closed_by=OVER)[job]


@pytest.mark.usefixtures("acme")
def test_a_draft_is_computed_anew_when_usage_was_counted_and_tells_so() -> None:
    assert refresh_drafts(as_of=OVER) == {"drafts": 0, "failed": 0, "finished": True}

    use("acme", "calls", "2026-01-20", "3")
    assert (total(), waiting("billing.refresh_drafts").waiting) == ([(1500, 1)], 1)
    assert refresh_drafts(as_of=OVER) == {"drafts": 1, "failed": 0, "finished": True}

    assert (total(), waiting("billing.refresh_drafts").waiting) == ([(1800, 2)], 0)
    (told,) = said("billing.invoice.updated")
    assert (told["data"]["total_minor"], told["sequence"]) == (1800, 2)
    assert refresh_drafts(as_of=OVER)["drafts"] == 0
    assert len(said("billing.invoice.updated")) == 1


@pytest.mark.usefixtures("acme")
def test_what_changes_no_amount_tells_nothing() -> None:
    use("acme", "other", "2026-01-20", "8")

    assert refresh_drafts(as_of=OVER)["drafts"] == 1

    assert (total(), said("billing.invoice.updated")) == ([(1500, 1)], [])


@pytest.mark.usefixtures("acme")
def test_what_a_draft_shows_is_billed_once_and_what_comes_after_its_number_is_late() -> None:
    use("acme", "calls", "2026-01-20", "3")
    refresh_drafts(as_of=OVER)

    finalize_invoices(as_of=GRACE_OVER)
    assert query("SELECT count(*) FROM late_usage") == [(0,)]
    use("acme", "calls", "2026-01-20", "1")
    assert refresh_drafts(as_of=GRACE_OVER)["drafts"] == 0

    march = instant("2026-03-01T00:10:00")
    generate_invoices(as_of=march)
    assert total() == [(1800, 3), (1100, 1)]


@pytest.mark.usefixtures("acme")
def test_what_a_draft_does_not_show_yet_is_not_forgotten_with_the_number_of_an_older_one() -> None:
    march = instant("2026-03-01T00:10:00")
    generate_invoices(as_of=march)
    use("acme", "calls", "2026-02-20", "2")
    ((january,), _) = query("SELECT id FROM invoices ORDER BY period_end")
    finalize_invoice(invoice_id=january, as_of=march)

    assert refresh_drafts(as_of=march)["drafts"] == 1

    assert total() == [(1500, 2), (1200, 2)]


@pytest.mark.usefixtures("acme")
def test_late_usage_of_a_numbered_period_comes_onto_a_draft_that_is_there() -> None:
    finalize_invoices(as_of=GRACE_OVER)
    march = instant("2026-03-01T00:10:00")
    generate_invoices(as_of=march)
    assert total() == [(1500, 2), (1000, 1)]

    use("acme", "calls", "2026-01-20", "2")
    assert refresh_drafts(as_of=march)["drafts"] == 1
    assert refresh_drafts(as_of=march)["drafts"] == 0

    assert total() == [(1500, 2), (1200, 2)]
    # Kept until the draft has its number: it may be withdrawn yet.
    assert query("SELECT drawn FROM late_usage") == [(True,)]
    finalize_invoices(as_of=instant("2026-03-02T00:10:00"))
    assert query("SELECT sum(total_minor) FROM invoices") == [(2700,)]
    assert query("SELECT count(*) FROM late_usage") == [(0,)]


@pytest.mark.usefixtures("acme")
def test_usage_that_is_counted_while_a_draft_is_computed_is_looked_at_by_the_next_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use("acme", "calls", "2026-01-20", "3")
    refresh = invoicing.refresh

    def refresh_and_notice_more(session: Any, headers: Any, **given: Any) -> Any:
        with database.engine().begin() as other:
            other.exec_driver_sql(
                "INSERT INTO late_usage (tenant_id, invoice_id) SELECT tenant_id, id FROM invoices"
            )
        return refresh(session, headers, **given)

    with monkeypatch.context() as patched:
        patched.setattr(invoicing, "refresh", refresh_and_notice_more)
        assert refresh_drafts(as_of=OVER)["drafts"] == 1

    assert waiting("billing.refresh_drafts").waiting == 1
    assert refresh_drafts(as_of=OVER)["drafts"] == 1


def test_a_tenant_whose_draft_can_not_be_computed_stops_no_other(
    db: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(draft_runs, "CHUNK", 2)
    make_plan(fee("10"), usage_price("calls", "999999999999"))
    for tenant_id in ("ada", "bad", "cyd"):
        subscribe(tenant_id, "2026-01-01")
    generate_invoices(as_of=OVER)
    amounts = {"ada": "1", "bad": "999999999999999999", "cyd": "1"}
    keys = {each: use(each, "calls", "2026-01-31", amount) for each, amount in amounts.items()}

    assert refresh_drafts(as_of=OVER) == {"drafts": 2, "failed": 1, "finished": True}

    charged = 100_000_000_000_900
    assert [total(each)[0][0] for each in ("ada", "bad", "cyd")] == [charged, 1000, charged]
    assert "'tenant_id': 'bad'" in caplog.text
    void_usage(tenant_id="bad", metric="calls", idempotency_key=keys["bad"], reason="too much")
    aggregate_usage(as_of=OVER)
    assert refresh_drafts(as_of=OVER) == {"drafts": 1, "failed": 0, "finished": True}


def test_runs_at_once_and_one_that_has_no_time_do_no_harm(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_plan(usage_price("calls", "1"))
    for tenant_id in ("ada", "bob"):
        subscribe(tenant_id, "2026-01-01")
        use(tenant_id, "calls", "2026-01-20", "5")
    generate_invoices(as_of=OVER)
    for tenant_id in ("ada", "bob"):
        use(tenant_id, "calls", "2026-01-20", "3")

    with db.begin() as other:
        other.exec_driver_sql("SELECT FROM tenants WHERE tenant_id = 'ada' FOR UPDATE")
        assert refresh_drafts(as_of=OVER)["drafts"] == 1
    assert (total("ada"), total("bob")) == ([(500, 1)], [(800, 2)])

    with monkeypatch.context() as patched:
        patched.setattr(draft_runs, "RUN_SECONDS", 0.0)
        assert refresh_drafts(as_of=OVER) == {"drafts": 0, "failed": 0, "finished": False}
    assert refresh_drafts(as_of=OVER)["drafts"] == 1
    assert total("ada") == [(800, 2)]


@pytest.mark.usefixtures("acme")
def test_late_usage_that_an_invoice_to_come_will_bill_waits_for_nobody() -> None:
    finalize_invoices(as_of=GRACE_OVER)
    use("acme", "calls", "2026-01-20", "3")

    assert waiting("billing.bill_late_usage").waiting == 0
    assert waiting("billing.refresh_drafts").waiting == 0
