"""Drafts while usage arrives: computed anew, and told when that changes them."""

import datetime as dt
import time
from collections.abc import Sequence
from typing import Final, TypedDict

import structlog

from models import database
from models.rules.refusal import Refusal
from models.store import drafting, late_drawn
from tasks import contract, fields, invoicing
from tasks.faulty import Faulty, guarded
from tasks.queues import Queue

CHUNK: Final = 200
"""Tenants in one transaction."""

RUN_SECONDS: Final = 50.0
"""When a run starts no further chunk; the next tick goes on."""

log = structlog.get_logger(__name__)


class RefreshAnswer(TypedDict):
    """What a run did: drafts computed anew, and tenants whose drafts could not be."""

    drafts: int
    failed: int
    finished: bool


@contract.job("billing.refresh_drafts", queue=Queue.billing)
def refresh_drafts(*, as_of: fields.Instant = contract.NOW) -> RefreshAnswer:
    """Compute drafts anew whose tenants' usage was counted since, and tell which changed.

    Beat runs it every minute: `billing.invoice.updated` is told when a draft says something else,
    and who looks at one sees what it comes to by now. It does not need this to be billed rightly:
    finalization computes each draft a last time. Any number of workers may run it at once: each
    claims tenants that no other holds. Twice is harmless: what drafts show is marked. If it dies,
    what was committed stays. A tenant whose drafts can not be computed stops nobody else; the log
    says who and why, the next run tries again, and finalization parks it.
    """
    after, drafts, failed = "", 0, 0
    until = time.monotonic() + RUN_SECONDS
    # One pass: of a tenant whose usage keeps coming, what came meanwhile is the next run's.
    while time.monotonic() < until:
        try:
            tenant_ids, computed = _refresh(as_of, after=after)
        except Faulty as faulty:
            tenant_ids = faulty.members
            computed, faults = _one_by_one(tenant_ids, as_of)
            failed += faults
        if not tenant_ids:
            return {"drafts": drafts, "failed": failed, "finished": True}
        after, drafts = tenant_ids[-1], drafts + computed
    return {"drafts": drafts, "failed": failed, "finished": False}


def _refresh(
    now: dt.datetime, *, after: str = "", only: str | None = None
) -> tuple[Sequence[str], int]:
    """Compute the drafts of one chunk in one transaction; its tenants, and how many drafts."""
    with database.transaction() as session:
        tenant_ids = late_drawn.claim(session, limit=CHUNK, after=after, only=only)
        if not tenant_ids:
            return [], 0
        return tenant_ids, guarded(lambda: _computed(session, tenant_ids, now), tenant_ids)


def _computed(session: database.Session, tenant_ids: Sequence[str], now: dt.datetime) -> int:
    # Before anything is counted: what is noticed from here on, the next run looks at.
    noticed = late_drawn.not_drawn(session, tenant_ids)
    drafts = drafting.of_tenants(session, tenant_ids)
    invoicing.refresh(session, drafts, now=now)
    late_drawn.mark(session, noticed)
    return len(drafts)


def _one_by_one(tenant_ids: Sequence[str], now: dt.datetime) -> tuple[int, int]:
    """How many drafts were computed, and of how many tenants they could not be."""
    drafts = failed = 0
    for tenant_id in tenant_ids:
        try:
            drafts += _refresh(now, only=tenant_id)[1]
        except Faulty as faulty:
            failed += 1
            error = faulty.__cause__
            code = error.code if isinstance(error, Refusal) else type(error).__name__
            log.warning("drafts.not_refreshed", tenant_id=tenant_id, code=code)
    return drafts, failed
