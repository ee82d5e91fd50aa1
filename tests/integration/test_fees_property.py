"""Whatever happens to subscriptions: each of their days is charged for once, ahead or in arrears;
or each of their seconds.

The truth is worked out day by day, or from change to change, from when subscriptions began and
ended, and the seats they had.
"""

import datetime as dt
import random
from collections import defaultdict
from collections.abc import Collection, Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine

from models import database
from models.rules import billing
from models.rules.proration import Proration
from models.rules.refusal import Refusal
from models.store import subscription
from tasks.invoice_runs import finalize_invoices, generate_invoices
from tasks.plan_changes import cancel_subscription, change_subscription, reactivate_subscription
from tasks.subscriptions import set_subscription
from tasks.tenants import set_tenant
from tests.integration.billing_world import (
    assert_gapless,
    assert_reconciled,
    fee,
    instant,
    make_plan,
    query,
)

FEES = {"month": "29.99", "year": "366.50", "week": "7.77", "old": "31", "mixed": "10.01"}
ZONES = ("UTC", "Asia/Kathmandu", "Pacific/Kiritimati", "America/Los_Angeles", "Pacific/Apia")
STEPS = 20

RUNS = 0.8
"""How often invoices are made and numbered between two changes."""

LINES = """
    SELECT line.subscription_id, line.amount_minor
    FROM invoice_lines AS line JOIN invoices ON invoices.id = invoice_id
    WHERE line.kind = 'fixed' AND state IN ('finalized', 'paid', 'uncollectible')
    UNION ALL
    SELECT line.subscription_id, -credit.amount_minor
    FROM late_usage_credits AS credit JOIN invoice_lines AS line USING (invoice_id, position)
"""


def make_plans(by_second: Collection[str]) -> None:
    for key, amount in FEES.items():
        timing = "arrears" if key == "old" else "advance"
        prices = [fee(amount, timing=timing)]
        if key == "mixed":
            prices = [fee("5", timing=timing), fee("5.01", price_key="more")]
        make_plan(
            *prices,
            plan_key=key,
            interval={"year": "year", "week": "week"}.get(key, "month"),
            anchor="anniversary" if key in {"month", "year"} else "calendar",
            proration=Proration.second if key in by_second else Proration.day,
        )


