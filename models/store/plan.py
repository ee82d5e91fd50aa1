"""Plans and the versions of their prices."""

import datetime as dt
from typing import ClassVar

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import Session

from models.catalog import Plan
from models.rules.period import Anchor, Interval
from models.rules.proration import Proration
from models.rules.refusal import Refusal
from models.subscription import Subscription


class UnknownPlan(Refusal):
    """No plan has this key."""

    code: ClassVar[str] = "plan.unknown"


class PlanInUse(Refusal):
    """A plan's rhythm and its proration can not change under its subscriptions."""

    code: ClassVar[str] = "plan.in_use"


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


def listed(session: Session, *, after: str, limit: int) -> list[Plan]:
    """Return plans by key, from the one that follows `after`."""
    found = select(Plan).where(Plan.plan_key > after).order_by(Plan.plan_key).limit(limit)
    return list(session.scalars(found))


def hold(session: Session, plan_key: str) -> None:
    """Lock a plan's row until the transaction ends.

    Raises:
        UnknownPlan: there is none by that key.
    """
    session.execute(select(Plan.plan_key).where(Plan.plan_key == plan_key).with_for_update())
    get(session, plan_key)


def lay(
    session: Session,
    plan_key: str,
    *,
    name: str,
    interval: Interval,
    anchor: Anchor,
    proration: Proration = Proration.day,
    now: dt.datetime,
) -> bool:
    """Create the plan or change it; return whether it is new. Its row is locked from here on.

    Raises:
        PlanInUse: the rhythm or the proration would change and there are subscriptions.
    """
    values = {
        "plan_key": plan_key,
        "name": name,
        "interval": interval,
        "anchor": anchor,
        "proration": proration,
    }
    created = session.execute(
        pg_insert(Plan)
        .values(**values, created_at=now, updated_at=now)
        .on_conflict_do_nothing()
        .returning(Plan.plan_key)
    ).first()
    if created is not None:
        return True
    plan = session.scalars(select(Plan).where(Plan.plan_key == plan_key).with_for_update()).one()
    if (plan.interval, plan.anchor, plan.proration) != (interval, anchor, proration):
        changes = "proration" if plan.proration != proration else "interval"
        _check_unused(session, plan, changes)
    plan.name, plan.interval, plan.anchor = name, interval.value, anchor.value
    plan.proration = proration.value
    if session.is_modified(plan):
        plan.version += 1
        plan.updated_at = now
        session.flush()
    return False


def _check_unused(session: Session, plan: Plan, field: str) -> None:
    used = session.scalars(
        select(Subscription.id).where(Subscription.plan_key == plan.plan_key).limit(1)
    ).first()
    if used is not None:
        raise PlanInUse(
            f"plan {plan.plan_key!r} has subscriptions, so it stays billed by {plan.interval} and "
            f"{plan.anchor}, and prorated by the {plan.proration}; make another plan for another "
            "rhythm or proration",
            field=field,
        )
