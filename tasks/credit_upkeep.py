"""What keeps prepaid credit in order: what is over is written off, and the books are audited."""

import datetime as dt
import time
from collections import Counter
from typing import TypedDict

from celery import current_app

from models import database
from models.check import Check
from models.store import credit_audit, credit_claim, credit_expiry, reservation_expiry
from tasks import checking, config, contract, credit_findings, credit_news, fields
from tasks.announce import announce_all, in_rows, told
from tasks.credit_findings import FindingAnswer
from tasks.queues import Queue
from webhooks import events

EXPIRY_CHUNK = 1_000
"""Balances that one transaction of the expiry sweep locks at most: with a batch it comes by, it
takes others of the same balance along."""

HOLDS_CHUNK = 500
"""Holds that one transaction gives back at most."""

EXPIRY_SECONDS = 45.0
"""How long one sweep goes on. Beat rings again soon: the next one takes up what is left."""

AUDIT_SECONDS = 90.0
"""After this an audit begins no further chunk: below Celery's limits."""


class Sweep(TypedDict):
    """What a sweep did. `finished` is false when its time was up before its work."""

    expired: int
    passed_over: int
    finished: bool


class Audit(TypedDict):
    """Whether ledger, batches, holds and balances agree; at most 1,000 findings.

    `next_after` is None if every account was looked at, or else where a further run goes on.
    """

    ok: bool
    findings: list[FindingAnswer]
    next_after: list[str] | None


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
    behind: credit_claim.Place | None = credit_claim.BEGINNING
    while behind is not None and time.monotonic() < deadline:
        with database.transaction() as session:
            chunk = credit_expiry.expire_chunk(
                session,
                behind=behind,
                at_most=EXPIRY_CHUNK,
                tellings=_what_expiry_tells(EXPIRY_CHUNK, as_of),
                now=as_of,
            )
            told(session, Counter(chunk.told))
        expired += chunk.expired
        passed_over += chunk.passed_over
        behind = chunk.behind
    return {"expired": expired, "passed_over": passed_over, "finished": behind is None}


@contract.job("billing.expire_reservations", queue=Queue.billing)
def expire_reservations(*, as_of: fields.Instant = contract.NOW) -> Sweep:
    """Give back what holds have set aside whose time is over.

    Beat rings it every 15 seconds. It walks through what is due in chunks, one transaction each,
    until nothing is left or its time is up. Twice or at the same time is harmless: of commit,
    release and this one wins, and a balance that somebody else has locked is passed over until the
    next ring. If it dies half way the chunks behind it stay done. Being late costs nothing: a hold
    whose time is over can not be charged, and who needs the credit gets it, swept or not. What goes
    back to a batch that has expired meanwhile is written off at once. Emits
    billing.reservation_released with reason `expired`, and billing.credits_expired for what was
    written off.
    """
    deadline = time.monotonic() + EXPIRY_SECONDS
    expired = passed_over = 0
    behind: credit_claim.Place | None = credit_claim.BEGINNING
    while behind is not None and time.monotonic() < deadline:
        with database.transaction() as session:
            chunk = reservation_expiry.expire_chunk(
                session, behind=behind, at_most=HOLDS_CHUNK, now=as_of
            )
            announce_all(session, credit_news.of_ended(chunk.ended), now=as_of)
        expired += len(chunk.ended)
        passed_over += chunk.passed_over
        behind = chunk.behind
    return {"expired": expired, "passed_over": passed_over, "finished": behind is None}


@contract.job("billing.audit", queue=Queue.billing)
def audit(*, after: tuple[str, str] = ("", ""), as_of: fields.Instant = contract.NOW) -> Audit:
    """Prove that the ledger, the batches, the holds and the balances agree.

    Beat rings it every night, and `billing audit` runs it. It reads account after account, each as
    of one instant, and corrects nothing, so twice or half way does no harm. Nothing should ever be
    found: each finding is logged as an error with what to do about it, counted, and announced to
    the operator's endpoints as billing.audit_failed, once a day. If its time is up it rings itself
    to go on. That it ran is remembered, for `billing doctor`.

    Args:
        after: tenant_id and product_key of the account after which to begin: `next_after` of a run
            whose time was up.
    """
    deadline = time.monotonic() + AUDIT_SECONDS
    findings: list[credit_audit.Finding] = []
    behind: credit_audit.Account | None = credit_audit.Account(*after)
    while behind is not None and time.monotonic() < deadline:
        with database.transaction() as session:
            chunk = credit_audit.audit_chunk(session, behind=behind)
        credit_findings.tell(chunk.findings, now=as_of)
        findings += chunk.findings
        behind = chunk.behind
    next_after = None if behind is None else [behind.tenant_id, behind.product_key]
    checking.enter(
        Check.credit,
        began_at=as_of,
        after=after,
        is_last=next_after is None,
        findings=len(findings),
    )
    if next_after is not None and config.current().kick:
        current_app.send_task(
            "billing.audit", kwargs={"after": next_after, "as_of": as_of.isoformat()}
        )
    return {
        "ok": not findings,
        "findings": [
            credit_findings.answer(finding) for finding in findings[: credit_audit.MOST_FINDINGS]
        ],
        "next_after": next_after,
    }


def _what_expiry_tells(at_most: int, now: dt.datetime) -> credit_expiry.Tellings:
    """In the order in which they are to be heard."""
    most = credit_expiry.most_told(at_most)
    return credit_expiry.Tellings(
        expired=in_rows(events.CreditsExpired, at_most=most, now=now),
        depleted=in_rows(events.ProductDeactivated, at_most=most, now=now),
    )
