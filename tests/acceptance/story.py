"""A month of a few tenants: what producers send, and what must be in the books afterwards.

The expected figures are plain Decimal arithmetic over what was sent; nothing of the program's own
rules is used for them. The month is over everywhere by the real clock, so beat alone closes it.
"""

import datetime as dt
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from zoneinfo import ZoneInfo

from tests.acceptance.producer import Call

OPERATOR = "/operator"
PLAN, PRODUCT = "pro", "CALLS"
GRANTED, SPENT, SPENDINGS = 1000, 7, 12
METRICS = ("input_tokens", "output_tokens")
DAYS = (0.0, 0.3, 0.6, 1.0)
"""When usage happens, as parts of the month."""

DECIMALS = {"USD": 2, "EUR": 2, "JPY": 0}
PRICES: dict[str, dict[str, str]] = {
    "base": {"USD": "49", "EUR": "45.5", "JPY": "7000"},
    "input_tokens": {"USD": "0.0031", "EUR": "0.0028", "JPY": "0.45"},
    "output_tokens": {"USD": "0.0157", "EUR": "0.0141", "JPY": "2.25"},
}


@dataclass(frozen=True, slots=True)
class Tenant:
    """Who is billed, and what its own endpoint hears of."""

    tenant_id: str
    timezone: str
    currency: str
    topic: str

    def midnight(self, day: dt.date) -> dt.datetime:
        """Return the instant at which a day begins there."""
        return dt.datetime.combine(day, dt.time(), ZoneInfo(self.timezone)).astimezone(dt.UTC)


TENANTS = (
    Tenant("acme", "America/Los_Angeles", "USD", "billing.*"),
    Tenant("berg", "Europe/Berlin", "EUR", "billing.invoice.*"),
    Tenant("himal", "Asia/Kathmandu", "USD", "billing.invoice.finalized"),
    Tenant("sakura", "Asia/Tokyo", "JPY", "*"),
)


def _zeros() -> defaultdict[Any, Decimal]:
    return defaultdict(Decimal)


@dataclass(slots=True)
class Story:
    """What is sent. `events` is by tenant, metric and idempotency key; `daily` by local day."""

    month: dt.date
    after: dt.date
    chunks: dict[str, list[Call]] = field(default_factory=dict)
    events: dict[tuple[str, str, str], tuple[Decimal, dt.datetime]] = field(default_factory=dict)
    daily: defaultdict[tuple[str, str, dt.date], Decimal] = field(default_factory=_zeros)

    def usage(self, tenant: Tenant) -> list[Call]:
        """Return a tenant's events as messages; some events are in two of them."""
        return self.chunks[tenant.tenant_id]

    def subscribe(self, tenant: Tenant) -> Call:
        """Return what puts a tenant on the plan for that month alone: from then on it is due."""
        return "billing.set_subscription", {
            "tenant_id": tenant.tenant_id,
            "plan_key": PLAN,
            "currency": tenant.currency,
            "effective_at": tenant.midnight(self.month).isoformat(),
            "ended_at": tenant.midnight(self.after).isoformat(),
            "idempotency_key": "subscribe",
        }

    def grants(self, tenant: Tenant) -> list[Call]:
        """Return grants of credit; one is over already when beat next looks."""
        granted_at = tenant.midnight(self.month)
        whose = {"tenant_id": tenant.tenant_id, "product_key": PRODUCT}
        over = {
            "expires_at": (granted_at + dt.timedelta(days=1)).isoformat(),
            "as_of": granted_at.isoformat(),
        }
        grants = [
            {**whose, "amount": str(GRANTED), "idempotency_key": "grant"},
            {**whose, "amount": "5", "idempotency_key": "short-lived", **over},
        ]
        return [("billing.add_credits", grant) for grant in grants]

    def spendings(self, tenant: Tenant) -> list[Call]:
        """Return what spends credit; send it when the grants have been answered."""
        whose = {"tenant_id": tenant.tenant_id, "product_key": PRODUCT, "amount": str(SPENT)}
        return [
            ("billing.consume_quota", {**whose, "idempotency_key": f"call-{number}"})
            for number in range(SPENDINGS)
        ]

    def total(self, tenant: Tenant, metric: str) -> Decimal:
        """Return what a tenant used in the month."""
        return sum(
            (
                amount
                for (whose, what, _), amount in self.daily.items()
                if (whose, what) == (tenant.tenant_id, metric)
            ),
            Decimal(0),
        )

    def lines(self, tenant: Tenant) -> dict[str, int]:
        """Return what each price comes to on the invoice, in minor units, by its description."""
        scale = 10 ** DECIMALS[tenant.currency]
        found = {}
        for key, amounts in PRICES.items():
            quantity = self.total(tenant, key) if key in METRICS else Decimal(1)
            exact = quantity * Decimal(amounts[tenant.currency]) * scale
            found[key] = int(exact.quantize(Decimal(1), rounding=ROUND_HALF_UP))
        return found


def build(seed: int, *, chunks: int, size: int = 40) -> Story:
    """Make up the month before the last one: for each tenant `chunks` messages of `size` events."""
    after = (dt.datetime.now(dt.UTC).date().replace(day=1) - dt.timedelta(days=1)).replace(day=1)
    story = Story(month=(after - dt.timedelta(days=1)).replace(day=1), after=after)
    chance = random.Random(seed)
    for tenant in TENANTS:
        sent: list[dict[str, Any]] = []
        for number in range(chunks * size):
            # Every tenth is one that was sent before, by a producer that was not sure.
            known = bool(sent) and chance.random() < 0.1
            sent.append(chance.choice(sent) if known else _event(story, chance, tenant, number))
        story.chunks[tenant.tenant_id] = [
            ("billing.record_usage", {"events": sent[start : start + size]})
            for start in range(0, len(sent), size)
        ]
    return story


def opening() -> Iterator[Call]:
    """Yield what introduces product, plan and tenants."""
    yield "billing.set_product", {"product_key": PRODUCT, "name": "Calls", "type": "quantity"}
    yield "billing.set_plan", {"plan_key": PLAN, "name": "Pro", "prices": list(_prices())}
    for tenant in TENANTS:
        yield (
            "billing.set_tenant",
            {
                "tenant_id": tenant.tenant_id,
                "timezone": tenant.timezone,
                "currency": tenant.currency,
            },
        )


def _prices() -> Iterator[dict[str, Any]]:
    for key, amounts in PRICES.items():
        usage = key in METRICS
        for currency, amount in amounts.items():
            yield {
                "price_key": key,
                "kind": "usage" if usage else "fixed",
                "metric": key if usage else None,
                "unit_amount": amount,
                "currency": currency,
                "description": key,
            }


def _event(story: Story, chance: random.Random, tenant: Tenant, number: int) -> dict[str, Any]:
    start, end = tenant.midnight(story.month), tenant.midnight(story.after)
    # A few days, so that each is counted again and again; the month's first and last instants too.
    last = end - start - dt.timedelta(microseconds=1)
    at = start + min(last, chance.choice(DAYS) * last + chance.random() * dt.timedelta(hours=3))
    metric = chance.choice(METRICS)
    amount = Decimal(chance.randrange(1, 10**6)).scaleb(-chance.randrange(4))
    key = f"call-{number}"
    story.events[tenant.tenant_id, metric, key] = amount, at
    story.daily[tenant.tenant_id, metric, at.astimezone(ZoneInfo(tenant.timezone)).date()] += amount
    return {
        "tenant_id": tenant.tenant_id,
        "metric": metric,
        "amount": str(amount),
        "at": at.isoformat(),
        "idempotency_key": key,
    }
