"""Tenants that can not be billed: parked with a reason, listed, tried again, and nobody waits."""

import datetime as dt
from collections.abc import Collection
from typing import Annotated, Any, TypedDict
from uuid import UUID

import structlog
from pydantic import Field

from models import database
from models.parking import ParkedTenant, Stage
from models.rules.refusal import Refusal
from models.store import parked
from tasks import contract, fields
from tasks.announce import OPERATOR, Announcement, announce, announce_all
from tasks.queues import Queue
from webhooks import events

LARGEST_PAGE = 1_000

log = structlog.get_logger(__name__)


class ParkedAnswer(TypedDict):
    """A tenant that waits. `stage` is what could not be done; `tries` how often, so far."""

    tenant_id: str
    stage: str
    code: str
    reason: str
    invoice_id: UUID | None
    tries: int
    parked_at: dt.datetime
    tried_at: dt.datetime
    next_try_at: dt.datetime


class ParkedPage(TypedDict):
    """Parked tenants, the longest parked first."""

    parked: list[ParkedAnswer]


class RetryAnswer(TypedDict):
    """What the tenant was parked for; empty if it was not parked."""

    tenant_id: str
    stages: list[str]


@contract.command("billing.list_parked", queue=Queue.billing)
def list_parked(
    session: database.Session,
    *,
    tenant_id: fields.TenantId | None = None,
    limit: Annotated[int, Field(ge=1, le=LARGEST_PAGE)] = 100,
    as_of: fields.Instant = contract.NOW,  # noqa: ARG001 (every task takes it)
) -> ParkedPage:
    """List the tenants that can not be billed, the longest parked first, and say why.

    Runs when an operator asks. Twice is harmless and so is dying half way: it only reads.

    Args:
        tenant_id: only this one.
        limit: at most so many, 1 to 1,000.
    """
    found = parked.listed(session, tenant_id=tenant_id, limit=limit)
    return {"parked": [_answer(one) for one in found]}


@contract.command("billing.retry_parked", queue=Queue.billing)
def retry_parked(
    session: database.Session,
    *,
    tenant_id: fields.TenantId,
    as_of: fields.Instant = contract.NOW,
) -> RetryAnswer:
    """Let the next run try a parked tenant again, without waiting for its time.

    Runs when an operator has mended what was wrong. Twice is harmless: it is due already. If it
    dies half way nothing has changed.

    Args:
        tenant_id: which one.
    """
    stages = parked.make_due(session, tenant_id, now=as_of)
    return {"tenant_id": tenant_id, "stages": [stage.value for stage in stages]}


def park(
    tenant_id: str,
    stage: Stage,
    error: BaseException,
    *,
    invoice_id: UUID | None = None,
    now: dt.datetime,
) -> None:
    """Put a tenant aside, in a transaction of its own, and say so the first time."""
    code = error.code if isinstance(error, Refusal) else "unexpected"
    fault = parked.Fault(tenant_id, stage, code, _reason(error), invoice_id)
    with database.transaction() as session:
        put = parked.put(session, fault, now=now)
        if put.tries == 1:
            event = events.BillingParked(
                tenant_id=tenant_id,
                stage=stage.value,
                code=code,
                reason=fault.reason,
                invoice_id=invoice_id,
            )
            announce(session, event, tenant_id=OPERATOR, sequence=put.version, now=now)
    log.warning("billing.parked", tenant_id=tenant_id, stage=stage.value, code=code)


def unpark(
    session: database.Session, stage: Stage, tenant_ids: Collection[str], *, now: dt.datetime
) -> None:
    """Take back those of the tenants that were parked, now that it worked, and say so."""
    resumed = [
        Announcement(
            events.BillingResumed(tenant_id=one.tenant_id, stage=stage.value), OPERATOR, one.version
        )
        for one in parked.take_back(session, stage, tenant_ids, now=now)
    ]
    announce_all(session, resumed, now=now)


def _answer(one: ParkedTenant) -> Any:
    return {
        "tenant_id": one.tenant_id,
        "stage": one.stage,
        "code": one.code,
        "reason": one.reason,
        "invoice_id": one.invoice_id,
        "tries": one.tries,
        "parked_at": one.parked_at,
        "tried_at": one.tried_at,
        "next_try_at": one.next_try_at,
    }


def _reason(error: BaseException) -> str:
    """The first line of an error: what follows it in PostgreSQL's may quote the row."""
    cause = getattr(error, "orig", None) or error
    first = (str(cause).splitlines() or [""])[0][:500]
    return first if isinstance(cause, Refusal) else f"{type(cause).__name__}: {first}"
