"""What keeps prepaid credit in order: what is over is written off, and the books are audited."""

import time
from collections.abc import Sequence
from typing import TypedDict

import structlog

from models import database
from models.store import credit_audit, credit_expiry
from tasks import contract, fields
from tasks.announce import Announcement, announce_all
from tasks.queues import Queue
from webhooks import events

EXPIRY_CHUNK = 2_000
"""Batches that one transaction of the expiry sweep writes off at most."""

EXPIRY_SECONDS = 45.0
"""How long one sweep goes on. Beat rings every minute: the next one takes up what is left."""

log = structlog.get_logger(__name__)


class Sweep(TypedDict):
    """What an expiry sweep did. `finished` is false when its time was up before its work."""

    expired: int
    passed_over: int
    finished: bool


class Audit(TypedDict):
    """Whether ledger, batches and balances agree; at most 1,000 findings."""

    ok: bool
    findings: Sequence[credit_audit.Finding]


@contract.job("billing.expire_batches", queue=Queue.billing)
def expire_batches(*, as_of: fields.Instant = contract.NOW) -> Sweep:
    """Write off what remains of every batch whose time is over.

    Beat rings it every minute. It walks through what is due in chunks, one transaction each, until
    nothing is left or its time is up. Twice or at the same time is harmless: a batch ends once, and
    a balance that somebody else has locked is passed over until the next ring. If it dies half way
    the chunks behind it stay done. Being late costs nothing: expired credit can not be spent
    whether it was swept or not. Emits billing.credits_expired for each batch that had something
    left, and billing.product_deactivated when a tenant has nothing usable since.
    """
    deadline = time.monotonic() + EXPIRY_SECONDS
    expired = passed_over = 0
    behind: credit_expiry.Place | None = credit_expiry.BEGINNING
    while behind is not None and time.monotonic() < deadline:
        with database.transaction() as session:
            chunk = credit_expiry.expire_chunk(
                session, behind=behind, at_most=EXPIRY_CHUNK, now=as_of
            )
            announce_all(session, _what_expiry_tells(chunk), now=as_of)
        expired += len(chunk.expired)
        passed_over += chunk.passed_over
        behind = chunk.behind
    return {"expired": expired, "passed_over": passed_over, "finished": behind is None}


@contract.job("billing.audit", queue=Queue.billing)
def audit() -> Audit:
    """Prove that the ledger, the batches and the balances agree.

    Runs when an operator asks. It reads one snapshot of everything and changes nothing, so twice
    or half way does no harm. Each finding is also logged as an error.
    """
    with database.transaction() as session:
        findings = credit_audit.audit(session)
    for finding in findings:
        log.error("credit.audit", check=finding.check, tenant_id=finding.tenant_id)
    return {"ok": not findings, "findings": findings}


def _what_expiry_tells(chunk: credit_expiry.Chunk) -> list[Announcement]:
    ended = [
        Announcement(
            events.CreditsExpired(
                tenant_id=batch.tenant_id,
                product_key=batch.product_key,
                batch_id=batch.batch_id,
                amount=batch.amount,
                balance=batch.balance,
                expires_at=batch.expires_at,
            ),
            batch.tenant_id,
            batch.version,
        )
        for batch in chunk.expired
    ]
    deactivated = [
        Announcement(
            events.ProductDeactivated(
                tenant_id=gone.tenant_id, product_key=gone.product_key, reason="expired"
            ),
            gone.tenant_id,
            gone.version,
        )
        for gone in chunk.depleted
    ]
    return ended + deactivated
