"""Referrals: who brought whom, and how many that were."""

import datetime as dt
from typing import Annotated, Any, ClassVar, TypedDict
from uuid import UUID

from pydantic import Field

from models import database
from models.referral import Referral
from models.rules.refusal import Refusal
from models.store import alias, referral, referral_program, tenant
from models.store.referral import Pair
from tasks import contract, fields, paging
from tasks.announce import announce
from tasks.queues import Queue
from tasks.referral_programs import DEFAULT, ProgramKey
from webhooks import events

LONGEST_PAGE = 1_000
"""Referrals in one answer."""


class InactiveProgram(Refusal):
    """The referral programme takes no new referrals."""

    code: ClassVar[str] = "referral_program.inactive"


class ReferralAnswer(TypedDict):
    """A referral. `order_id` is the order that brought the bonus, at `claimed_at`."""

    referral_id: UUID
    referrer_tenant_id: str
    referee_tenant_id: str
    program_key: str
    attached_at: dt.datetime
    order_id: UUID | None
    claimed_at: dt.datetime | None
    metadata: dict[str, Any]


class ReferralStats(TypedDict):
    """Whom a tenant has brought, by what came of it; and who has brought the tenant, and how."""

    tenant_id: str
    referred: int
    rewarded: int
    pending: int
    brought_by: ReferralAnswer | None


class ReferralList(TypedDict):
    """One page of referrals, newest first. `next_cursor` leads to older ones; None on the last."""

    referrals: list[ReferralAnswer]
    next_cursor: str | None


@contract.command("billing.attach_referral", queue=Queue.billing)
def attach_referral(
    session: database.Session,
    *,
    tenant_id: fields.TenantId,
    referrer_tenant_id: fields.TenantId,
    program_key: ProgramKey = DEFAULT,
    metadata: fields.Metadata | None = None,
    as_of: fields.Instant = contract.NOW,
) -> ReferralAnswer:
    """Say that one tenant was brought by another.

    Runs when somebody signs up by another's invitation. Who is brought is created if nobody has
    introduced it; who brings must be known. Twice is harmless: the same two are one referral, and
    are answered with it. If it dies half way nobody was brought, and the message comes back. Emits
    billing.referral_attached, to the referrer's endpoints.

    Refused with code `referral.self`, `referral.already_attached` (by another, or under another
    programme), `referral.loop`, `tenant.unknown`, `referral_program.unknown` or
    `referral_program.inactive`.

    Args:
        tenant_id: who was brought, the referee.
        referrer_tenant_id: who brought it.
        program_key: the programme that says what both get.
        metadata: kept with the referral.
    """
    referrer = alias.follow(session, tenant.get(session, referrer_tenant_id).tenant_id, hold=True)
    program = referral_program.get(session, program_key)
    tenant.ensure(session, tenant_id, now=as_of)
    pair = Pair(referrer=referrer, referee=tenant_id)
    attached, is_new = referral.attach(
        session, pair, program_key=program_key, details=metadata or {}, now=as_of
    )
    if is_new and not program.active:
        raise InactiveProgram(
            f"programme {program_key!r} takes no new referrals; activate it with "
            "billing.set_referral_program, or name another",
            field="program_key",
        )
    if is_new:
        event = events.ReferralAttached(
            referral_id=attached.id,
            referrer_tenant_id=referrer,
            referee_tenant_id=tenant_id,
            program_key=program_key,
        )
        announce(session, event, tenant_id=referrer, sequence=1, now=as_of)
    return answer(attached)


@contract.command("billing.get_referral_stats", queue=Queue.billing)
def get_referral_stats(session: database.Session, *, tenant_id: fields.TenantId) -> ReferralStats:
    """Tell how many tenants one has brought, and who has brought it.

    Runs when somebody asks. It changes nothing, so twice or half way does no harm. Refused with
    code `tenant.unknown`.

    Args:
        tenant_id: whose referrals.
    """
    tenant.get(session, tenant_id)
    found = referral.stats(session, tenant_id)
    brought = referral.find(session, tenant_id)
    return {
        "tenant_id": tenant_id,
        "referred": found.referred,
        "rewarded": found.rewarded,
        "pending": found.referred - found.rewarded,
        "brought_by": None if brought is None else answer(brought),
    }


@contract.command("billing.list_referrals", queue=Queue.billing)
def list_referrals(
    session: database.Session,
    *,
    referrer_tenant_id: fields.TenantId | None = None,
    rewarded: bool | None = None,
    cursor: paging.Cursor | None = None,
    limit: Annotated[int, Field(ge=1, le=LONGEST_PAGE)] = 100,
) -> ReferralList:
    """List referrals, newest first.

    Runs when somebody asks. It changes nothing, so twice or half way does no harm. A referral that
    is made while the list is read is newer than its first page. Refused with code `cursor.invalid`.

    Args:
        referrer_tenant_id: of those whom this tenant has brought.
        rewarded: only those that brought their bonus, or only those that have not; absent, both.
        cursor: `next_cursor` of the page before, with the other arguments unchanged.
        limit: referrals on one page, 1 to 1,000.
    """
    query = {"referrer_tenant_id": referrer_tenant_id, "rewarded": rewarded}
    found = referral.list_page(
        session,
        referrer_tenant_id=referrer_tenant_id,
        rewarded=rewarded,
        before=paging.read(cursor, query, UUID),
        most=limit + 1,
    )
    page = found[:limit]
    return {
        "referrals": [answer(one) for one in page],
        "next_cursor": paging.write(query, page[-1].id) if len(found) > limit else None,
    }


def answer(found: Referral) -> ReferralAnswer:
    """Return what to tell of a referral."""
    return {
        "referral_id": found.id,
        "referrer_tenant_id": found.referrer_tenant_id,
        "referee_tenant_id": found.referee_tenant_id,
        "program_key": found.program_key,
        "attached_at": found.created_at,
        "order_id": found.order_id,
        "claimed_at": found.claimed_at,
        "metadata": found.details,
    }
