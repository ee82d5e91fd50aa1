"""What waits, for how long, and whether the nightly checks looked and what they found."""

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Final

from models.check import Check
from models.store import health
from models.store.check import Run
from models.store.due import MOST_COUNTED, Due
from worker.health.finding import Area, Finding, Verdict, ago

OVERDUE: Final = dt.timedelta(minutes=5)
"""Work that waits longer than this is not merely busy."""

PATIENCE: Final[Mapping[str, dt.timedelta]] = {
    "billing.bill_late_usage": dt.timedelta(hours=1),
    "billing.generate_invoices": dt.timedelta(minutes=25),
    "billing.finalize_invoices": dt.timedelta(minutes=25),
}
"""For jobs that beat rings seldom, or that have a month's end before them: beyond it they stand."""

CHECKED_WITHIN: Final = dt.timedelta(hours=30)
"""Checks run every night; a night's run may take its time."""

MORE_WORKERS: Final = "check the workers and beat; more of them: `docker compose up --scale`"

CHECKS: Final[Mapping[Check, tuple[str, str, str]]] = {
    Check.usage: ("usage re-count", "billing.recount_usage", "billing.usage_drifted"),
    Check.quotas: ("quota re-count", "billing.recount_quotas", "billing.quota_drifted"),
    Check.credit: ("credit audit", "billing.audit", "billing.audit_failed"),
}
"""How each check is called, what runs it, and the event that tells what it found."""


def of_backlog(waiting: health.Backlog, now: dt.datetime) -> Iterator[Finding]:
    """Judge what waits, by how long it does."""
    yield _days(waiting.touched_days)
    yield queue("outbox", waiting.outbox_pending, waiting.outbox_oldest, now, MORE_WORKERS)
    yield queue(
        "deliveries due", waiting.deliveries_due, waiting.delivery_oldest, now, MORE_WORKERS
    )
    yield _waits_for_somebody(
        "dead deliveries",
        waiting.deliveries_dead,
        "see `billing delivery list --state dead`, then `billing delivery replay`",
    )
    yield _waits_for_somebody(
        "rejected messages", waiting.rejected_open, "see `billing rejected list`"
    )
    yield _waits_for_somebody(
        "parked tenants", waiting.tenants_parked, "`billing invoice parked` says why"
    )
    resting = f"{waiting.endpoints_resting:,} left alone for a while, because of how they answered"
    remedy = "see `billing endpoint list`" if waiting.endpoints_resting else ""
    yield Finding(Area.backlog, "endpoints resting", Verdict.ok, resting, remedy)


def of_jobs(jobs: Mapping[str, Due], *, now: dt.datetime, closed_by: dt.datetime) -> Finding:
    """Judge what periodic jobs have to do, by how long it is due.

    Args:
        closed_by: as of `due.by_job`: what is due then waits since then.
    """
    late = {
        job: age
        for job, one in jobs.items()
        if (age := _overdue(job, one, now, closed_by)) > OVERDUE
    }
    if not late:
        busy = sum(one.waiting > 0 for one in jobs.values())
        return Finding(Area.backlog, "jobs", Verdict.ok, f"{busy} have work, none is overdue")
    named = ", ".join(f"{job} ({jobs[job].waiting:,}, {ago(age)})" for job, age in late.items())
    return Finding(Area.backlog, "jobs", Verdict.warn, f"overdue: {named}", MORE_WORKERS)


def of_checks(runs: Mapping[Check, Run], now: dt.datetime) -> Iterator[Finding]:
    """Judge when the nightly checks last ran to their end, and what they found."""
    for check in Check:
        subject, task, event = CHECKS[check]
        run = runs.get(check)
        if run is None:
            remedy = f"wait for the first night, or run `billing call {task}` now"
            yield Finding(Area.checks, subject, Verdict.warn, "never ran to its end", remedy)
            continue
        yield _of_run(check, run, now, subject=subject, task=task, event=event)


def queue(
    subject: str, count: int, oldest: dt.datetime | None, now: dt.datetime, remedy: str
) -> Finding:
    """Judge a queue by the age of what waits longest in it."""
    age = now - oldest if oldest is not None else dt.timedelta(0)
    if age <= OVERDUE:
        return Finding(Area.backlog, subject, Verdict.ok, f"{count:,} waiting")
    detail = f"{count:,} waiting, the oldest for {ago(age)}"
    return Finding(Area.backlog, subject, Verdict.warn, detail, remedy)


def _days(touched: int) -> Finding:
    detail = f"{touched:,} to roll up"
    if touched < MOST_COUNTED:
        return Finding(Area.backlog, "touched days", Verdict.ok, detail)
    detail = f"{touched:,} or more to roll up"
    return Finding(Area.backlog, "touched days", Verdict.warn, detail, MORE_WORKERS)


def _waits_for_somebody(subject: str, count: int, remedy: str) -> Finding:
    if not count:
        return Finding(Area.backlog, subject, Verdict.ok, "none")
    return Finding(Area.backlog, subject, Verdict.warn, f"{count:,} open", remedy)


def _overdue(job: str, one: Due, now: dt.datetime, closed_by: dt.datetime) -> dt.timedelta:
    if one.oldest is None:
        return dt.timedelta(0)
    # A draft is due when its grace is over, not when its period is.
    since = closed_by if job == "billing.finalize_invoices" else now
    return since - one.oldest - PATIENCE.get(job, dt.timedelta(0))


def _of_run(
    check: Check, run: Run, now: dt.datetime, *, subject: str, task: str, event: str
) -> Finding:
    detail = f"ran {ago(now - run.began_at)} ago, {run.findings:,} findings"
    if check is Check.credit and run.findings:
        remedy = "`billing audit` says which and what to do"
        return Finding(Area.checks, subject, Verdict.fail, detail, remedy)
    if check is not Check.credit and run.findings_in_week:
        detail += f", {run.findings_in_week:,} in a week, mended when found"
        remedy = f"find out who has been at the tables; the events {event} and the logs say where"
        return Finding(Area.checks, subject, Verdict.warn, detail, remedy)
    if now - run.began_at > CHECKED_WITHIN:
        remedy = f"is beat alive at night? Run `billing call {task}` now"
        return Finding(Area.checks, subject, Verdict.warn, detail, remedy)
    return Finding(Area.checks, subject, Verdict.ok, detail)
