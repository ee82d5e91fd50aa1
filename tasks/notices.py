"""Telling tenants that their credit is low, or about to expire."""

import datetime as dt
import time
from collections.abc import Callable
from typing import Annotated, ClassVar, Final, TypedDict

from pydantic import Field

from models import database
from models.catalog import ProductType
from models.rules.decimals import plain
from models.rules.refusal import Refusal
from models.store import notice, product, tenant
from models.store.notice import Expiring, Low
from tasks import contract, fields
from tasks.announce import Announcement, announce_all
from tasks.queues import Queue
from webhooks import events

MOST_NOTICES: Final = 10
"""Thresholds, or days, of one tenant and product."""

CHUNK: Final = 1_000
"""Products of tenants that are looked at in one transaction."""

EXPIRING_CHUNK: Final = 5_000
"""Batches that are told in one transaction: finding them reads all that end soon."""

RUN_SECONDS: Final = 20.0
"""How long one run goes on; the next bell takes up what is left."""

Thresholds = Annotated[list[fields.UnitAmount], Field(max_length=MOST_NOTICES)]
Days = Annotated[list[Annotated[int, Field(ge=1, le=365)]], Field(max_length=MOST_NOTICES)]


class NotCounted(Refusal):
    """Credit of this type is never low: use takes nothing away."""

    code: ClassVar[str] = "notice.not_counted"


class Notices(TypedDict):
    """What a tenant is told of a product."""

    product_key: str
    low: list[str]
    expiring_days: list[int]


class NoticesAnswer(TypedDict):
    """What a tenant is told, by product."""

    tenant_id: str
    notices: list[Notices]


class NoticeRun(TypedDict):
    """What a run did. `finished` is false when its time was up before its work was."""

    looked_at: int
    told: int
    finished: bool


@contract.command("billing.set_notices", queue=Queue.billing)
def set_notices(
    session: database.Session,
    *,
    tenant_id: fields.TenantId,
    product_key: fields.ProductKey,
    low: Thresholds | None = None,
    expiring_days: Days | None = None,
    as_of: fields.Instant = contract.NOW,
) -> NoticesAnswer:
    """Say what a tenant is to be told of a product: exactly this, or nothing.

    Runs when a producer or an operator sends it. The tenant is created if nobody has introduced
    it. Twice is harmless: the same again changes nothing. If it dies half way nothing has changed.

    billing.low_credits comes, within seconds, when the available amount falls to a threshold or
    below it: once for each threshold and crossing, and again only after the amount has been above
    it. What is low already when it is first asked for crosses nothing. billing.expiring_credits
    comes once for each batch and number of days, when so many times 24 hours are left; a batch that
    never had so much time is not told by that number.

    Refused with code `product.unknown`, or `notice.not_counted` for thresholds of a product of type
    period or unlimited.

    Args:
        tenant_id: who is told.
        product_key: of which product.
        low: thresholds, at most 10, each 0 or more.
        expiring_days: days ahead, at most 10, each 1 to 365.
    """
    found = product.get(session, product_key)
    if low and found.type != ProductType.quantity.value:
        raise NotCounted(
            f"product {product_key!r} is of type {found.type!r}, of which nothing is used up; "
            "leave low out",
            field="low",
        )
    tenant.ensure(session, tenant_id, now=as_of)
    wanted = notice.Wanted(
        tenant_id, product_key, sorted(set(low or [])), sorted(set(expiring_days or []))
    )
    notice.put(session, wanted, now=as_of)
    return _answer(session, tenant_id)


@contract.command("billing.get_notices", queue=Queue.billing)
def get_notices(session: database.Session, *, tenant_id: fields.TenantId) -> NoticesAnswer:
    """Tell what a tenant is told of its credit, by product.

    Runs when somebody asks. It changes nothing, so twice or half way does no harm. Refused with
    code `tenant.unknown`.

    Args:
        tenant_id: who is told.
    """
    tenant.get(session, tenant_id)
    return _answer(session, tenant_id)


@contract.job("billing.notify_low_credits", queue=Queue.billing)
def notify_low_credits(*, as_of: fields.Instant = contract.NOW) -> NoticeRun:
    """Tell of available amounts that fell to a threshold or below it.

    Beat rings it every five seconds. It looks at those products of tenants with thresholds whose
    balance has changed since the last look, or whose credit began or ended meanwhile, and compares
    the amount with the one it saw then. Spending is not slowed by it. What goes down and up again
    between two looks is not told, nor is what goes up and down. Twice or at the same time is
    harmless: a look is remembered with its event. If it dies what was committed stays and the rest
    is looked at by the next one. Emits billing.low_credits.
    """

    def look(session: database.Session) -> tuple[int, list[Announcement]]:
        looked_at, lows = notice.look(session, now=as_of, limit=CHUNK)
        return looked_at, [_of_low(low) for low in lows]

    return _run(look, CHUNK, as_of)


@contract.job("billing.notify_expiring_credits", queue=Queue.billing)
def notify_expiring_credits(*, as_of: fields.Instant = contract.NOW) -> NoticeRun:
    """Tell of batches that will end within the days that their tenants asked for.

    Beat rings it every ten minutes. Twice or at the same time is harmless: a batch is told once by
    each number of days, which a unique row proves. If it dies what was committed stays and the rest
    is told by the next one. After a downtime only the nearest number is told of each batch. Emits
    billing.expiring_credits.
    """

    def tell(session: database.Session) -> tuple[int, list[Announcement]]:
        marked, found = notice.tell_expiring(session, now=as_of, limit=EXPIRING_CHUNK)
        return marked, [_of_expiring(one) for one in found]

    return _run(tell, EXPIRING_CHUNK, as_of)


def _run(
    work: Callable[[database.Session], tuple[int, list[Announcement]]],
    chunk: int,
    now: dt.datetime,
) -> NoticeRun:
    """Do the work chunk by chunk, each in one transaction with what it tells."""
    until = time.monotonic() + RUN_SECONDS
    looked_at = told = 0
    while time.monotonic() < until:
        with database.transaction() as session:
            count, announcements = work(session)
            announce_all(session, announcements, now=now)
        looked_at += count
        told += len(announcements)
        if count < chunk:
            return {"looked_at": looked_at, "told": told, "finished": True}
    return {"looked_at": looked_at, "told": told, "finished": False}


def _of_low(low: Low) -> Announcement:
    event = events.LowCredits(
        tenant_id=low.tenant_id,
        product_key=low.product_key,
        threshold=low.threshold,
        available=low.available,
    )
    return Announcement(event, low.tenant_id, low.version)


def _of_expiring(one: Expiring) -> Announcement:
    event = events.ExpiringCredits(
        tenant_id=one.tenant_id,
        product_key=one.product_key,
        batch_id=one.batch_id,
        amount=one.amount,
        expires_at=one.expires_at,
        days=one.days,
    )
    return Announcement(event, one.tenant_id, one.version)


def _answer(session: database.Session, tenant_id: str) -> NoticesAnswer:
    return {
        "tenant_id": tenant_id,
        "notices": [
            {
                "product_key": one.product_key,
                "low": [plain(threshold) for threshold in one.low],
                "expiring_days": list(one.expiring_days),
            }
            for one in notice.of_tenant(session, tenant_id)
        ],
    }
