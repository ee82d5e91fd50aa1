"""Charges become lines: each is priced, and a commitment made up for."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal

from models.rules import period, pricing
from models.rules.billing.charge import Charge
from models.rules.billing.invoice_line import Line
from models.rules.billing.price_version import COMMITMENT, FIXED, SETUP, USAGE
from models.rules.billing.spans import Days
from models.rules.period import Period


def lines(
    charged: Sequence[Charge], used: Iterable[pricing.Usage], ahead: Sequence[Line] = ()
) -> list[Line]:
    """Price the charges of one invoice, in their order.

    A commitment is charged with what is missing to it: its share of the period, less what the other
    lines of its subscription come to that begin on its days. A setup fee does not count.

    Args:
        used: what was used, for each charge with a metric, in their order.
        ahead: what was charged ahead for the same period.
    """
    of_charge, found = iter(used), list[Line]()
    for charge in charged:
        usage = pricing.NOTHING if charge.version.metric is None else next(of_charge)
        one = line(charge, usage)
        if one.kind == COMMITMENT:
            one = _missing(one, _reach(charge, charged), [*ahead, *found])
        found.append(one)
    return found


def line(charge: Charge, usage: pricing.Usage) -> Line:
    """Price a charge. `usage` is what was used of its metric on its days; a fee ignores it.

    A fee is charged for the subscription's quantity (seats) and, where it was in force on some
    days of the period only, for their share. A setup fee and a commitment are those of the whole
    subscription, and a setup fee is never shared out. Usage is not prorated, it was counted on
    those days; its price's tiers, allowances and limits are, unless the price says otherwise.
    A line over no usage is kept, with an amount of 0: it shows that the metric was looked at.
    Raises money.UnknownCurrency, money.AmountOutOfRange.
    """
    if charge.plain is not None and len(usage.parts) == 1:
        return charge.plain.line(charge.subscription.id, usage.quantity)
    version, subscription = charge.version, charge.subscription
    share = charge.share
    if version.metric is not None:
        rated = pricing.rate(version.price, usage, subscription.currency, share=share)
        return _line(charge, rated)
    if version.kind == SETUP:
        share = pricing.WHOLE
    seats = subscription.quantity if version.kind == FIXED else Decimal(1)
    rated = pricing.fee(version.price, seats, subscription.currency, share=share)
    return _line(charge, rated)


def total(lines: Sequence[Line]) -> int:
    """The sum of the rounded lines, in minor units: what a reader adds up is what is owed."""
    return sum(one.amount_minor for one in lines)


def _reach(charge: Charge, charged: Sequence[Charge]) -> Period | None:
    """When the usage begins that counts for a commitment; None if none may.

    Usage is of whole days: where seconds count, that of the day on which a commitment begins is its
    own, and not that of the one before.
    """
    if isinstance(charge.part, Days):
        return charge.period
    days = charge.days
    goes_on = any(
        other.version.kind == COMMITMENT
        and other.subscription.id == charge.subscription.id
        and other.part.starts_at(charge.zone) == charge.part.after
        for other in charged
    )
    if goes_on:
        days = Days(days.first, period.local_day(charge.part.after, charge.zone))
    return None if days.is_over_before_it_begins(charge.shown) else days.period(charge.shown)


def _missing(minimum: Line, usage: Period | None, others: Sequence[Line]) -> Line:
    reached = sum(
        one.amount_minor
        for one in others
        if one.subscription_id == minimum.subscription_id
        and one.kind in (FIXED, USAGE)
        and (reach := minimum.period if one.kind == FIXED else usage) is not None
        and reach.contains(one.period.start)
    )
    return replace(
        minimum,
        quantity=Decimal(1),
        unit_amount=None,
        amount_minor=max(0, minimum.amount_minor - reached),
        details={
            **{key: part for key, part in minimum.details.items() if key != "steps"},
            "commitment_minor": minimum.amount_minor,
            "reached_minor": reached,
        },
    )


def _line(charge: Charge, rated: pricing.Line) -> Line:
    version = charge.version
    details = charge.details
    if not rated.is_plain:
        details = {**details, "steps": pricing.as_json(rated.steps)}
    return Line(
        kind=version.kind,
        subscription_id=charge.subscription.id,
        price_id=version.id,
        metric=version.metric,
        description=version.description or version.price_key,
        quantity=rated.quantity,
        unit_amount=rated.unit_amount,
        amount_minor=rated.amount_minor,
        period=charge.period,
        details=details,
    )
