"""A year that is made up: what tenants ask for and use, when, and what was granted to them.

What the product answered is kept only where the story can not know it (ids, and whether it was
refused): `tests/integration/year_recount.py` works out from this alone what is to be billed.
"""

import datetime as dt
import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from models.rules.refusal import Refusal
from tasks.coupons import redeem_coupon
from tasks.credits import add_credits
from tasks.invoices import NothingToBill, generate_monthly_invoice
from tasks.plan_changes import cancel_subscription, change_subscription, reactivate_subscription
from tasks.subscriptions import set_subscription
from tasks.taxes import set_tenant_taxes
from tasks.tenants import set_tenant
from tasks.unpaid import void_invoice
from tasks.usage import record_usage
from tasks.usage_voids import void_usage
from tests.integration import year_catalogue as catalogue
from tests.integration.billing_world import query
from tests.integration.year_calendar import DAY, Places, midnight, period_of

FIRST: Final = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
LAST: Final = dt.datetime(2026, 12, 31, 12, tzinfo=dt.UTC)
SECOND: Final = dt.timedelta(seconds=1)

ALLOWED: Final = {
    "subscription.over",
    "subscription.replaced",
    "subscription.overlaps",
    "subscription.ends_before_it_starts",
    "coupon.used_up",
    "invoice.not_open",
    "invoice.touched",
}
"""What a tenant may be refused: it asks for things without looking at what it has."""


NUMBERED: Final = """
    SELECT id, timezone, period_start, period_end FROM invoices
    WHERE tenant_id = :tenant_id AND kind = 'subscription' AND number IS NOT NULL
    ORDER BY sequence
"""
NUMBERED_AHEAD: Final = """
    SELECT id, timezone, period_start, period_end FROM invoices
    WHERE tenant_id = :tenant_id AND kind = 'advance' AND number IS NOT NULL
    ORDER BY sequence
"""
IN_PLACE: Final = """
    SELECT count(*) FROM invoices AS voided JOIN invoices AS other USING
        (tenant_id, currency, kind)
    WHERE voided.id = :invoice_id AND other.state <> 'void'
      AND (other.period_start AT TIME ZONE other.timezone)::date
          = (voided.period_start AT TIME ZONE voided.timezone)::date
"""
BILLED: Final = """
    SELECT 1 FROM invoices WHERE tenant_id = :tenant_id
    UNION SELECT 1 FROM subscriptions WHERE tenant_id = :tenant_id AND billed_until IS NOT NULL
"""


@dataclass
class Tenant:
    tenant_id: str
    places: Places
    currency: str
    taxes: tuple[str, ...]


@dataclass
class Term:
    """A subscription, as it was agreed."""

    subscription_id: str
    tenant: Tenant
    plan_key: str
    seats: int
    starts_at: dt.datetime
    ends_at: dt.datetime | None
    anchored_on: dt.date
    trial_ends_at: dt.datetime | None = None
    follows: "Term | None" = None
    owes_setup: bool = True
    seat_changes: list[tuple[dt.datetime, int]] = field(default_factory=list)

    def change_seats(self, at: dt.datetime, seats: int) -> None:
        """Have other seats from an instant on, instead of those that were to come."""
        at = max(at, self.starts_at)
        self.seat_changes = [one for one in self.seat_changes if one[0] < at] + [(at, seats)]

    def runs_of(
        self, first: dt.datetime, after: dt.datetime
    ) -> list[tuple[dt.datetime, dt.datetime, int]]:
        """Seconds in a row with the seats there were; a change is of its second."""
        begins = {first: self.seats}
        for at, seats in self.seat_changes:
            if at < after:
                begins[max(first, at)] = seats
        times = [*begins, after]
        return [(at, times[n + 1], begins[at]) for n, at in enumerate(begins)]

    def runs(self, first: dt.date, after: dt.date) -> list[tuple[dt.date, dt.date, int]]:
        """Days in a row with the seats they had; a change is of its whole day."""
        begins = {first: self.seats}
        for at, seats in self.seat_changes:
            if self.day(at) < after:
                begins[max(first, self.day(at))] = seats
        days = [*begins, after]
        return [(day, days[n + 1], begins[day]) for n, day in enumerate(begins)]

    def day(self, at: dt.datetime) -> dt.date:
        return self.tenant.places.day(at)

    @property
    def charged(self) -> tuple[dt.date, dt.date]:
        """First and last but one of the local days it is charged for; perhaps none."""
        first = self.day(self.starts_at)
        if self.trial_ends_at is not None:
            first = max(first, self.day(self.trial_ends_at))
        return first, dt.date.max if self.ends_at is None else self.day(self.ends_at)

    @property
    def charged_time(self) -> tuple[dt.datetime, dt.datetime]:
        """From when until when it is charged for; perhaps never."""
        first = max(self.starts_at, self.trial_ends_at or self.starts_at)
        assert self.ends_at is not None
        return first, self.ends_at

    @property
    def touched(self) -> tuple[dt.date, dt.date]:
        """The local days of which some second is charged for; perhaps none."""
        first, end = self.charged_time
        after = self.day(end - SECOND) + DAY if first < end else self.day(first)
        return self.day(first), after

    def period(self, day: dt.date) -> tuple[dt.date, dt.date]:
        offer = catalogue.PLANS[self.plan_key]
        return period_of(day, offer.interval, offer.anchor, self.anchored_on)

    def period_end(self, at: dt.datetime) -> dt.datetime:
        day = self.day(max(at, self.starts_at))
        return self.tenant.places.midnight(self.period(day)[1])


