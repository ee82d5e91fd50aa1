"""Charges that are worked out once for many are those that each would have by itself."""

import datetime as dt
from dataclasses import replace
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.rules import billing, ids, money, pricing
from models.rules.billing import Days, PriceVersion, Seats, Subscription
from models.rules.charging import Alike, Charging
from models.rules.period import Anchor, Interval

PARIS = ZoneInfo("Europe/Paris")
MARCH = Days(dt.date(2026, 3, 1), dt.date(2026, 4, 1))
SOME_DAY = dt.datetime(2026, 1, 20, 10, tzinfo=dt.UTC)


def version(number: int, kind: str, **more: object) -> PriceVersion:
    usage = {"unit_price": "0.0125"} if kind == "usage" else {"unit_price": "30"}
    model = pricing.Model.per_unit if kind == "usage" else pricing.Model.fixed
    made = PriceVersion(
        id=UUID(int=number),
        plan_key="pro",
        price_key=f"{kind}-{number}",
        currency="EUR",
        metric="calls" if kind == "usage" else None,
        price=pricing.read(model, usage),
        description=None,
        effective_at=None,
        ended_at=None,
        kind=kind,
    )
    return replace(made, **more)


PLAIN = [version(1, "fixed"), version(2, "setup"), version(3, "usage"), version(4, "commitment")]
RAISED = dt.datetime(2026, 3, 11, 12, tzinfo=dt.UTC)
CUT = [
    version(5, "usage", ended_at=RAISED, price_key="calls"),
    version(6, "usage", effective_at=RAISED, price_key="calls"),
]
AHEAD = [version(7, "fixed", ahead=True)]


def subscription_of(currency: str) -> Subscription:
    return Subscription(
        id=UUID(int=9), tenant_id="acme", plan_key="pro", currency=currency, quantity=Decimal(1),
        effective_at=SOME_DAY, ended_at=None,
        cycle=billing.Cycle(Interval.month, Anchor.calendar, SOME_DAY.date()),
    )  # fmt: skip


begins = st.integers(-60, 100).map(lambda days: SOME_DAY + dt.timedelta(days=days))
subscriptions = st.builds(
    lambda begin, length, trial, owes_setup, seats: Subscription(
        id=ids.uuid7(begin),
        tenant_id="acme",
        plan_key="pro",
        currency="EUR",
        quantity=Decimal(2),
        effective_at=begin,
        ended_at=None if length is None else begin + dt.timedelta(days=length),
        cycle=billing.Cycle(Interval.month, Anchor.calendar, begin.date()),
        trial_ends_at=None if trial is None else begin + dt.timedelta(days=trial),
        owes_setup=owes_setup,
        seats=() if seats is None else (Seats(begin + dt.timedelta(days=seats), Decimal(3)),),
    ),
    begins,
    st.none() | st.integers(0, 90),
    st.none() | st.integers(1, 60),
    st.booleans(),
    st.none() | st.integers(0, 60),
)


@given(
    held=st.lists(st.lists(subscriptions, min_size=1, max_size=2), min_size=1, max_size=8),
    versions=st.sampled_from([PLAIN, [*PLAIN, *CUT], [*PLAIN, *AHEAD]]),
)
def test_what_many_are_charged_for_is_what_each_is_charged_for(
    held: list[list[Subscription]], versions: list[PriceVersion]
) -> None:
    prices = {("pro", "EUR"): versions}
    charging = Charging(prices)
    used = [pricing.total(Decimal("41.5"))] * 9

    for own in held:
        alone = billing.charges(own, prices, days=MARCH, zone=PARIS)
        found = charging.charges(own, days=MARCH, zone=PARIS)

        assert [replace(one, plain=None) for one in found] == alone
        assert billing.lines(found, used) == billing.lines(alone, used)


@given(held=st.lists(subscriptions, min_size=1, max_size=8), data=st.data())
def test_plain_lines_of_many_are_those_that_each_would_have(
    held: list[Subscription], data: st.DataObject
) -> None:
    """Several prices, one of them raised within the month: nothing but usage at plain prices."""
    prices = {("pro", "EUR"): [PLAIN[2], *CUT]}
    charging, groups = Charging(prices), dict[int, tuple[Alike, list[Subscription]]]()
    for one in held:
        found = charging.alike([one], days=MARCH, zone=PARIS)
        if found is not None and found[1].plain:
            groups.setdefault(id(found[1]), (found[1], []))[1].append(found[0])
    quantities = st.decimals(-(10**6), 10**6, places=3)

    for alike, members in groups.values():
        used = [[data.draw(quantities) for _ in members] for _ in alike.charges]
        found_lines = alike.lines([one.id for one in members], used)

        for one, lines, own in zip(members, found_lines, zip(*used, strict=True), strict=True):
            alone = billing.charges([one], prices, days=MARCH, zone=PARIS)
            assert lines == billing.lines(alone, map(pricing.total, own))


def test_what_is_not_usage_at_plain_prices_alone_is_not_priced_in_columns() -> None:
    held = subscription_of("EUR")
    for versions in ([PLAIN[0], PLAIN[2]], [PLAIN[3]], [], AHEAD):
        found = Charging({("pro", "EUR"): versions}).alike([held], days=MARCH, zone=PARIS)
        assert found is None or not found[1].plain


def test_a_subscription_that_was_billed_is_the_same_but_for_the_day() -> None:
    held = replace(
        subscription_of("EUR"), billed_until=SOME_DAY.date(), next_invoice_at=SOME_DAY,
        auto_renew=False, trial_ends_at=SOME_DAY, follows=UUID(int=4), owes_setup=False,
        fees_due_at=SOME_DAY, fees_from=SOME_DAY.date(), seats=(Seats(SOME_DAY, Decimal(3)),),
        ended_at=SOME_DAY,
    )  # fmt: skip

    assert held.billed(MARCH.after) == replace(held, billed_until=MARCH.after)


@given(
    quantity=st.decimals(-(10**15), 10**15, places=6) | st.integers().map(Decimal),
    unit_price=st.decimals(0, 10**6, places=12),
    currency=st.sampled_from(["EUR", "JPY", "KWD"]),
)
def test_a_plain_line_is_what_rating_makes_of_it(
    quantity: Decimal, unit_price: Decimal, currency: str
) -> None:
    price = pricing.read(pricing.Model.per_unit, {"unit_price": str(unit_price)})
    one = replace(PLAIN[2], price=price, currency=currency)
    held = subscription_of(currency)
    prices = {("pro", currency): [one]}
    (slow,) = billing.charges([held], prices, days=MARCH, zone=PARIS)
    (quick,) = Charging(prices).charges([held], days=MARCH, zone=PARIS)
    used = pricing.total(quantity)

    assert slow.plain is None
    assert quick.plain is not None
    assert billing.line(quick, used) == billing.line(slow, used)


@pytest.mark.parametrize("odd", ["NaN", "Infinity", "1E+1001", "1E-1001"])
def test_a_plain_line_refuses_what_is_no_amount(odd: str) -> None:
    held = subscription_of("EUR")
    (charge,) = Charging({("pro", "EUR"): [PLAIN[2]]}).charges([held], days=MARCH, zone=PARIS)

    with pytest.raises(money.AmountOutOfRange):
        billing.line(charge, pricing.total(Decimal(odd)))
