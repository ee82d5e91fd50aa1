"""What the demo plays: tenants, prices, and a month of usage with everything that goes wrong.

Made from a fixed seed, so two runs in the same year play the same month to the token. The month is
the next March: it has both hemispheres' and both Atlantic shores' clock changes in it, and since
it lies ahead, the beat that runs beside the demo finds nothing of it due by the real clock.
"""

import datetime as dt
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

SEED = 20_260_301

CALLS = 11_000
"""Calls to the service; each is two events, one a metric."""

METRICS = ("input_tokens", "output_tokens")
PLAN_KEY = "llm-pro"
PRODUCT_KEY = "FREE_CALLS"
PREPAID_KEY = "COINS"
PREPAID_CURRENCY = "USD"

MALFORMED: tuple[dict[str, Any], ...] = (
    {"amount": "-5"},
    {"amount": "NaN"},
    {"amount": str(2**70)},
    {"amount": True},
    {"metric": ""},
    {"idempotency_key": "x" * 200},
    {"metadata": {"prompt": "x" * 40_000}},
    {"at": "2199-01-01T00:00:00Z"},
    {"colour": "blue"},
)
"""What each malformed event has instead of, or beside, what is right."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """A customer of the LLM company and how busy it is."""

    tenant_id: str
    name: str
    timezone: str
    currency: str
    share: int
    coupon_key: str | None = None
    tax_key: str | None = None
    prepaid: str | None = None
    """Prepaid credit that pays invoices, in major units."""

    @property
    def zone(self) -> ZoneInfo:
        """Where its days begin."""
        return ZoneInfo(self.timezone)

    def midnight(self, day: dt.date) -> dt.datetime:
        """The instant at which a day begins there."""
        return dt.datetime.combine(day, dt.time(), self.zone).astimezone(dt.UTC)


TENANTS = (
    Tenant(
        "acme",
        "Acme Robotics",
        "America/Los_Angeles",
        "USD",
        34,
        coupon_key="LAUNCH20",
        tax_key="ca-sales-8.25",
        prepaid="20",
    ),
    Tenant("bergwerk", "Bergwerk GmbH", "Europe/Berlin", "EUR", 27, tax_key="de-vat-19"),
    Tenant("himal", "Himal Health", "Asia/Kathmandu", "USD", 16, coupon_key="LAUNCH20"),
    Tenant("sakura", "Sakura Games", "Asia/Tokyo", "JPY", 15),
    Tenant("kiwi", "Kiwi Legal", "Pacific/Auckland", "USD", 8),
)


@dataclass(frozen=True, slots=True)
class Sent:
    """One event as a producer sends it, on the day it sends it."""

    day: dt.date
    payload: dict[str, Any]


def _zeros() -> defaultdict[Any, Decimal]:
    return defaultdict(Decimal)


@dataclass(slots=True)
class Scenario:
    """A month of messages and what must come of them."""

    month: dt.date
    sent: list[Sent]
    expected: Counter[str]
    totals: defaultdict[tuple[str, str], Decimal] = field(default_factory=_zeros)
    daily: defaultdict[tuple[str, str, dt.date], Decimal] = field(default_factory=_zeros)

    @property
    def days(self) -> list[dt.date]:
        """The days on which something is sent; late events reach a little past the month."""
        return sorted({sent.day for sent in self.sent})

    def of_day(self, day: dt.date) -> list[dict[str, Any]]:
        """The events sent on a day, in the order they are sent."""
        return [sent.payload for sent in self.sent if sent.day == day]

    @property
    def start(self) -> dt.datetime:
        """The first instant at which it is already this month somewhere."""
        return min(tenant.midnight(self.month) for tenant in TENANTS)

    @property
    def end(self) -> dt.datetime:
        """The instant at which this month is over everywhere."""
        return max(tenant.midnight(next_month(self.month)) for tenant in TENANTS)


def build(today: dt.date) -> Scenario:
    """Make the scenario for the next March after `today`."""
    month = dt.date(today.year if today.month < 3 else today.year + 1, 3, 1)
    chance = random.Random(SEED)  # noqa: S311 (a story to tell, not a secret)
    scenario = Scenario(month=month, sent=[], expected=Counter())
    for number in range(CALLS):
        for event in _call(chance, month, number):
            _send(chance, scenario, event)
    for number, fault in enumerate(MALFORMED * 3):
        _send_malformed(chance, scenario, number, fault)
    chance.shuffle(scenario.sent)
    return scenario


def next_month(month: dt.date) -> dt.date:
    """Return the first day of the month after."""
    return (month.replace(day=28) + dt.timedelta(days=4)).replace(day=1)


@dataclass(frozen=True, slots=True)
class _Event:
    tenant: Tenant
    at: dt.datetime
    payload: dict[str, Any]


def _call(chance: random.Random, month: dt.date, number: int) -> Iterator[_Event]:
    tenant = chance.choices(TENANTS, weights=[tenant.share for tenant in TENANTS])[0]
    at = _instant(chance, month, tenant.zone)
    tokens = (
        max(1, int(chance.lognormvariate(7.2, 1.1))),
        max(1, int(chance.lognormvariate(5.1, 0.9))),
    )
    model = chance.choices(("atlas-large", "atlas-mini"), weights=(3, 7))[0]
    for metric, amount in zip(METRICS, tokens, strict=True):
        yield _Event(
            tenant,
            at,
            {
                "tenant_id": tenant.tenant_id,
                "metric": metric,
                "amount": str(amount),
                "at": at.isoformat(),
                "idempotency_key": f"call-{number}",
                "metadata": {"model": model},
            },
        )


def _instant(chance: random.Random, month: dt.date, zone: ZoneInfo) -> dt.datetime:
    """A moment of the month, busier in office hours and on weekdays."""
    while True:
        length = (next_month(month) - month).days
        day = month + dt.timedelta(days=chance.randrange(length))
        if day.weekday() >= 5 and chance.random() < 0.6:
            continue
        hour = min(23, max(0, int(chance.gauss(14, 4.5))))
        clock = dt.time(hour, chance.randrange(60), chance.randrange(60), chance.randrange(10**6))
        local = dt.datetime.combine(day, clock, zone)
        return local.astimezone(dt.UTC)


def _send(chance: random.Random, scenario: Scenario, event: _Event) -> None:
    """Send an event on its day; some late, some twice, a few a second time with another amount."""
    day = event.at.date()
    if chance.random() < 0.03:  # a producer that was offline
        late = day + dt.timedelta(days=chance.randrange(1, 6))
        day = max(day, min(late, _last_day(scenario.month)))
    scenario.sent.append(Sent(day, event.payload))
    scenario.expected["accepted"] += 1
    _count(scenario, event)
    if chance.random() < 0.02:  # a producer that was not sure
        scenario.sent.append(Sent(day, event.payload))
        scenario.expected["duplicate"] += 1


def _count(scenario: Scenario, event: _Event) -> None:
    """Add up what the books must show: plain Python, nothing of the program's own arithmetic."""
    tenant_id, metric = event.payload["tenant_id"], event.payload["metric"]
    amount = Decimal(event.payload["amount"])
    day = event.at.astimezone(event.tenant.zone).date()
    scenario.totals[tenant_id, metric] += amount
    scenario.daily[tenant_id, metric, day] += amount


def _send_malformed(
    chance: random.Random, scenario: Scenario, number: int, fault: dict[str, Any]
) -> None:
    event = next(_call(chance, scenario.month, CALLS + number))
    payload = {**event.payload, "idempotency_key": f"malformed-{number}", **fault}
    scenario.sent.append(Sent(event.at.date(), payload))
    scenario.expected["rejected"] += 1


def _last_day(month: dt.date) -> dt.date:
    return next_month(month) - dt.timedelta(days=1)
