"""Plans and the versions of their prices."""

import datetime as dt
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from sqlalchemy import func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import Session

from models.catalog import Plan, Price, PriceKind, Timing
from models.rules import billing, ids, pricing
from models.rules.period import Anchor, Interval
from models.rules.refusal import Refusal
from models.subscription import Subscription


class UnknownPlan(Refusal):
    """No plan has this key."""

    code: ClassVar[str] = "plan.unknown"


class PlanInUse(Refusal):
    """A plan's rhythm can not change under its subscriptions."""

    code: ClassVar[str] = "plan.in_use"


class PriceSetLater(Refusal):
    """A price has a version that starts at or after the instant of the change."""

    code: ClassVar[str] = "price.set_later"


@dataclass(frozen=True, slots=True)
class Terms:
    """What a price charges; two versions with equal terms are one."""

    price_key: str
    currency: str
    kind: PriceKind
    metric: str | None
    model: pricing.Model
    unit_amount: Decimal
    timing: Timing
    description: str | None


@dataclass(frozen=True, slots=True)
class _Change:
    ended: list[Price]
    started: list[Terms]


def get(session: Session, plan_key: str) -> Plan:
    """Return a plan.

    Raises:
        UnknownPlan: there is none by that key.
    """
    plan = session.get(Plan, plan_key)
    if plan is None:
        raise UnknownPlan(
            f"plan_key {plan_key!r} is unknown; make it with billing.set_plan", field="plan_key"
        )
    return plan


def lay(
    session: Session,
    plan_key: str,
    *,
    name: str,
    interval: Interval,
    anchor: Anchor,
    now: dt.datetime,
) -> bool:
    """Create the plan or change it; return whether it is new. Its row is locked from here on.

    Raises:
        PlanInUse: the rhythm would change and there are subscriptions.
    """
    values = {"plan_key": plan_key, "name": name, "interval": interval, "anchor": anchor}
    created = session.execute(
        pg_insert(Plan)
        .values(**values, created_at=now, updated_at=now)
        .on_conflict_do_nothing()
        .returning(Plan.plan_key)
    ).first()
    if created is not None:
        return True
    plan = session.scalars(select(Plan).where(Plan.plan_key == plan_key).with_for_update()).one()
    if (plan.interval, plan.anchor) != (interval, anchor):
        _check_unused(session, plan)
    plan.name, plan.interval, plan.anchor = name, interval.value, anchor.value
    if session.is_modified(plan):
        plan.version += 1
        plan.updated_at = now
        session.flush()
    return False


def set_prices(
    session: Session, plan_key: str, terms: Sequence[Terms], *, is_new: bool, now: dt.datetime
) -> None:
    """Make `terms` the plan's prices from `now` on. The plan's row must be locked.

    A price that changed or is not listed any more ends at `now`; a version is never edited. The
    first prices of a new plan apply from the beginning, so that a subscription may be backdated.

    Raises:
        PriceSetLater: a price to be changed has a version from `now` or later.
    """
    change = _compare(_latest(session, plan_key), terms, now)
    if change.ended:
        ended = [price.id for price in change.ended]
        session.execute(update(Price).where(Price.id.in_(ended)).values(ended_at=now))
    if change.started:
        effective_at = None if is_new else now
        rows = [_row(plan_key, one, effective_at, now) for one in change.started]
        session.execute(insert(Price), rows)


def current_prices(session: Session, plan_key: str) -> list[Price]:
    """Return the open versions of a plan's prices, by key and currency."""
    rows = session.scalars(
        select(Price)
        .where(Price.plan_key == plan_key, Price.ended_at.is_(None))
        .order_by(Price.price_key, Price.currency)
    )
    return list(rows)


def versions(
    session: Session, plan_keys: Sequence[str]
) -> Mapping[tuple[str, str], Sequence[billing.PriceVersion]]:
    """Return every version of the plans' prices, by plan and currency."""
    rows = session.execute(
        select(
            Price.id,
            Price.plan_key,
            Price.price_key,
            Price.currency,
            Price.metric,
            Price.model,
            Price.unit_amount,
            Price.description,
            Price.effective_at,
            Price.ended_at,
        ).where(Price.plan_key == func.any(list(plan_keys)))
    )
    found: dict[tuple[str, str], list[billing.PriceVersion]] = defaultdict(list)
    for row in rows:
        version = billing.PriceVersion(
            id=row.id,
            plan_key=row.plan_key,
            price_key=row.price_key,
            currency=row.currency,
            metric=row.metric,
            price=pricing.Price(pricing.Model(row.model), row.unit_amount),
            description=row.description,
            effective_at=row.effective_at,
            ended_at=row.ended_at,
        )
        found[version.plan_key, version.currency].append(version)
    return found


def _check_unused(session: Session, plan: Plan) -> None:
    used = session.scalars(
        select(Subscription.id).where(Subscription.plan_key == plan.plan_key).limit(1)
    ).first()
    if used is not None:
        raise PlanInUse(
            f"plan {plan.plan_key!r} has subscriptions, so it stays billed by {plan.interval} and "
            f"{plan.anchor}; make another plan for another rhythm",
            field="interval",
        )


def _latest(session: Session, plan_key: str) -> dict[tuple[str, str], Price]:
    """The last version of each price, open or ended."""
    rows = session.scalars(
        select(Price)
        .where(Price.plan_key == plan_key)
        .order_by(Price.effective_at.asc().nulls_first())
    )
    return {(price.price_key, price.currency): price for price in rows}


def _compare(
    latest: dict[tuple[str, str], Price], terms: Sequence[Terms], now: dt.datetime
) -> _Change:
    wanted = {(one.price_key, one.currency): one for one in terms}
    ended = [
        price
        for key, price in latest.items()
        if price.ended_at is None and (key not in wanted or wanted[key] != _terms(price))
    ]
    started = [
        one
        for key, one in wanted.items()
        if key not in latest or latest[key].ended_at is not None or latest[key] in ended
    ]
    for price in ended:
        _check_before(price, price.effective_at is not None and price.effective_at >= now, now)
    for one in started:
        old = latest.get((one.price_key, one.currency))
        if old is not None:
            _check_before(old, old.ended_at is not None and old.ended_at > now, now)
    return _Change(ended, started)


def _check_before(price: Price, is_later: bool, now: dt.datetime) -> None:
    if is_later:
        moment = price.ended_at or price.effective_at
        assert moment is not None  # noqa: S101 (only a bounded version is later than anything)
        raise PriceSetLater(
            f"price {price.price_key!r} in {price.currency} was last changed at "
            f"{moment.isoformat()}, and as_of is {now.isoformat()}; it must be after that",
            field="as_of",
        )


def _terms(price: Price) -> Terms:
    assert price.unit_amount is not None  # noqa: S101 (every model so far has one)
    return Terms(
        price_key=price.price_key,
        currency=price.currency,
        kind=PriceKind(price.kind),
        metric=price.metric,
        model=pricing.Model(price.model),
        unit_amount=price.unit_amount,
        timing=Timing(price.timing),
        description=price.description,
    )


def _row(
    plan_key: str, terms: Terms, effective_at: dt.datetime | None, now: dt.datetime
) -> dict[str, object]:
    return {
        "id": ids.uuid7(now),
        "plan_key": plan_key,
        "price_key": terms.price_key,
        "currency": terms.currency,
        "kind": terms.kind,
        "metric": terms.metric,
        "model": terms.model,
        "unit_amount": terms.unit_amount,
        "timing": terms.timing,
        "description": terms.description,
        "effective_at": effective_at,
        "created_at": now,
    }
