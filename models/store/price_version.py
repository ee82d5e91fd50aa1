"""Versions of prices: what a plan charged, charges and will charge."""

import datetime as dt
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import Row, func, insert, or_, select, update
from sqlalchemy.orm import Session

from models.catalog import Price, PriceKind, Timing
from models.rules import billing, ids, pricing
from models.rules.refusal import Refusal


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
    price: pricing.Price
    timing: Timing
    description: str | None


@dataclass(frozen=True, slots=True)
class _Change:
    ended: list[Price]
    started: list[Terms]


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


def listed(
    session: Session,
    *,
    plan_key: str | None,
    in_force_at: dt.datetime | None,
    after: UUID | None,
    limit: int,
) -> list[Price]:
    """Return versions in the order in which they were set, from the one that follows `after`.

    Args:
        plan_key: of one plan only.
        in_force_at: only those in force at an instant.
    """
    statement = select(Price).order_by(Price.id).limit(limit)
    if plan_key is not None:
        statement = statement.where(Price.plan_key == plan_key)
    if after is not None:
        statement = statement.where(Price.id > after)
    if in_force_at is not None:
        statement = statement.where(
            or_(Price.effective_at.is_(None), Price.effective_at <= in_force_at),
            or_(Price.ended_at.is_(None), Price.ended_at > in_force_at),
        )
    return list(session.scalars(statement))


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
            Price.kind,
            Price.metric,
            Price.model,
            Price.unit_amount,
            Price.params,
            Price.timing,
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
            price=read(row),
            description=row.description,
            effective_at=row.effective_at,
            ended_at=row.ended_at,
            kind=row.kind,
            ahead=row.timing == Timing.advance,
        )
        found[version.plan_key, version.currency].append(version)
    return found


def has_ahead(session: Session, plan_key: str, currency: str) -> bool:
    """Tell whether a plan charges ahead, or ever did, in a currency."""
    found = select(Price.id).where(
        Price.plan_key == plan_key, Price.currency == currency, Price.timing == Timing.advance
    )
    return session.scalars(found.limit(1)).first() is not None


def current_terms(session: Session, plan_key: str) -> list[Terms]:
    """Return what a plan's open prices charge."""
    return [_terms(price) for price in current_prices(session, plan_key)]


def read(row: Price | Row[Any]) -> pricing.Price:
    """Return the price in a row."""
    single = {} if row.unit_amount is None else {"unit_price": row.unit_amount}
    return pricing.read(pricing.Model(row.model), {**row.params, **single})


def params(price: pricing.Price) -> dict[str, Any]:
    """Return what a row says of a price beside its `unit_amount`."""
    written = pricing.write(price)
    if price.unit_price is not None:
        del written["unit_price"]
    return written


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
    return Terms(
        price_key=price.price_key,
        currency=price.currency,
        kind=PriceKind(price.kind),
        metric=price.metric,
        price=read(price),
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
        "model": terms.price.model,
        "unit_amount": terms.price.unit_price,
        "params": params(terms.price),
        "timing": terms.timing,
        "description": terms.description,
        "effective_at": effective_at,
        "created_at": now,
    }
