"""What an audit of credit found: told to the operator by event, log, metric and advice."""

import datetime as dt
from collections.abc import Sequence
from typing import TypedDict
from uuid import UUID

import pydantic_core
import structlog

from models import database
from models.rules import decimals
from models.store import inbox
from models.store.credit_audit import Finding
from tasks import metrics
from tasks.announce import OPERATOR, Announcement, announce_all
from webhooks import events

OPERATION = "billing.audit"

ADVICE = {
    "ledger": "the balance was changed past the ledger; the entries are the truth: correct "
    "credit_balances.balance to what they come to",
    "batches": "a batch was changed without its balance; see which by the findings of check "
    "'batch' and correct that one",
    "debt": "the debt was changed past the ledger; correct credit_balances.debt to what the "
    "entries without a batch come to",
    "held": "the balance and its batches differ in what is held; see the findings of check "
    "'holds', then correct credit_balances.held to the sum of the batches",
    "holds": "what is held of the batch is not what its open reservations set aside; correct "
    "credit_batches.held_amount to their sum",
    "slices": "the reservation does not say what it set aside; correct reservations.amount to the "
    "sum of its reservation_slices",
    "batch": "the batch was changed past the ledger; correct credit_batches.remaining_amount to "
    "what its entries come to",
    "remaining": "more was taken from the batch than it had, or more put back than was granted; "
    "see its entries in ledger_entries",
    "set_aside": "more is held of the batch than remains; see its open reservations",
    "chain": "an entry is missing, was added or was changed at or before this one; compare "
    "ledger_entries with a backup or with the ledger lines in the logs",
}
"""What an operator is to do about each check."""

log = structlog.get_logger(__name__)


class FindingAnswer(TypedDict):
    """Two figures that should be equal and are not: what was compared, where, and what to do."""

    check: str
    tenant_id: str
    product_key: str
    batch_id: UUID | None
    entry_id: int | None
    reservation_id: UUID | None
    expected: str
    actual: str
    advice: str


def answer(finding: Finding) -> FindingAnswer:
    """Return a finding as tasks answer it."""
    return {
        "check": finding.check,
        "tenant_id": finding.tenant_id,
        "product_key": finding.product_key,
        "batch_id": finding.batch_id,
        "entry_id": finding.entry_id,
        "reservation_id": finding.reservation_id,
        "expected": decimals.plain(finding.expected),
        "actual": decimals.plain(finding.actual),
        "advice": ADVICE[finding.check],
    }


def tell(findings: Sequence[Finding], *, now: dt.datetime) -> None:
    """Log each finding, count them, and announce those that were not announced on this day yet.

    The event is the operator's alone: no tenant's endpoint gets it.
    """
    if not findings:
        return
    for finding in findings:
        log.error("credit.audit_failed", **pydantic_core.to_jsonable_python(answer(finding)))
        metrics.CREDIT_FINDINGS.add(check=finding.check)
    with database.transaction() as session:
        new = [finding for finding in findings if _is_new(session, finding, now)]
        announce_all(session, [_announcement(finding) for finding in new], now=now)


def _is_new(session: database.Session, finding: Finding, now: dt.datetime) -> bool:
    """Doubled rings, and an operator who looks again, are not to tell the same once more."""
    where = finding.entry_id or finding.reservation_id or finding.batch_id
    key = inbox.hash_request([finding.check, finding.product_key, str(where)]).hex()
    call = inbox.Call(
        tenant_id=finding.tenant_id,
        operation=OPERATION,
        key=f"{now.astimezone(dt.UTC):%Y-%m-%d} {key}",
        request_hash=b"",
    )
    if inbox.find_answer(session, call, now=now) is not None:
        return False
    inbox.keep_answer(session, call, {"told": True})
    return True


def _announcement(finding: Finding) -> Announcement:
    event = events.AuditFailed(
        tenant_id=finding.tenant_id,
        product_key=finding.product_key,
        check=finding.check,
        batch_id=finding.batch_id,
        entry_id=finding.entry_id,
        reservation_id=finding.reservation_id,
        expected=finding.expected,
        actual=finding.actual,
        advice=ADVICE[finding.check],
    )
    return Announcement(event, OPERATOR, 1)
