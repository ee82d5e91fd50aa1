"""Whether everything a system holds and has sent is exactly what the story says."""

import itertools
import json
from collections import defaultdict
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from models.rules import ids
from tasks.credit_upkeep import audit
from tests.acceptance import story
from tests.acceptance.story import OPERATOR, TENANTS, Story
from tests.acceptance.system import System

CLOSE_SECONDS = 200.0
DELIVER_SECONDS = 200.0
"""Limits, for a machine that is busy with something else; it takes a few."""

UNDELIVERED = """
    SELECT (SELECT count(*) FROM outbox_pending)
         + (SELECT count(*) FROM deliveries WHERE state <> 'delivered')
"""


def open_accounts(system: System) -> None:
    """Introduce everything, and an endpoint for each tenant and for the operator."""
    system.producer.send_all(list(story.opening()), at_once=1)
    _endpoint(system, OPERATOR, topics=["*"], operator=True)
    for tenant in TENANTS:
        path = f"/{tenant.tenant_id}"
        _endpoint(system, path, topics=[tenant.topic], tenant_id=tenant.tenant_id)


def is_closed(system: System) -> bool:
    """Tell whether every tenant has its number on an invoice, and nothing waits to be counted."""
    [(finalized,)] = system.query("SELECT count(*) FROM invoices WHERE state = 'finalized'")
    [(waiting,)] = system.query("SELECT count(*) FROM usage_touched_days")
    [(expired,)] = system.query("SELECT count(*) FROM ledger_entries WHERE action = 'expire'")
    done: bool = finalized >= len(TENANTS) and not waiting and expired >= len(TENANTS)
    return done


def await_deliveries(system: System) -> None:
    """Wait until every event has arrived everywhere."""
    system.wait(lambda: system.query(UNDELIVERED) == [(0,)], within=DELIVER_SECONDS)


def assert_exact(system: System, told: Story) -> None:
    """Check every figure, and every delivery."""
    assert_usage(system, told)
    _assert_invoices(system, told)
    _assert_credit(system)
    _assert_announced(system)
    assert_delivered(system)


def assert_usage(system: System, told: Story) -> None:
    """Each event is stored once, and each day's total is the sum of its events."""
    rows = system.query("SELECT tenant_id, metric, idempotency_key, amount, at FROM usage_events")
    stored = {(tenant, metric, key): (amount, at) for tenant, metric, key, amount, at in rows}
    assert len(rows) == len(stored)
    assert stored == told.events
    assert system.query("SELECT count(*) FROM usage_touched_days") == [(0,)]
    totals = system.query("""
        SELECT tenant_id, metric, period_start, total FROM usage_aggregates
        WHERE granularity = 'day'
    """)
    zones = {tenant.tenant_id: ZoneInfo(tenant.timezone) for tenant in TENANTS}
    found = {
        (tenant, metric, start.astimezone(zones[tenant]).date()): total
        for tenant, metric, start, total in totals
    }
    assert found == dict(told.daily)


def assert_delivered(system: System) -> None:
    """Every event came, under its id, to every endpoint that wants it and to no other."""
    report = system.subscriber.report()
    assert report["verified"] == report["requests"] > 0, report
    assert report["refused"] == report["strangers"] == 0, report
    messages = system.query("SELECT id, type, tenant_id FROM outbox_messages")
    topics = {f"/{tenant.tenant_id}": tenant.topic for tenant in TENANTS}
    wanted = {(OPERATOR, ids.event_id(message_id)) for message_id, _, _ in messages} | {
        (f"/{tenant_id}", ids.event_id(message_id))
        for message_id, topic, tenant_id in messages
        if _matches(topics[f"/{tenant_id}"], topic)
    }
    assert system.subscriber.received() == wanted
    states = system.query("SELECT state, count(*) FROM deliveries GROUP BY state")
    assert states == [("delivered", len(wanted))]


def _assert_invoices(system: System, told: Story) -> None:
    """One invoice a tenant, with the exact lines, numbered without a gap."""
    headers = system.query("""
        SELECT tenant_id, id, state, currency, period_start, period_end, total_minor, number
        FROM invoices ORDER BY number
    """)
    assert [row[0] for row in sorted(headers)] == sorted(one.tenant_id for one in TENANTS)
    assert [row[7] for row in headers] == [
        f"INV-{number:06d}" for number in range(1, len(TENANTS) + 1)
    ]
    found = {row[0]: row for row in headers}
    for tenant in TENANTS:
        _, invoice_id, state, currency, start, end, total, _ = found[tenant.tenant_id]
        rows = system.query(
            "SELECT description, amount_minor FROM invoice_lines WHERE invoice_id = :id",
            id=invoice_id,
        )
        assert len(rows) == len(story.PRICES)
        assert dict(rows) == told.lines(tenant), tenant.tenant_id
        assert total == sum(told.lines(tenant).values())
        assert (state, currency) == ("finalized", tenant.currency)
        assert (start, end) == (tenant.midnight(told.month), tenant.midnight(told.after))


def _assert_credit(system: System) -> None:
    """The ledger agrees with itself, and each tenant has what it was granted less what it spent."""
    assert audit()["findings"] == []
    balances = dict(system.query("SELECT tenant_id, balance FROM credit_balances"))
    left = Decimal(story.GRANTED - story.SPENDINGS * story.SPENT)
    assert balances == {tenant.tenant_id: left for tenant in TENANTS}
    entries = dict(system.query("SELECT action, count(*) FROM ledger_entries GROUP BY action"))
    each = {"grant": 2, "consume": story.SPENDINGS, "expire": 1}
    assert entries == {action: count * len(TENANTS) for action, count in each.items()}


def _assert_announced(system: System) -> None:
    """Nothing was said twice: the events of an object count from one without a gap or a repeat."""
    objects: dict[Any, list[tuple[int, Any]]] = defaultdict(list)
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for topic, tenant_id, sequence, body in system.query(
        "SELECT type, tenant_id, sequence, body FROM outbox_messages"
    ):
        data = json.loads(bytes(body))["data"]
        counts[topic, tenant_id] += 1
        if topic == "billing.usage_aggregated":
            key = (tenant_id, data["metric"], data["day_start"])
            objects[key].append((sequence, data["total"]))
    for key, said in objects.items():
        assert sorted(sequence for sequence, _ in said) == list(range(1, len(said) + 1)), key
        totals = [total for _, total in sorted(said)]
        assert all(a != b for a, b in itertools.pairwise(totals)), key
    for tenant in TENANTS:
        for topic, times in _SAID_ONCE_EACH.items():
            assert counts[topic, tenant.tenant_id] == times, (topic, tenant.tenant_id)


_SAID_ONCE_EACH = {
    "billing.invoice.created": 1,
    "billing.invoice.finalized": 1,
    "billing.subscription_set": 1,
    "billing.credits_granted": 2,
    "billing.credits_expired": 1,
    "billing.quota_consumed": story.SPENDINGS,
}


def _endpoint(system: System, path: str, **wanted: Any) -> None:
    answer = system.ask(
        "billing.create_endpoint",
        url=system.subscriber.url(path),
        idempotency_key=f"endpoint{path}",
        **wanted,
    )
    system.subscriber.trust(path, answer["secret"])


def _matches(wanted: str, topic: str) -> bool:
    return wanted in {"*", topic} or (wanted.endswith(".*") and topic.startswith(wanted[:-1]))
