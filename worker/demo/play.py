"""Play the month: send what producers send, ring what beat rings, on the dates of the story."""

import dataclasses
import datetime as dt
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tasks import contract
from tasks.aggregation import aggregate_usage
from tasks.catalog_import import import_catalog
from tasks.coupons import redeem_coupon
from tasks.credit_upkeep import expire_batches
from tasks.credits import add_credits, consume_quota, get_balance
from tasks.endpoints import create_endpoint
from tasks.invoice_runs import finalize_invoices, generate_invoices
from tasks.issuing import set_prepaid_product
from tasks.subscriptions import set_subscription
from tasks.taxes import set_tenant_taxes
from tasks.tenants import set_tenant
from tasks.usage import record_usage
from worker.demo import prices, scenario
from worker.demo.stage import Subscriber
from worker.demo.subscriber import OPERATOR

EVENTS_A_MESSAGE = 500

ANSWER_TIMEOUT = 120.0
"""Seconds to wait for one answer of a worker."""

PROMOTIONS = ((1, 1_000, 20), (12, 400, 28))
"""Free calls that each tenant is given: on which day of the month, how many, until which day."""

LEAST_SPENT = 25
SPENT_MORE = 5
"""Free calls that the first tenant spends each day, and how many more each one after it does."""

BUSY_REQUESTS = 30
"""Of each subscriber's first so many webhooks some are turned away: they come again."""

FIRST_SPENT, LAST_SPENT = 2, 26
"""The days of the month on which free calls are spent: all have some then, wherever they are."""


@dataclass(slots=True)
class Played:
    """What the workers answered."""

    verdicts: Counter[str] = field(default_factory=Counter)
    expired: int = 0
    balances: dict[str, str] = field(default_factory=dict)
    drafted: int = 0
    finalized: int = 0
    ingest_seconds: float = 0.0


def open_accounts(story: scenario.Scenario, subscriber: Subscriber) -> None:
    """Introduce the catalogue, tenants, subscriptions, free calls and endpoints, by message."""
    opening = story.start - dt.timedelta(days=1)
    _ask(import_catalog, catalog=prices.catalog(), as_of=opening.isoformat())
    _endpoint(subscriber, OPERATOR, opening, operator=True)
    for tenant in scenario.TENANTS:
        _open_account(story, subscriber, tenant, opening)
        subscriber.be_busy(f"/{tenant.tenant_id}", requests=BUSY_REQUESTS)
    _ask(
        set_prepaid_product,
        currency=scenario.PREPAID_CURRENCY,
        product_key=scenario.PREPAID_KEY,
        as_of=opening.isoformat(),
    )


def play(story: scenario.Scenario, said: Callable[[str], None]) -> Played:
    """Play every day of the month and close it; `said` is told each step for people to follow."""
    played = Played()
    for day in story.days:
        evening = dt.datetime.combine(day + dt.timedelta(days=1), dt.time(), dt.UTC)
        before = dataclasses.replace(played)
        _ring(evening - dt.timedelta(hours=12), played)
        events = story.of_day(day)
        _send_usage(events, evening, played)
        _grant_free_calls(story, day, evening)
        _use_free_calls(story, day, evening)
        _ring(evening, played)
        said(f"{day:%a %d %b}        {len(events):5,d} events{_news(before, played)}")
    _close(story, played, said)
    for tenant in scenario.TENANTS:
        answer = _ask(get_balance, tenant_id=tenant.tenant_id, product_key=scenario.PRODUCT_KEY)
        played.balances[tenant.tenant_id] = answer["balance"]
    return played


def _open_account(
    story: scenario.Scenario, subscriber: Subscriber, tenant: scenario.Tenant, opening: dt.datetime
) -> None:
    who = {"tenant_id": tenant.tenant_id, "as_of": opening.isoformat()}
    _ask(set_tenant, **who, name=tenant.name, timezone=tenant.timezone, currency=tenant.currency)
    _endpoint(subscriber, f"/{tenant.tenant_id}", opening, tenant_id=tenant.tenant_id)
    _ask(
        set_subscription,
        **who,
        plan_key=scenario.PLAN_KEY,
        currency=tenant.currency,
        effective_at=tenant.midnight(story.month).isoformat(),
        idempotency_key="subscribe",
    )
    if tenant.coupon_key:
        _ask(redeem_coupon, **who, coupon_key=tenant.coupon_key)
    if tenant.tax_key:
        _ask(set_tenant_taxes, **who, tax_keys=[tenant.tax_key])
    if tenant.prepaid:
        _ask(
            add_credits,
            **who,
            product_key=scenario.PREPAID_KEY,
            amount=tenant.prepaid,
            source="top-up",
            idempotency_key="top-up",
        )


