"""What a scrape tells of the whole system is what stands in the database and the broker."""

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from prometheus_client import generate_latest
from redis import Redis
from sqlalchemy import Engine, text

from models import database
from models.catalog import ProductType
from models.store import due
from tasks import metrics
from tasks.aggregation import aggregate_usage
from tasks.catalog import set_product
from tasks.credit_upkeep import expire_batches
from tasks.credits import add_credits
from tasks.invoice_runs import generate_invoices
from tasks.queues import Queue
from tasks.usage import record_usage
from tests.integration.billing_world import fee, instant, make_plan, subscribe
from tests.processes import free_port
from worker import app, standing
from worker.metrics import collected

OPENED = instant("2026-02-01T00:00:00")
NOW = instant("2026-03-01T01:00:00")


def scraped(broker_url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    monkeypatch.setattr(app.conf, "broker_url", broker_url)
    monkeypatch.setattr(app.conf, "broker_read_url", broker_url)
    told = generate_latest(collected(None, standing.Standing(app, now=lambda: NOW))).decode()
    lines = [line.rsplit(" ", 1) for line in told.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def test_each_backlog_is_told_by_its_job_with_its_age(
    db: Engine, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_product(product_key="CALLS", name="Calls", type=ProductType.quantity, as_of=OPENED)
    add_credits(
        tenant_id="acme",
        product_key="CALLS",
        amount=Decimal(5),
        expires_at=NOW - dt.timedelta(minutes=2),
        idempotency_key="g",
        as_of=OPENED,
    )
    make_plan(fee("10"))
    subscribe("acme", "2026-02-01", currency="USD", as_of=OPENED)
    event: Any = {"tenant_id": "acme", "metric": "api", "amount": 1, "idempotency_key": "a"}
    record_usage(**event, at=instant("2026-02-03T00:00:00"), as_of=NOW)

    found = scraped(broker_url, monkeypatch)

    assert found["billing_database_up"] == found["billing_broker_up"] == 1
    assert found['billing_job_due{job="billing.generate_invoices"}'] == 1
    assert found['billing_job_overdue_seconds{job="billing.generate_invoices"}'] == 3600
    assert found['billing_job_due{job="billing.expire_batches"}'] == 1
    assert found['billing_job_overdue_seconds{job="billing.expire_batches"}'] == 120
    assert found['billing_job_due{job="billing.aggregate_usage"}'] == 1
    assert found["billing_touched_days"] == 1
    assert 'billing_job_overdue_seconds{job="billing.aggregate_usage"}' not in found
    assert found["billing_outbox_pending"] > 0
    generate_invoices(as_of=NOW)
    aggregate_usage(as_of=NOW)
    expire_batches(as_of=NOW)
    found = scraped(broker_url, monkeypatch)
    for job in ("generate_invoices", "expire_batches"):
        assert found[f'billing_job_due{{job="billing.{job}"}}'] == 0
        assert found[f'billing_job_overdue_seconds{{job="billing.{job}"}}'] == 0


def test_a_draft_is_due_when_its_grace_is_over(db: Engine) -> None:
    make_plan(fee("10"))
    subscribe("acme", "2026-02-01", currency="USD", as_of=OPENED)
    generate_invoices(as_of=NOW)

    def drafts(closed_by: dt.datetime) -> int:
        with database.transaction() as session:
            found = due.by_job(session, now=NOW, closed_by=closed_by)
        return found["billing.finalize_invoices"].waiting

    assert drafts(NOW - dt.timedelta(hours=2)) == 0
    assert drafts(NOW) == 1


def test_messages_in_the_queues_are_counted(
    db: Engine, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Redis.from_url(broker_url) as client:
        client.lpush(Queue.webhooks.value, "a", "b")
        try:
            found = scraped(broker_url, monkeypatch)
        finally:
            client.delete(Queue.webhooks.value)

    assert found['billing_queue_messages{queue="webhooks"}'] == 2
    assert found['billing_queue_messages{queue="usage"}'] == 0


def test_a_server_that_is_away_is_a_figure_and_costs_the_others_nothing(
    db: Engine, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = scraped(f"redis://127.0.0.1:{free_port()}/0", monkeypatch)
    assert (found["billing_broker_up"], found["billing_database_up"]) == (0, 1)
    assert not any(name.startswith("billing_queue") for name in found)

    url = f"postgresql://nobody@127.0.0.1:{free_port()}/none"
    database.configure(database.Options(url=url))
    found = scraped(broker_url, monkeypatch)
    assert (found["billing_broker_up"], found["billing_database_up"]) == (1, 0)
    assert "billing_outbox_pending" not in found


def test_all_that_is_told_is_in_the_list_and_the_list_is_told(
    db: Engine, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {name.split("{")[0] for name in scraped(broker_url, monkeypatch)}

    names = {gauge.name for gauge in standing.ALL}
    assert found - names == set()
    assert names - found <= {standing.STREAMED.name, standing.OVERDUE.name}


def test_events_and_invoices_are_counted_once_they_are_committed(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[tuple[str, float, dict[str, str]]] = []
    monkeypatch.setattr(
        "tasks.metrics._listener",
        lambda metric, amount, labels: heard.append((metric.name, amount, dict(labels))),
    )
    make_plan(fee("10"))
    for tenant_id in ("acme", "bolt"):
        subscribe(tenant_id, "2026-02-01", currency="USD", as_of=OPENED)
    generate_invoices(as_of=NOW)

    drafts = [
        amount
        for name, amount, labels in heard
        if (name, labels) == (metrics.INVOICES.name, {"state": "draft"})
    ]
    assert sum(drafts) == 2
    topics = [labels["topic"] for name, _, labels in heard if name == metrics.EVENTS.name]
    assert topics.count("billing.subscription_set") == 2
    with db.connect() as connection:
        written = connection.execute(text("SELECT count(*) FROM outbox_messages")).scalar_one()
    counted = sum(amount for name, amount, _ in heard if name == metrics.EVENTS.name)
    assert counted == written
