"""The credit that plans give, and the versions of its terms."""

import datetime as dt
from collections.abc import Sequence
from typing import Any, ClassVar

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from models.allocation import PlanCredit
from models.rules import ids
from models.rules.allocation import Rollover, Terms, Version
from models.rules.refusal import Refusal
from models.store import product


class CreditSetLater(Refusal):
    """A plan's credit has a version that starts or ends after the instant of the change."""

    code: ClassVar[str] = "plan_credit.set_later"


def set_terms(
    session: Session, plan_key: str, wanted: Sequence[Terms], *, is_new: bool, now: dt.datetime
) -> bool:
    """Make `wanted` what the plan gives from `now` on; return whether anything changed.

    The plan's row must be locked. What changed or is not listed any more ends at `now`; a version
    is never edited. The first terms of a new plan apply from the beginning, so that a subscription
    may be backdated.

    Raises:
        UnknownProduct: there is no product by that key.
        CreditSetLater: terms to be changed have a version from `now` or later.
    """
    for terms in wanted:
        product.get(session, terms.product_key)
    latest = _latest(session, plan_key)
    listed = {terms.product_key: terms for terms in wanted}
    ended = [
        row
        for key, row in latest.items()
        if row.ended_at is None and listed.get(key) != _terms(row)
    ]
    started = [
        terms
        for key, terms in listed.items()
        if key not in latest or latest[key].ended_at is not None or latest[key] in ended
    ]
    _check_order(latest, ended, started, now)
    if ended:
        ended_ids = [row.id for row in ended]
        session.execute(update(PlanCredit).where(PlanCredit.id.in_(ended_ids)).values(ended_at=now))
    if started:
        effective_at = None if is_new else now
        session.execute(
            insert(PlanCredit), [_row(plan_key, terms, effective_at, now) for terms in started]
        )
    return bool(ended or started)


def current(session: Session, plan_key: str) -> list[Terms]:
    """Return what a plan gives from now on, by product."""
    return [version.terms for version in versions(session, plan_key) if version.ended_at is None]


def versions(session: Session, plan_key: str) -> list[Version]:
    """Return every version of what a plan gives, by product and then by time."""
    rows = session.scalars(
        select(PlanCredit)
        .where(PlanCredit.plan_key == plan_key)
        .order_by(PlanCredit.product_key, PlanCredit.effective_at.asc().nulls_first())
    )
    return [Version(row.id, _terms(row), row.effective_at, row.ended_at) for row in rows]


def _latest(session: Session, plan_key: str) -> dict[str, PlanCredit]:
    rows = session.scalars(
        select(PlanCredit)
        .where(PlanCredit.plan_key == plan_key)
        .order_by(PlanCredit.effective_at.asc().nulls_first())
    )
    return {row.product_key: row for row in rows}


def _check_order(
    latest: dict[str, PlanCredit],
    ended: Sequence[PlanCredit],
    started: Sequence[Terms],
    now: dt.datetime,
) -> None:
    for row in ended:
        if row.effective_at is not None and row.effective_at >= now:
            raise _set_later(row.product_key, row.effective_at, now)
    for terms in started:
        before = latest.get(terms.product_key)
        if before is not None and before.ended_at is not None and before.ended_at > now:
            raise _set_later(terms.product_key, before.ended_at, now)


def _set_later(product_key: str, moment: dt.datetime, now: dt.datetime) -> CreditSetLater:
    return CreditSetLater(
        f"credit of {product_key!r} was last changed at {moment.isoformat()}, and as_of is "
        f"{now.isoformat()}; it must be after that",
        field="as_of",
    )


def _terms(row: PlanCredit) -> Terms:
    return Terms(
        product_key=row.product_key,
        limit=row.credit_limit,
        validity_days=row.validity_days,
        rollover=Rollover(row.rollover),
        cap=row.rollover_cap,
        prorate_first=row.prorate_first,
    )


def _row(
    plan_key: str, terms: Terms, effective_at: dt.datetime | None, now: dt.datetime
) -> dict[str, Any]:
    return {
        "id": ids.uuid7(now),
        "plan_key": plan_key,
        "product_key": terms.product_key,
        "credit_limit": terms.limit,
        "validity_days": terms.validity_days,
        "rollover": terms.rollover.value,
        "rollover_cap": terms.cap,
        "prorate_first": terms.prorate_first,
        "effective_at": effective_at,
        "created_at": now,
    }
