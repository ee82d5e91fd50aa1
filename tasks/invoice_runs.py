"""The billing run: every period that is over, every draft whose grace period is over."""

import datetime as dt
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Final, TypedDict
from uuid import UUID

from models import database
from models.parking import Stage
from models.store import drafting, parked, subscription_due
from models.store.invoice import Header
from tasks import config, contract, fields, finalizing, invoicing, parking
from tasks.faulty import Faulty, guarded
from tasks.queues import Queue

CHUNK: Final = 500
"""Tenants in one transaction."""

DRAFTS: Final = 500
"""Drafts in one transaction: credit that pays one is locked until all are numbered, which takes
less than a second."""

LANES: Final = 2
"""Chunks that one billing run works at: one is priced here while PostgreSQL works at the other."""

RUN_SECONDS: Final = 100.0
"""When a run starts no further chunk: before Celery's soft limit; the next tick goes on."""


class RunAnswer(TypedDict):
    """What a run did. `finished` is false when its time was up before its work was."""

    invoices: int
    failed: int
    finished: bool


@contract.job("billing.generate_invoices", queue=Queue.billing)
def generate_invoices(
    *, tenant_id: fields.TenantId | None = None, as_of: fields.Instant = contract.NOW
) -> RunAnswer:
    """Make a draft invoice for every billing period that is over and has none, oldest first.

    Beat runs it every ten minutes, since months end at different hours in different zones. Any
    number of workers may run it at once: each claims tenants that no other holds. Twice is
    harmless: a period has one invoice. If it dies, what was committed stays and the rest is still
    due. A tenant that can not be invoiced is parked with the reason (`billing.list_parked`), stops
    nobody else, and is tried again by later runs.

    Args:
        tenant_id: only this tenant, also if it is parked; absent, all.
    """
    return _Billing(as_of, only=tenant_id).run()


class _Billing:
    """One billing run: a chunk, and then, if that was a full one, chunk after chunk in lanes."""

    def __init__(self, now: dt.datetime, *, only: str | None) -> None:
        self._now, self._only = now, only
        self._waiting = [] if only is not None else _waiting(Stage.invoicing, now)
        self._until = time.monotonic() + RUN_SECONDS
        # Of all lanes: what one could not invoice is left alone by the others. A chunk that failed
        # is free before its tenants are tried by themselves, and may fail in another lane as well:
        # such chunks take turns, and a tenant that had its try gets no second one.
        self._failed: list[str] = []
        self._apart = threading.Lock()

    def run(self) -> RunAnswer:
        """Bill until nothing is due, or the time is over."""
        after, invoices, is_full = self._chunk("")
        more = min(LANES, database.width()) - 1 if is_full else 0
        with ThreadPoolExecutor(LANES, thread_name_prefix="billing") as threads:
            others = [threads.submit(copy_context().run, self._lane, after) for _ in range(more)]
            done = [self._lane(after), *(other.result() for other in others)]
        return {
            "invoices": invoices + sum(made for made, _ in done),
            "failed": len(self._failed),
            "finished": all(is_over for _, is_over in done),
        }

    def _lane(self, after: str) -> tuple[int, bool]:
        """Bill chunks of what no other lane and no other worker holds, until a pass from the first
        tenant on finds none; return how many invoices that made, and whether it came to its end.
        """
        invoices = 0
        try:
            while time.monotonic() < self._until:
                before = after
                after, made, _ = self._chunk(before)
                invoices += made
                # A pass that found something is followed by another: a tenant may be many periods
                # behind.
                if not before and not after:
                    return invoices, True
        except BaseException:
            # What it is goes to the run's caller; no other lane needs to begin with more.
            self._until = 0.0
            raise
        return invoices, False

    def _chunk(self, after: str) -> tuple[str, int, bool]:
        """Bill the next tenants; return the last of them, "" if there was none, how many invoices
        they got, and whether there were as many as a chunk may have.
        """
        excluding = [*self._waiting, *self._failed]
        try:
            claimed, made = _bill(self._now, after=after, only=self._only, excluding=excluding)
        except Faulty as faulty:
            claimed = faulty.members
            with self._apart:
                made = _bill_one_by_one(claimed, self._now, self._failed)
        return claimed[-1] if claimed else "", made, len(claimed) == CHUNK


