"""Referrals: who brought whom, without loops, and which order earned the bonus.

Locks are taken in one order: all attaching, or the referral's row; the order's row; balances by
(tenant_id, product_key).
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import func, insert, select, text, update
from sqlalchemy.orm import Session

from models.order import Order
from models.referral import Referral
from models.rules import ids
from models.rules.refusal import Refusal
from models.rules.states import OrderState

ATTACHING = 0x72656665
"""Key of the advisory lock under which tenants are attached, one after the other."""


class SelfReferral(Refusal):
    """Nobody brings themselves."""

    code: ClassVar[str] = "referral.self"


class AlreadyAttached(Refusal):
    """The tenant was brought by another one, or under another programme."""

    code: ClassVar[str] = "referral.already_attached"


class ReferralLoop(Refusal):
    """The referrer was brought by the referee, by way of others perhaps."""

    code: ClassVar[str] = "referral.loop"


class UnknownReferral(Refusal):
    """Nobody has brought this tenant."""

    code: ClassVar[str] = "referral.unknown"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two tenants: who brings, and who is brought."""

    referrer: str
    referee: str


@dataclass(frozen=True, slots=True)
class Stats:
    """Whom a tenant has brought: all of them, and those that brought their bonus."""

    referred: int
    rewarded: int


def attach(
    session: Session, pair: Pair, *, program_key: str, details: dict[str, Any], now: dt.datetime
) -> tuple[Referral, bool]:
    """Return the referral of two tenants, who must exist, and whether it is new.

    Raises:
        SelfReferral, AlreadyAttached, ReferralLoop: it can not be.
    """
    if pair.referrer == pair.referee:
        raise SelfReferral(
            f"tenant {pair.referee!r} can not bring itself; name another referrer_tenant_id",
            field="referrer_tenant_id",
        )
    # A loop is made by several who each see no loop, through any number of tenants: so one after
    # the other, all of them. It takes a millisecond, once in a tenant's life.
    session.execute(_LOCK, {"key": ATTACHING})
    known = find(session, pair.referee)
    if known is not None:
        if (known.referrer_tenant_id, known.program_key) != (pair.referrer, program_key):
            raise AlreadyAttached(
                f"tenant {pair.referee!r} was brought by {known.referrer_tenant_id!r} under "
                f"programme {known.program_key!r}; a tenant is brought once",
                field="tenant_id",
            )
        return known, False
    if session.scalars(_IS_ABOVE, {"referrer": pair.referrer, "referee": pair.referee}).one():
        raise ReferralLoop(
            f"tenant {pair.referrer!r} was itself brought by {pair.referee!r}, directly or by way "
            "of others; name another referrer_tenant_id",
            field="referrer_tenant_id",
        )
    referral_id = ids.uuid7(now)
    session.execute(
        insert(Referral).values(
            id=referral_id,
            referrer_tenant_id=pair.referrer,
            referee_tenant_id=pair.referee,
            program_key=program_key,
            details=details,
            created_at=now,
        )
    )
    return session.get_one(Referral, referral_id), True


def find(session: Session, referee_tenant_id: str) -> Referral | None:
    """Return how a tenant was brought."""
    return session.scalars(
        select(Referral).where(Referral.referee_tenant_id == referee_tenant_id)
    ).one_or_none()


def lock(session: Session, referee_tenant_id: str) -> Referral:
    """Return how a tenant was brought, as it is and stays until the transaction ends.

    Raises:
        UnknownReferral: nobody has brought it.
    """
    found = session.scalars(
        select(Referral)
        .where(Referral.referee_tenant_id == referee_tenant_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one_or_none()
    if found is None:
        raise UnknownReferral(
            f"nobody has brought tenant {referee_tenant_id!r}; say who did with "
            "billing.attach_referral",
            field="tenant_id",
        )
    return found


def first_paid_at(session: Session, tenant_id: str) -> dt.datetime | None:
    """Return when a tenant first paid money for an order, whatever has become of the order."""
    return session.scalars(
        select(func.min(Order.paid_at)).where(Order.tenant_id == tenant_id, Order.total_minor > 0)
    ).one()


def lock_first_paid(session: Session, tenant_id: str) -> UUID | None:
    """Return the first order that a tenant paid money for and was not given back, locked."""
    return session.scalars(
        select(Order.id)
        .where(
            Order.tenant_id == tenant_id,
            Order.state == OrderState.paid.value,
            Order.total_minor > 0,
        )
        .order_by(Order.paid_at, Order.id)
        .limit(1)
        .with_for_update(key_share=True)
    ).one_or_none()


def claim(
    session: Session,
    referral: Referral,
    *,
    order_id: UUID,
    referrer_batch_ids: Sequence[UUID],
    referee_batch_ids: Sequence[UUID],
    now: dt.datetime,
) -> Referral:
    """Enter that a locked referral brought its bonus, and return it."""
    session.execute(
        update(Referral)
        .where(Referral.id == referral.id, Referral.claimed_at.is_(None))
        .values(
            order_id=order_id,
            claimed_at=now,
            referrer_batch_ids=list(referrer_batch_ids),
            referee_batch_ids=list(referee_batch_ids),
            version=Referral.version + 1,
        )
    )
    session.refresh(referral)
    return referral


def stats(session: Session, tenant_id: str) -> Stats:
    """Return how many a tenant has brought."""
    row = session.execute(
        select(func.count().label("referred"), func.count(Referral.claimed_at).label("rewarded"))
        .select_from(Referral)
        .where(Referral.referrer_tenant_id == tenant_id)
    ).one()
    return Stats(row.referred, row.rewarded)


def list_page(
    session: Session,
    *,
    referrer_tenant_id: str | None,
    rewarded: bool | None,
    before: UUID | None,
    most: int,
) -> Sequence[Referral]:
    """Return referrals, newest first, at most `most` of those made before the one `before`."""
    statement = select(Referral).order_by(Referral.id.desc()).limit(most)
    if referrer_tenant_id is not None:
        statement = statement.where(Referral.referrer_tenant_id == referrer_tenant_id)
    if rewarded is not None:
        is_claimed = Referral.claimed_at.is_not(None)
        statement = statement.where(is_claimed if rewarded else ~is_claimed)
    if before is not None:
        statement = statement.where(Referral.id < before)
    return session.scalars(statement).all()


_LOCK = text("SELECT pg_advisory_xact_lock(:key)")

# UNION, not UNION ALL: a loop that a merge of tenants might have made is walked once.
_IS_ABOVE = text("""
WITH RECURSIVE above (tenant_id) AS (
    SELECT CAST(:referrer AS text)
    UNION
    SELECT referral.referrer_tenant_id
    FROM referrals AS referral JOIN above ON referral.referee_tenant_id = above.tenant_id
)
SELECT EXISTS (SELECT FROM above WHERE tenant_id = :referee)
""")
