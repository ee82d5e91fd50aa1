"""Late usage of tenants that get no other invoice: more is invoiced, less is credited."""

import datetime as dt
import time
from collections.abc import Sequence
from typing import Final, TypedDict

from models import database, failures
from models.invoice import InvoiceKind
from models.parking import Stage
from models.rules import period
from models.rules.billing import Days, Line, Subscription
from models.store import drafting, invoice, late_usage, meter, parked, subscription
from models.store.drafting import Drafted
from models.store.invoice import Header
from models.store.late_usage import Noticed
from tasks import (
    adjusting,
    contract,
    fields,
    giving_back,
    invoice_pricing,
    invoice_target,
    parking,
    reckoning,
)
from tasks.adjusting import Owner
from tasks.announce import announce_all
from tasks.invoice_events import announcement
from tasks.queues import Queue
from webhooks import events

RUN_SECONDS: Final = 100.0
"""When a run starts with no further tenant: before Celery's soft limit; the next tick goes on."""


class LateUsageAnswer(TypedDict):
    """What a run made. `failed`: tenants whose late usage could not be billed, and are parked."""

    invoices: int
    credit_notes: int
    failed: int
    finished: bool


@contract.job("billing.bill_late_usage", queue=Queue.billing)
def bill_late_usage(*, as_of: fields.Instant = contract.NOW) -> LateUsageAnswer:
    """Bill late usage of tenants that get no other invoice: those who have left.

    Beat runs it every hour. Everyone else's late usage is on their next invoice. What a period
    costs more than was billed is put on a closing invoice, a draft that waits through its grace
    period like any other; what it costs less is taken back by a credit note of its invoice. Any
    number of workers may run it at once: each claims tenants that no other holds. Twice is
    harmless: what was billed makes no difference any more. If it dies, what was committed stays.
    """
    invoices, notes, failed = 0, 0, list[str]()
    with database.transaction() as session:
        late_usage.sweep_withdrawn(session)
        waiting = parked.waiting(session, Stage.late_usage, now=as_of)
    until = time.monotonic() + RUN_SECONDS
    while time.monotonic() < until:
        claimed: dict[str, str] = {}
        try:
            with database.transaction() as session:
                claimed = late_usage.claim_left(
                    session, now=as_of, limit=1, excluding=[*waiting, *failed]
                )
                made = _bill(session, claimed, now=as_of)
                parking.unpark(session, Stage.late_usage, claimed.keys(), now=as_of)
        except Exception as error:
            if not claimed or failures.is_retryable(error) or failures.is_unreachable(error):
                raise
            failed += claimed
            parking.park(next(iter(claimed)), Stage.late_usage, error, now=as_of)
            continue
        invoices, notes = invoices + made[0], notes + made[1]
        if not claimed:
            return _answer(invoices, notes, failed, finished=True)
    return _answer(invoices, notes, failed, finished=False)


def _bill(
    session: database.Session, timezones: dict[str, str], *, now: dt.datetime
) -> tuple[int, int]:
    """How many closing invoices and credit notes were made of locked tenants."""
    if not timezones:
        return 0, 0
    meter.hold(session)
    held = subscription.of_tenants(session, sorted(timezones))
    known = _of_the_left(session, adjusting.noticed(session, timezones.keys()), held)
    targets = [invoice_target.of(one.header) for one in known]
    versions = invoice_pricing.versions_of(session, held)
    costs = invoice_pricing.price(session, targets, held, versions)
    due = adjusting.differences(session, known, costs)
    notes = [_credit(session, one.header, due, now) for one in known]
    if any(notes):
        due = adjusting.differences(session, known, costs)
    drafts = _closing(session, due, timezones, now)
    # What is on a draft is dealt with once that has its number.
    drawn = {adjusting.owner(one.header) for one in drafts}
    late_usage.forget(session, [one for one in known if adjusting.owner(one.header) not in drawn])
    return len(drafts), sum(notes)


def _of_the_left(
    session: database.Session, known: Sequence[Noticed], held: Sequence[Subscription]
) -> list[Noticed]:
    """Without those whose tenant has a draft in their currency, or will be invoiced in it."""
    others = late_usage.takers(session, {one.header.tenant_id for one in known}).keys()
    billed = {(one.tenant_id, one.currency) for one in held if one.next_invoice_at is not None}
    return [one for one in known if adjusting.owner(one.header) not in {*others, *billed}]


def _closing(
    session: database.Session,
    due: dict[Owner, list[Line]],
    timezones: dict[str, str],
    now: dt.datetime,
) -> list[Drafted]:
    """Store and announce a closing draft of each tenant and currency, over today."""
    drawn = []
    for (tenant_id, currency), left in due.items():
        lines = adjusting.closing(session, left)
        if not lines:
            continue
        zone = period.zone(timezones[tenant_id])
        today = period.local_day(now, zone)
        drawn.append(
            drafting.draft(
                tenant_id=tenant_id,
                currency=currency,
                timezone=timezones[tenant_id],
                covers=Days(today, today + dt.timedelta(days=1)).period(zone),
                lines=lines,
                now=now,
                kind=InvoiceKind.closing,
            )
        )
    drafts = reckoning.reckon(session, drawn)
    drafting.add(session, drafts, now=now)
    announce_all(session, [announcement(events.InvoiceCreated, one) for one in drafts], now=now)
    return drafts


def _credit(
    session: database.Session, header: Header, due: dict[Owner, list[Line]], now: dt.datetime
) -> int:
    """Take back what a period costs less, from the lines that billed it: its own invoice's, and
    late usage of it on others. Return how many notes that made."""
    less = [
        line
        for line in due.get(adjusting.owner(header), ())
        if line.amount_minor < 0 and line.adjusts == header.id
    ]
    taken = giving_back.taken_from(session, less)
    reason = _reason(header)
    return sum(
        # Read again: a note before this one may have changed it.
        giving_back.give_back(
            session,
            invoice.get(session, invoice_id),
            {place: part for place, (_, part) in parts.items()},
            reason=reason,
            as_far_as_left=True,
            now=now,
        )
        for invoice_id, parts in taken.items()
    )


def _reason(header: Header) -> str:
    days = header.days
    return f"less was used from {days.first} to {days.after - dt.timedelta(days=1)} than was billed"


def _answer(invoices: int, notes: int, failed: Sequence[str], *, finished: bool) -> LateUsageAnswer:
    return {
        "invoices": invoices,
        "credit_notes": notes,
        "failed": len(failed),
        "finished": finished,
    }