@contract.job("billing.finalize_invoices", queue=Queue.billing)
def finalize_invoices(*, as_of: fields.Instant = contract.NOW) -> RunAnswer:
    """Finalize every draft whose grace period is over: a last look at its usage, then a number. One
    on which nothing is left to be billed is withdrawn and gets none; it is counted all the same.

    Beat runs it every ten minutes. Any number of workers may run it at once; numbers have no gaps,
    because a transaction that fails gives its numbers back. Twice is harmless: what is finalized
    is no draft any more. If it dies, what was committed stays and the rest is still a draft. The
    tenant of a draft that can not be finalized is parked with the reason (`billing.list_parked`)
    and stops no other: its later drafts wait, so that its numbers follow its periods.
    """
    ended_by = as_of - config.current().invoice_grace
    invoices, failed = 0, list[str]()
    waiting = _waiting(Stage.finalization, as_of)
    until = time.monotonic() + RUN_SECONDS
    while time.monotonic() < until:
        try:
            done = _finalize(as_of, ended_by=ended_by, excluding=[*waiting, *failed])
        except Faulty as faulty:
            done = _finalize_one_by_one(faulty.members, as_of, ended_by, failed)
            invoices += done
            continue
        invoices += done
        if not done:
            return {"invoices": invoices, "failed": len(failed), "finished": True}
    return {"invoices": invoices, "failed": len(failed), "finished": False}


def _bill(
    now: dt.datetime, *, after: str = "", only: str | None = None, excluding: Sequence[str] = ()
) -> tuple[Sequence[str], int]:
    """Invoice one chunk in one transaction; return its tenants and how many invoices they got."""
    with database.transaction() as session:
        timezones = subscription_due.claim_due_tenants(
            session, now=now, limit=CHUNK, after=after, only=only, excluding=excluding
        )
        drafts = guarded(
            lambda: invoicing.invoice_due(session, timezones, now=now), list(timezones)
        )
        parking.unpark(session, Stage.invoicing, timezones.keys(), now=now)
    return list(timezones), len(drafts)


def _bill_one_by_one(tenant_ids: Sequence[str], now: dt.datetime, failed: list[str]) -> int:
    made = 0
    for tenant_id in tenant_ids:
        if tenant_id in failed:
            continue
        try:
            made += _bill(now, only=tenant_id)[1]
        except Faulty as faulty:
            failed.append(tenant_id)
            parking.park(tenant_id, Stage.invoicing, faulty.__cause__ or faulty, now=now)
    return made


def _finalize(
    now: dt.datetime,
    *,
    ended_by: dt.datetime,
    excluding: Sequence[str] = (),
    only: UUID | None = None,
) -> int:
    """Finalize one chunk in one transaction; return how many invoices that were."""
    with database.transaction() as session:
        headers = drafting.claim_drafts(
            session, ended_by=ended_by, limit=DRAFTS, excluding=excluding, only=only
        )
        guarded(lambda: finalizing.finalize(session, headers, now=now), headers)
        tenant_ids = {header.tenant_id for header in headers}
        parking.unpark(session, Stage.finalization, tenant_ids, now=now)
    return len(headers)


def _finalize_one_by_one(
    headers: Sequence[Header], now: dt.datetime, ended_by: dt.datetime, failed: list[str]
) -> int:
    done = 0
    for header in headers:
        if header.tenant_id in failed:
            continue
        try:
            done += _finalize(now, ended_by=ended_by, only=header.id)
        except Faulty as faulty:
            failed.append(header.tenant_id)
            parking.park(
                header.tenant_id,
                Stage.finalization,
                faulty.__cause__ or faulty,
                invoice_id=header.id,
                now=now,
            )
    return done


def _waiting(stage: Stage, now: dt.datetime) -> list[str]:
    """Tenants that are parked and not to be tried yet."""
    with database.transaction() as session:
        return parked.waiting(session, stage, now=now)
