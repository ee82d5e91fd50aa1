"""What holds of every way to cut a period: each day once, the same total, the same again."""

import datetime as dt
import itertools
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from models.rules import billing, ids, late, pricing
from models.rules.billing import Days, Line, PriceVersion, Subscription
from models.rules.period import Anchor, Interval

PARIS = ZoneInfo("Europe/Paris")
BEGIN = dt.datetime(2026, 1, 15, 10, tzinfo=dt.UTC)

fees = st.decimals(min_value=0, max_value=1000, places=2)
instants = st.integers(1, 400 * 24 - 1).map(lambda hours: BEGIN + dt.timedelta(hours=hours))
cuts = st.lists(instants, max_size=6, unique=True).map(sorted)


def subscription(anchor: Anchor, interval: Interval) -> Subscription:
    return Subscription(
        id=ids.uuid7(BEGIN),
        tenant_id="acme",
        plan_key="pro",
        currency="EUR",
        quantity=Decimal(1),
        effective_at=BEGIN,
        ended_at=None,
        cycle=billing.Cycle(interval, anchor, dt.date(2026, 1, 15)),
    )


def chain(first: Subscription, at: list[dt.datetime]) -> list[Subscription]:
    """A subscription that was replaced by one like it, again and again."""
    found = [first]
    for moment in at:
        like = replace(first, id=ids.uuid7(moment))
        follower = billing.replacement(found[-1], like, moment, PARIS)
        found[-1] = replace(found[-1], ended_at=moment)
        found.append(follower)
    return found


def versions(fee: Decimal, at: list[dt.datetime]) -> Any:
    """A price whose terms were set again, to the same amount."""
    bounds = [None, *at, None]
    return {
        ("pro", "EUR"): [
            PriceVersion(
                id=UUID(int=number),
                plan_key="pro",
                price_key="base",
                currency="EUR",
                metric=None,
                price=pricing.read(pricing.Model.fixed, {"unit_price": str(fee)}),
                description=None,
                effective_at=start,
                ended_at=end,
            )
            for number, (start, end) in enumerate(itertools.pairwise(bounds))
        ]
    }


def periods(one: Subscription, until: dt.date) -> list[Days]:
    return list(itertools.takewhile(lambda days: days.after <= until, billing.unbilled(one, PARIS)))


@given(
    fee=fees,
    changes=cuts,
    raises=cuts,
    anchor=st.sampled_from(Anchor),
    interval=st.sampled_from([Interval.week, Interval.month, Interval.quarter]),
)
def test_however_a_period_is_cut_each_day_is_charged_once_and_the_whole_costs_the_same(
    fee: Decimal, changes: list[dt.datetime], raises: list[dt.datetime], anchor: Anchor,
    interval: Interval,
) -> None:  # fmt: skip
    uncut = subscription(anchor, interval)
    parts, prices = chain(uncut, changes), versions(fee, raises)
    for days in periods(uncut, dt.date(2027, 1, 1)):
        whole = billing.charges([uncut], versions(fee, []), days=days, zone=PARIS)
        found = billing.charges(parts, prices, days=days, zone=PARIS)

        charged = Counter(
            one.days.first + dt.timedelta(days=day) for one in found for day in range(len(one.days))
        )
        shared = uncut.days(PARIS).overlap(days)
        assert charged == Counter(
            shared.first + dt.timedelta(days=day) for day in range(len(shared))
        )
        in_parts = billing.total(billing.lines(found, []))
        at_once = billing.total(billing.lines(whole, []))
        # Each line is rounded once, by half a minor unit at most.
        assert abs(in_parts - at_once) <= Fraction(len(found) + 1, 2)


def usage_line(amount: int, quantity: int) -> Line:
    return Line(
        kind=billing.USAGE,
        subscription_id=UUID(int=1),
        price_id=UUID(int=2),
        metric="calls",
        description="calls",
        quantity=Decimal(quantity),
        unit_amount=None,
        amount_minor=amount,
        period=Days(dt.date(2026, 1, 1), dt.date(2026, 2, 1)).period(PARIS),
        details={},
    )


amounts = st.integers(0, 50)


@given(first=amounts, arrivals=st.lists(amounts, max_size=8))
def test_whatever_comes_late_in_whatever_order_the_period_is_billed_with_what_it_costs(
    first: int, arrivals: list[int]
) -> None:
    billed = late.Billed(
        UUID(int=3), "INV-1", Days(dt.date(2026, 1, 1), dt.date(2026, 2, 1)),
        [usage_line(first, first)],
    )  # fmt: skip
    for costs in arrivals:
        found = late.adjustments(billed, [usage_line(costs, costs)])
        billed = replace(billed, since=[*billed.since, *found])
        assert late.adjustments(billed, [usage_line(costs, costs)]) == []
        assert billing.total([*billed.lines, *billed.since]) == costs
        assert sum(one.quantity for one in [*billed.lines, *billed.since]) == costs


@given(lines=st.lists(st.integers(-20, 50), min_size=1, max_size=6), share=st.integers(0, 100))
def test_what_is_taken_back_is_shared_out_whole_and_never_above_a_line(
    lines: list[int], share: int
) -> None:
    billed = [usage_line(amount, max(0, amount)) for amount in lines]
    amount = sum(max(0, each) for each in lines) * share // 100

    parts = late.shared_out(amount, Decimal(amount), billed)

    assert sum(part for part, _ in parts) == amount
    assert sum(units for _, units in parts) == amount
    assert all(
        0 <= part <= max(0, line.amount_minor)
        for line, (part, _) in zip(billed, parts, strict=True)
    )