@dataclass(frozen=True)
class Used:
    """A usage event that was accepted."""

    tenant_id: str
    metric: str
    amount: Decimal
    at: dt.datetime
    key: str


@dataclass(order=True)
class Step:
    at: dt.datetime
    number: int
    do: Callable[[dt.datetime], None] = field(compare=False)


@dataclass
class Story:
    """Who did what. `play` carries out the steps up to an instant."""

    chance: random.Random
    tenants: list[Tenant] = field(default_factory=list)
    terms: list[Term] = field(default_factory=list)
    used: dict[str, Used] = field(default_factory=dict)
    raised: dict[str, list[dt.datetime]] = field(default_factory=dict)
    redeemed: dict[str, list[tuple[str, dt.datetime]]] = field(default_factory=dict)
    granted: dict[str, Decimal] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    steps: list[Step] = field(default_factory=list)
    _messages: dict[dt.date, list[dict[str, Any]]] = field(default_factory=dict)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def play(self, until: dt.datetime) -> None:
        """Let happen what happens until an instant, in order."""
        while self.steps and self.steps[0].at <= until:
            step = heapq.heappop(self.steps)
            try:
                step.do(step.at)
                self.counts["carried out"] += 1
            except Refusal as refusal:
                if refusal.code not in ALLOWED:
                    raise
                self.counts[refusal.code] += 1

    def at(self, at: dt.datetime, do: Callable[[dt.datetime], None]) -> None:
        """Let something happen at an instant."""
        heapq.heappush(self.steps, Step(at, next(self._numbers), do))

    def between(self, first: dt.datetime, last: dt.datetime) -> dt.datetime:
        """Some instant; often the first one of a local day, or the last."""
        at = first + (last - first) * self.chance.random()
        at = at.replace(microsecond=0)
        if self.chance.random() < 0.2:
            at = midnight(at.date(), ZoneInfo(self.chance.choice(catalogue.ZONES)))
            at -= dt.timedelta(seconds=self.chance.randrange(2))
        return min(max(at, first), last)

    def key(self) -> str:
        return f"key-{next(self._numbers)}"

    # What they do.

    def arrive(self, number: int) -> None:
        """Let a tenant come some day, with a life ahead of it."""
        chance = self.chance
        tenant = Tenant(
            f"t{number:04d}",
            Places(ZoneInfo(chance.choice(catalogue.ZONES))),
            chance.choice(("USD", "USD", "USD", "JPY", "KWD")),
            chance.choice(((), (), ("vat",), ("vat", "city"), ("gst",), ("gst", "vat"))),
        )
        self.tenants.append(tenant)
        begin = self.between(FIRST, FIRST + dt.timedelta(days=270))
        self.at(begin, lambda at: self._introduce(tenant, at))
        for _ in range(chance.choice((0, 0, 0, 1, 2))):
            self.at(self.between(begin, LAST), lambda at: self._subscribe(tenant, at))
        self.at(begin, lambda at: self._subscribe(tenant, at))
        for _ in range(chance.choice((0, 0, 1, 2, 3))):
            act = chance.choice((self._change, self._change, self._cancel, self._reactivate))
            self.at(self.between(begin, LAST), lambda at, act=act: act(tenant, at))  # type: ignore[misc]
        for _ in range(chance.choice((0, 0, 0, 1, 2))):
            self.at(self.between(begin, LAST), lambda at: self._move(tenant, at))
        for coupon in chance.sample(sorted(catalogue.COUPONS), chance.choice((0, 0, 0, 1, 2))):
            self.at(self.between(begin, LAST), lambda at, c=coupon: self._redeem(tenant, c, at))  # type: ignore[misc]
        for _ in range(chance.choice((0, 0, 0, 1, 2))):
            self.at(self.between(begin, LAST), lambda at: self._top_up(tenant, at))
        for _ in range(chance.choice((0, 0, 1, 2))):
            self.at(self.between(begin, LAST), lambda at: self._bill_again(tenant, at))
        for again in chance.choice(((), (), (True,), (False,), (True, False))):
            self.at(self.between(begin, LAST), lambda at, a=again: self._withdraw(tenant, a, at))  # type: ignore[misc]
        for _ in range(chance.randrange(6, 22)):
            self._use(tenant, begin)

    def _introduce(self, tenant: Tenant, at: dt.datetime) -> None:
        set_tenant(tenant_id=tenant.tenant_id, timezone=tenant.places.zone.key, as_of=at)
        if tenant.taxes:
            set_tenant_taxes(
                tenant_id=tenant.tenant_id,
                tax_keys=list(tenant.taxes),
                effective_at=catalogue.BEGIN,
            )

    def _move(self, tenant: Tenant, at: dt.datetime) -> None:
        """Go to another zone; who was never billed had only said the wrong one."""
        zone = ZoneInfo(self.chance.choice(catalogue.ZONES))
        if zone.key == tenant.places.zone.key:
            return
        if query(BILLED, tenant_id=tenant.tenant_id):
            tenant.places.move(zone, at)
            self.counts["moves"] += 1
        else:
            tenant.places = Places(zone)
        set_tenant(tenant_id=tenant.tenant_id, timezone=zone.key, as_of=at)

    def _subscribe(self, tenant: Tenant, at: dt.datetime) -> None:
        chance = self.chance
        is_short = chance.random() < 0.06
        plan_key = "daily" if is_short else chance.choice(catalogue.LONG)
        trial = chance.choice((None, None, None, 7, 14, 30))
        ends_at = at + dt.timedelta(days=chance.randrange(2, 25)) if is_short else None
        seats = chance.choice((1, 1, 1, 2, 5))
        answer = set_subscription(
            tenant_id=tenant.tenant_id,
            plan_key=plan_key,
            currency=tenant.currency,
            quantity=str(seats),
            effective_at=at,
            ended_at=ends_at,
            trial_days=trial,
            idempotency_key=self.key(),
            as_of=at,
        )
        term = Term(
            str(answer["subscription_id"]), tenant, plan_key, seats, at, ends_at,
            anchored_on=tenant.places.day(at),
        )  # fmt: skip
        if trial is not None:
            after = term.day(at) + dt.timedelta(days=trial)
            term.trial_ends_at = tenant.places.midnight(after)
        self.terms.append(term)

    def _change(self, tenant: Tenant, at: dt.datetime) -> None:
        found = self._some(tenant)
        wanted = self.chance.choice((*catalogue.LONG, found.plan_key, found.plan_key))
        seats = self.chance.choice((found.seats, 1, 3, 4))
        when = self.chance.choice(("now", "period_end"))
        answer = change_subscription(
            subscription_id=found.subscription_id,
            plan_key=wanted,
            quantity=str(seats),
            when=when,
            idempotency_key=self.key(),
            as_of=at,
        )
        moment = at if when == "now" else found.period_end(at)
        if wanted == found.plan_key:
            found.change_seats(moment, seats)
            return
        self._call_off(found, at)
        follower = replace(
            found,
            subscription_id=str(answer["subscription"]["subscription_id"]),
            plan_key=wanted,
            seats=seats,
            starts_at=moment,
            follows=found,
            seat_changes=[],
        )
        found.ends_at = moment
        by_second = catalogue.PLANS[found.plan_key].proration == "second"
        first, after = found.touched if by_second else found.charged
        follower.owes_setup = found.owes_setup and first >= after
        if not found.trial_ends_at or found.trial_ends_at <= moment:
            follower.trial_ends_at = None
        before, now = catalogue.PLANS[found.plan_key], catalogue.PLANS[wanted]
        if (before.interval, before.anchor) != (now.interval, now.anchor):
            follower.anchored_on = follower.day(moment)
        self.terms.append(follower)

    def _call_off(self, found: Term, at: dt.datetime) -> None:
        """What was to take its place never begins; it goes on until that one would have ended."""
        for follower in self.terms:
            if follower.follows is found and follower.starts_at > at:
                found.ends_at, follower.ends_at = follower.ends_at, follower.starts_at
                follower.follows = None

    def _cancel(self, tenant: Tenant, at: dt.datetime, when: str | None = None) -> None:
        found = self._some(tenant)
        self.end(found, at, when or self.chance.choice(("now", "period_end")))

    def end(self, found: Term, at: dt.datetime, when: str) -> None:
        cancel_subscription(
            subscription_id=found.subscription_id,
            when=when,
            idempotency_key=self.key(),
            as_of=at,
        )
        found.ends_at = at if when == "now" else found.period_end(at)

    def _reactivate(self, tenant: Tenant, at: dt.datetime) -> None:
        found = self._some(tenant)
        reactivate_subscription(subscription_id=found.subscription_id, as_of=at)
        found.ends_at = None

    def _some(self, tenant: Tenant) -> Term:
        """A subscription of the tenant; most often one that is not over or replaced."""
        own = [term for term in self.terms if term.tenant is tenant]
        replaced = [term.follows for term in own]
        last = [term for term in own if term not in replaced]
        return self.chance.choice(last if self.chance.random() < 0.9 else own)

    def _redeem(self, tenant: Tenant, coupon_key: str, at: dt.datetime) -> None:
        redeem_coupon(tenant_id=tenant.tenant_id, coupon_key=coupon_key, as_of=at)
        self.redeemed.setdefault(tenant.tenant_id, []).append((coupon_key, at))

    def _top_up(self, tenant: Tenant, at: dt.datetime) -> None:
        amount = str(self.chance.randrange(10, 200) * catalogue.SCALES[tenant.currency])
        add_credits(
            tenant_id=tenant.tenant_id,
            product_key=f"MONEY_{tenant.currency}",
            amount=amount,
            idempotency_key=self.key(),
            as_of=at,
        )
        before = self.granted.get(tenant.tenant_id, Decimal(0))
        self.granted[tenant.tenant_id] = before + Decimal(amount)

    def _bill_again(self, tenant: Tenant, at: dt.datetime) -> None:
        """Have one of its invoices withdrawn, and its period billed anew."""
        numbered = query(NUMBERED, tenant_id=tenant.tenant_id)
        if not numbered:
            return
        invoice_id, timezone, start, end = self.chance.choice(numbered)
        void_invoice(invoice_id=invoice_id, reason="billed to the wrong address", as_of=at)
        first, after = (each.astimezone(ZoneInfo(timezone)).date() for each in (start, end))
        generate_monthly_invoice(
            tenant_id=tenant.tenant_id,
            period_start=first.isoformat(),
            period_end=after.isoformat(),
            currency=tenant.currency,
            as_of=at,
        )
        self.counts["billed again"] += 1

    def _withdraw(self, tenant: Tenant, again: bool, at: dt.datetime) -> None:
        """Have one of its invoices of fees ahead withdrawn: for good, or to be billed anew."""
        numbered = query(NUMBERED_AHEAD, tenant_id=tenant.tenant_id)
        if not numbered:
            return
        invoice_id, timezone, start, end = self.chance.choice(numbered)
        void_invoice(invoice_id=invoice_id, reason="billed to the wrong address", as_of=at)
        self.counts["withdrawn"] += 1
        if not again:
            return
        first, after = (each.astimezone(ZoneInfo(timezone)).date() for each in (start, end))
        try:
            generate_monthly_invoice(
                tenant_id=tenant.tenant_id,
                period_start=first.isoformat(),
                period_end=after.isoformat(),
                currency=tenant.currency,
                as_of=at,
            )
        except NothingToBill:
            self.counts["withdrawn and nothing owed"] += 1
            return
        self.counts["withdrawn and billed again"] += 1
        assert query(IN_PLACE, invoice_id=invoice_id) == [(1,)]

    def _use(self, tenant: Tenant, begin: dt.datetime) -> None:
        """Use something once; it is heard of soon, days later, or long after its invoice."""
        chance = self.chance
        at = self.between(begin, LAST)
        used = Used(
            tenant.tenant_id,
            chance.choice(catalogue.METRICS),
            Decimal(chance.randrange(1, 3000)) / 100,
            at,
            self.key(),
        )
        days = chance.choice((0, 0, 0, 0, 0, 0, 1, 4, 12, 45, 130))
        heard = at + dt.timedelta(days=days, minutes=chance.randrange(60))
        self._send(used, heard)
        if chance.random() < 0.1:  # twice
            self._send(used, heard + dt.timedelta(days=chance.randrange(9)))
        if chance.random() < 0.05:
            wait = dt.timedelta(days=chance.choice((7, 10, 20, 70, 150)), hours=24)
            self.at(heard + wait, lambda at: self._void(used, at))

    def _send(self, used: Used, heard: dt.datetime) -> None:
        """Put it into the one message of its week."""
        day = heard.date()
        day += dt.timedelta(days=6 - day.weekday())
        if day not in self._messages:
            self._messages[day] = []
            tomorrow = dt.datetime.combine(day, dt.time(23, 59, 59), dt.UTC)
            self.at(tomorrow, lambda at: self._record(self._messages.pop(day), at))
        self._messages[day].append(
            {
                "tenant_id": used.tenant_id,
                "metric": used.metric,
                "amount": str(used.amount),
                "at": used.at.isoformat(),
                "idempotency_key": used.key,
            }
        )
        self.used[used.key] = used

    def _record(self, events: list[dict[str, Any]], at: dt.datetime) -> None:
        answer: Any = record_usage(events=events, as_of=at)
        assert answer["conflict"] == answer["rejected"] == 0, answer
        self.counts["events"] += answer["accepted"]

    def _void(self, used: Used, at: dt.datetime) -> None:
        void_usage(
            tenant_id=used.tenant_id,
            metric=used.metric,
            idempotency_key=used.key,
            reason="a mistake",
            as_of=at,
        )
        del self.used[used.key]

    def raise_prices(self, plan_key: str, at: dt.datetime) -> None:
        times = self.raised.setdefault(plan_key, [])
        catalogue.offer(plan_key, len(times) + 1, at)
        times.append(at)


def tell(chance: random.Random, tenants: int) -> Story:
    """Make up a year of so many tenants. Everybody leaves at its end."""
    story = Story(chance)
    for number in range(tenants):
        story.arrive(number)
    for plan_key in catalogue.PLANS:
        for _ in range(chance.randrange(3)):
            at = story.between(FIRST, LAST)
            story.at(at, lambda at, key=plan_key: story.raise_prices(key, at))  # type: ignore[misc]
    return story


def close_shop(story: Story, at: dt.datetime) -> None:
    """Let every subscription end that has not: at once, or with its period."""
    for term in list(story.terms):
        if term.ends_at is None:
            has_begun = term.starts_at < at
            when = story.chance.choice(("now", "period_end")) if has_begun else "period_end"
            story.end(term, at, when)