def _grant_free_calls(story: scenario.Scenario, day: dt.date, evening: dt.datetime) -> None:
    """Give each tenant the free calls of this day, if it is one on which there are some."""
    for first, amount, last in PROMOTIONS:
        if day != story.month.replace(day=first):
            continue
        for tenant in scenario.TENANTS:
            _ask(
                add_credits,
                tenant_id=tenant.tenant_id,
                product_key=scenario.PRODUCT_KEY,
                amount=str(amount),
                expires_at=tenant.midnight(story.month.replace(day=last)).isoformat(),
                source="promotion",
                idempotency_key=f"promotion-{day}",
                as_of=(evening - dt.timedelta(hours=12)).isoformat(),
            )


def _use_free_calls(story: scenario.Scenario, day: dt.date, evening: dt.datetime) -> None:
    """Let each tenant spend some of its free calls, on the days on which it surely has some."""
    first, last = (story.month.replace(day=number) for number in (FIRST_SPENT, LAST_SPENT))
    if not first <= day <= last:
        return
    sent = [
        consume_quota.apply_async(
            kwargs={
                "tenant_id": tenant.tenant_id,
                "product_key": scenario.PRODUCT_KEY,
                "amount": str(LEAST_SPENT + SPENT_MORE * place),
                "idempotency_key": f"free-{day}",
                "as_of": (evening - dt.timedelta(hours=1)).isoformat(),
            }
        )
        for place, tenant in enumerate(scenario.TENANTS)
    ]
    for message in sent:
        message.get(timeout=ANSWER_TIMEOUT)


def _endpoint(subscriber: Subscriber, path: str, opening: dt.datetime, **owner: Any) -> None:
    answer = _ask(
        create_endpoint,
        **owner,
        url=subscriber.url(path),
        topics=["billing.*"],
        idempotency_key=f"endpoint{path}",
        as_of=opening.isoformat(),
    )
    subscriber.trust(path, answer["secret"])


def _send_usage(events: list[dict[str, Any]], evening: dt.datetime, played: Played) -> None:
    begun = time.monotonic()
    sent = [
        record_usage.apply_async(kwargs={"events": chunk, "as_of": evening.isoformat()})
        for chunk in _chunks(events)
    ]
    for message in sent:
        answer = message.get(timeout=ANSWER_TIMEOUT)
        played.verdicts.update(answer["verdicts"])
    played.ingest_seconds += time.monotonic() - begun


def _ring(now: dt.datetime, played: Played) -> None:
    """Ring what beat rings: each only looks for what is due at that instant."""
    _ask(aggregate_usage, as_of=now.isoformat())
    played.expired += _ask(expire_batches, as_of=now.isoformat())["expired"]
    played.drafted += _ask(generate_invoices, as_of=now.isoformat())["invoices"]
    played.finalized += _ask(finalize_invoices, as_of=now.isoformat())["invoices"]


def _close(story: scenario.Scenario, played: Played, said: Callable[[str], None]) -> None:
    """Let the month end around the world, hour by hour, and the drafts' grace pass."""
    last = story.days[-1] + dt.timedelta(days=1)
    now = dt.datetime.combine(last, dt.time(), dt.UTC)
    while played.finalized < len(scenario.TENANTS) and now < story.end + dt.timedelta(days=3):
        before = dataclasses.replace(played)
        now += dt.timedelta(hours=2)
        _ring(now, played)
        if news := _news(before, played):
            said(f"{now:%a %d %b %H:%M}{news.removeprefix(',')}")


def _news(before: Played, after: Played) -> str:
    """Say what the bells led to since `before`, each thing behind a comma."""
    counts = {
        "free-call batches expired": after.expired - before.expired,
        "invoices made": after.drafted - before.drafted,
        "invoices finalized": after.finalized - before.finalized,
    }
    return "".join(f", {what}: {count}" for what, count in counts.items() if count)


def _chunks(events: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, len(events), EVENTS_A_MESSAGE):
        yield events[start : start + EVENTS_A_MESSAGE]


def _ask(task: contract.Task[Any, Any], **arguments: Any) -> Any:
    """Send one task to a worker and wait for its answer."""
    return task.apply_async(kwargs=arguments).get(timeout=ANSWER_TIMEOUT)
