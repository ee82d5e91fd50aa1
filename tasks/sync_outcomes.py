"""What becomes of an invoice after one try of one step: written down, told, and what comes next."""

import datetime as dt
from dataclasses import dataclass, replace
from enum import StrEnum, unique

import structlog

from models import database
from models.rules import syncing
from models.rules.syncing import Step
from models.store import invoice_sync, sync_facts, sync_health, sync_lease
from models.store.sync_claim import Leased
from models.store.sync_facts import Facts
from models.store.sync_lease import Attempt
from tasks.announce import OPERATOR, announce
from tasks.sync_steps import Work
from webhooks import events, retry
from webhooks.provider import Answer, Fault, Verdict

log = structlog.get_logger(__name__)


@unique
class Ended(StrEnum):
    """How a run's work on an invoice ended."""

    synced = "synced"
    put_off = "put_off"
    failed = "failed"
    lost = "lost"
    """The lease had ended: another run goes on with it."""


@dataclass(frozen=True, slots=True)
class Tried:
    """A step that was tried, when, and what came of it."""

    work: Work
    began: dt.datetime
    answer: Answer


def record(
    session: database.Session,
    tried: Tried,
    *,
    lease: dt.timedelta,
    random: float,
    waits_from: dt.datetime,
    now: dt.datetime,
) -> Work | Ended:
    """Write down what a try came to; return the next step, or how it ended.

    Args:
        random: in [0, 1), for the jitter.
        waits_from: when it ended; what waits is counted from there.
        now: the run's instant, of what is told.
    """
    leased, answer = tried.work.leased, tried.answer
    sync_lease.keep_attempt(session, leased, _attempt(tried))
    sync_health.note(session, provider=leased.provider, unwell=answer.unwell, now=waits_from)
    if answer.retry_after is not None:
        until = waits_from + answer.retry_after
        sync_health.hold(session, provider=leased.provider, until=until, now=now)
    if answer.verdict is Verdict.done and answer.remote is not None:
        return _done(session, tried, answer.remote.id, lease=lease, now=now)
    fault = answer.fault or Fault("provider.unexpected", "it said neither yes nor no")
    if answer.verdict is Verdict.refused:
        return _give_up(session, tried.work, fault, now=now)
    delay = _delay(tried, random)
    if delay is None:
        return _give_up(session, tried.work, fault, now=now)
    return _put_off(session, tried, fault, until=waits_from + delay, now=now)


def begin(
    session: database.Session, leased: Leased, facts: Facts, *, now: dt.datetime
) -> Work | Ended:
    """Return the first missing step of an invoice that was just leased, or how it ended."""
    standing = sync_facts.standings(session, [leased.invoice_id])[leased.invoice_id]
    todo = syncing.next_todo(standing, leased.done)
    if todo is not None:
        return Work(leased, facts, todo)
    # Woken for nothing that the provider is told, such as part of a payment.
    return _finish(session, leased, facts, tells=not leased.has_told, now=now)


def _done(
    session: database.Session,
    tried: Tried,
    remote_id: str,
    *,
    lease: dt.timedelta,
    now: dt.datetime,
) -> Work | Ended:
    work = tried.work
    done = sync_lease.keep_step(
        session, work.leased, step=work.todo.name, remote_id=remote_id, lease=lease, now=now
    )
    if work.todo.step is Step.customer:
        # Also if the lease is lost: it is the tenant's, whoever found it out.
        invoice_sync.know_customer(
            session,
            provider=work.leased.provider,
            tenant_id=work.leased.tenant_id,
            remote_id=remote_id,
            now=now,
        )
    if done is None:
        return Ended.lost
    leased = replace(work.leased, done=done, attempts=0)
    standing = sync_facts.standings(session, [leased.invoice_id])[leased.invoice_id]
    todo = syncing.next_todo(standing, done)
    if todo is None:
        return _finish(session, leased, work.facts, tells=True, now=now)
    facts = work.facts
    if todo.note_id is not None and todo.note_id not in facts.notes:
        read = sync_facts.read(session, [leased.invoice_id], provider=leased.provider)
        facts = read[leased.invoice_id]
    return Work(leased, facts, todo)


def _finish(
    session: database.Session, leased: Leased, facts: Facts, *, tells: bool, now: dt.datetime
) -> Ended:
    version = sync_lease.finish(session, leased, now=now)
    if version is None:
        return Ended.lost
    if tells:
        standing = sync_facts.standings(session, [leased.invoice_id])[leased.invoice_id]
        event = events.InvoiceSynced(
            tenant_id=leased.tenant_id,
            invoice_id=leased.invoice_id,
            number=facts.header.number or "",
            provider=leased.provider,
            remote_customer_id=leased.done[Step.customer],
            remote_invoice_id=leased.done[Step.invoice],
            state=standing.state.value,
            currency=facts.header.currency,
            amount_due_minor=facts.header.amount_due_minor,
        )
        announce(session, event, tenant_id=leased.tenant_id, sequence=version, now=now)
    return Ended.synced


def _give_up(session: database.Session, work: Work, fault: Fault, *, now: dt.datetime) -> Ended:
    leased = work.leased
    version = sync_lease.give_up(session, leased, code=fault.code, reason=fault.reason, now=now)
    if version is None:
        return Ended.lost
    event = events.InvoiceSyncFailed(
        tenant_id=leased.tenant_id,
        invoice_id=leased.invoice_id,
        number=work.facts.header.number or "",
        provider=leased.provider,
        step=work.todo.step.value,
        code=fault.code,
        reason=fault.reason,
        attempts=leased.attempts + 1,
    )
    announce(session, event, tenant_id=OPERATOR, sequence=version, now=now)
    log.warning(
        "invoice.sync_failed",
        invoice_id=str(leased.invoice_id),
        tenant_id=leased.tenant_id,
        step=work.todo.step.value,
        code=fault.code,
    )
    return Ended.failed


def _delay(tried: Tried, random: float) -> dt.timedelta | None:
    """How long to wait; None when the tries are spent."""
    if tried.answer.verdict is Verdict.blocked:
        return retry.LOOK_AGAIN_AFTER
    return retry.next_delay(
        tried.work.leased.attempts + 1, retry_after=tried.answer.retry_after, random=random
    )


def _put_off(
    session: database.Session,
    tried: Tried,
    fault: Fault,
    *,
    until: dt.datetime,
    now: dt.datetime,
) -> Ended:
    was_ours = sync_lease.put_off(
        session,
        tried.work.leased,
        until=until,
        spends=0 if tried.answer.verdict is Verdict.blocked else 1,
        code=fault.code,
        reason=fault.reason,
        now=now,
    )
    return Ended.put_off if was_ours else Ended.lost


def _attempt(tried: Tried) -> Attempt:
    answer = tried.answer
    return Attempt(
        step=tried.work.todo.name,
        attempted_at=tried.began,
        outcome=answer.verdict.value,
        status=answer.status,
        latency_ms=answer.latency_ms,
        code=None if answer.fault is None else answer.fault.code,
        error=None if answer.fault is None else answer.fault.reason,
    )
