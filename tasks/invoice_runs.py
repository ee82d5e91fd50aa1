"""The billing run: every period that is over, every draft whose grace period is over."""

import datetime as dt
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypedDict, TypeVar
from uuid import UUID

from models import database, failures
from models.parking import Stage
from models.store import drafting, parked, subscription_due
from models.store.invoice import Header
from tasks import config, contract, fields, finalizing, invoicing, parking
from tasks.queues import Queue

CHUNK: Final = 500
"""Tenants in one transaction."""

DRAFTS: Final = 500
"""Drafts in one transaction: credit that pays one is locked until all are numbered, which takes
less than a second."""

RUN_SECONDS: Final = 100.0
"""When a run starts no further chunk: before Celery's soft limit; the next tick goes on."""

Answer = TypeVar("Answer")


class RunAnswer(TypedDict):
    """What a run did. `finished` is false when its time was up before its work was."""

    invoices: int
    failed: int
    finished: bool


class Faulty(Exception):
    """A chunk could not be worked off, because of at least one of its members."""

    def __init__(self, members: Sequence[Any]) -> None:
        super().__init__(f"{len(members)} could not be worked off together")
        self.members = members


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
    after, invoices, failed = "", 0, list[str]()
    waiting = [] if tenant_id is not None else _waiting(Stage.invoicing, as_of)
    until = time.monotonic() + RUN_SECONDS
    while time.monotonic() < until:
        try:
            claimed, made = _bill(as_of, after=after, only=tenant_id, excluding=[*waiting, *failed])
        except Faulty as faulty:
            claimed, made = faulty.members, _bill_one_by_one(faulty.members, as_of, failed)
        invoices += made
        if not claimed and not after:
            return {"invoices": invoices, "failed": len(failed), "finished": True}
        # A pass that found something is followed by another: a tenant may be many periods behind.
        after = claimed[-1] if claimed else ""
    return {"invoices": invoices, "failed": len(failed), "finished": False}


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
        drafts = _guarded(
            lambda: invoicing.invoice_due(session, timezones, now=now), list(timezones)
        )
        parking.unpark(session, Stage.invoicing, timezones.keys(), now=now)
    return list(timezones), len(drafts)


def _bill_one_by_one(tenant_ids: Sequence[str], now: dt.datetime, failed: list[str]) -> int:
    made = 0
    for tenant_id in tenant_ids:
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
        _guarded(lambda: finalizing.finalize(session, headers, now=now), headers)
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


def _guarded(work: Callable[[], Answer], members: Sequence[Any]) -> Answer:
    """Do the work of a chunk; turn its error into `Faulty`, unless the database is to blame."""
    try:
        return work()
    except Exception as error:
        if failures.is_retryable(error) or failures.is_unreachable(error):
            raise
        raise Faulty(members) from error


def _waiting(stage: Stage, now: dt.datetime) -> list[str]:
    """Tenants that are parked and not to be tried yet."""
    with database.transaction() as session:
        return parked.waiting(session, stage, now=now)