class Life:
    """A tenant whose subscriptions change at random."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.zone = self.random.choice(ZONES)
        self.now = instant("2026-01-29T10:00:00")
        self.keys = iter(range(10_000))
        set_tenant(tenant_id="acme", timezone=self.zone)

    def live(self) -> None:
        self.begin()
        for _ in range(STEPS):
            self.now += dt.timedelta(hours=self.random.choice((1, 7, 30, 100, 260, 900)))
            if self.random.random() < RUNS:
                run(self.now)
            steps = (self.plan, self.seats, self.begin, self.end, self.resume)
            (step,) = self.random.choices(steps, weights=(3, 4, 2, 1, 1))
            try:
                step()
            except Refusal:
                # Such as a subscription that is over: nothing has changed.
                continue

    def finish(self) -> None:
        """Let everything be cancelled and billed."""
        for one in subscriptions():
            if one.ended_at is None:
                cancel_subscription(subscription_id=one.id, **self._told())
        for _ in range(3):
            self.now += dt.timedelta(days=370)
            run(self.now)

    def begin(self) -> None:
        trial = self.random.choice((None, None, 9))
        set_subscription(
            tenant_id="acme",
            plan_key=self.random.choice(list(FEES)),
            quantity=self._seats(),
            effective_at=self.now,
            **({} if trial is None else {"trial_days": trial}),
            **self._told(),
        )

    def plan(self) -> None:
        change_subscription(
            subscription_id=self._some(),
            plan_key=self.random.choice(list(FEES)),
            quantity=self._seats(),
            when=self._when(),
            **self._told(),
        )

    def seats(self) -> None:
        change_subscription(
            subscription_id=self._some(),
            quantity=self._seats(),
            when=self._when(),
            **self._told(),
        )

    def end(self) -> None:
        cancel_subscription(subscription_id=self._some(), when=self._when(), **self._told())

    def resume(self) -> None:
        reactivate_subscription(subscription_id=self._some(), as_of=self.now)

    def _some(self) -> UUID:
        found = subscriptions()
        there = [one for one in found if one.ended_at is None or one.ended_at > self.now]
        return self.random.choice(there or found).id

    def _seats(self) -> Any:
        return str(self.random.choice((1, 2, 3, 7)))

    def _when(self) -> Any:
        return self.random.choice(("now", "now", "period_end"))

    def _told(self) -> Any:
        return {"idempotency_key": f"k{next(self.keys)}", "as_of": self.now}


def run(now: dt.datetime) -> None:
    generate_invoices(as_of=now)
    finalize_invoices(as_of=now)


def subscriptions() -> list[billing.Subscription]:
    with database.transaction() as session:
        return sorted(subscription.of_tenants(session, ["acme"]), key=lambda one: one.id)


def owed(one: billing.Subscription, zone: ZoneInfo) -> Fraction:
    """What a subscription owes, a local day at a time, or a second, in minor units."""
    amount = Fraction(FEES[one.plan_key]) * 100
    if one.proration is Proration.second:
        return amount * sum(
            (Fraction(seats) * share for share, seats in shares_of(one, zone)), Fraction(0)
        )
    return sum(
        (
            amount * Fraction(seats) / len(one.cycle.containing(day, zone))
            for day, seats in days_of(one, zone)
        ),
        Fraction(0),
    )


def shares_of(one: billing.Subscription, zone: ZoneInfo) -> Iterator[tuple[Fraction, Decimal]]:
    """The shares of periods that the seats stayed the same for, cut at every local midnight."""
    assert one.ended_at is not None
    at = one.trial_ends_at or one.effective_at
    changes = sorted(each.effective_at for each in one.seats)
    while at < one.ended_at:
        day = at.astimezone(zone).date()
        days = one.cycle.containing(day, zone)
        whole = midnight(days.after, zone) - midnight(days.first, zone)
        tomorrow = midnight(day + dt.timedelta(days=1), zone)
        until = min([one.ended_at, tomorrow, *(each for each in changes if each > at)])
        yield Fraction((until - at) // SECOND, whole // SECOND), one.quantity_at(at)
        at = until


def midnight(day: dt.date, zone: ZoneInfo) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), zone).astimezone(dt.UTC)


SECOND = dt.timedelta(seconds=1)


def days_of(one: billing.Subscription, zone: ZoneInfo) -> Iterator[tuple[dt.date, Decimal]]:
    assert one.ended_at is not None
    day = (one.trial_ends_at or one.effective_at).astimezone(zone).date()
    while day < one.ended_at.astimezone(zone).date():
        seats = one.quantity
        for changed in one.seats:
            if changed.effective_at.astimezone(zone).date() <= day:
                seats = changed.quantity
        yield day, seats
        day += dt.timedelta(days=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "by_second"),
    [
        *((seed, ()) for seed in range(3)),
        *((seed, FEES) for seed in range(5, 7)),
        (8, ("month", "old")),
    ],
)
def test_every_day_of_every_subscription_is_charged_once(
    db: Engine, seed: int, by_second: Collection[str]
) -> None:
    make_plans(by_second)
    life = Life(seed)
    life.live()
    life.finish()

    billed: dict[UUID, list[int]] = defaultdict(list)
    for subscription_id, amount in query(LINES):
        billed[subscription_id].append(amount)
    assert sum(map(len, billed.values())) >= STEPS / 2
    for one in subscriptions():
        amounts = billed[one.id]
        # Every line is rounded once, and so is what is given back of it.
        assert abs(sum(amounts) - owed(one, ZoneInfo(life.zone))) <= Fraction(len(amounts), 2), one
        assert one.next_invoice_at is None
    assert_reconciled()
    assert_gapless()
    done = query("SELECT count(*) FROM invoices"), query("SELECT count(*) FROM credit_notes")
    run(life.now + dt.timedelta(days=400))
    assert (
        query("SELECT count(*) FROM invoices"),
        query("SELECT count(*) FROM credit_notes"),
    ) == done
