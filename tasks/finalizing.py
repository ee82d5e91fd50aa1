"""The last look at drafts: computed once more, paid by credit, numbered, announced."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace

from models import database
from models.store import finalizing, invoice_sync, issuer, late_usage, settlement
from models.store.drafting import Drafted
from models.store.invoice import Header
from tasks import adjusting, config, invoicing, prepaid
from tasks.announce import announce_all
from tasks.invoice_events import announcement, tell
from webhooks import events


def finalize(
    session: database.Session, headers: Sequence[Header], *, now: dt.datetime
) -> list[Drafted]:
    """Compute drafts a last time, let prepaid credit pay, then number in the given order, freeze
    and announce. What nothing is due of is paid; what has no line left is withdrawn instead, and
    gets no number. All come back, those last."""
    # Before anything is counted: what is noticed from here on, the next invoice looks at.
    known = late_usage.of_tenants(session, {header.tenant_id for header in headers})
    took = adjusting.takers(session, headers) if known else set()
    computed = invoicing.refresh(session, headers, now=now)
    dropped = _drop(session, [one for one in computed if not one.lines], now=now)
    drafts = [one for one in computed if one.lines]
    settled = prepaid.settle(session, [one.header for one in drafts], now=now)
    numbered = finalizing.finalize(session, settled, issuer=issuer.get(session), now=now)
    final = [
        Drafted(header, one.lines, one.bill) for header, one in zip(numbered, drafts, strict=True)
    ]
    tell(session, events.InvoiceFinalized, final, now=now)
    provider = config.current().provider
    if provider is not None:
        invoice_sync.begin(session, numbered, provider=provider.name, now=now)
    late_usage.forget(session, adjusting.done(known, headers, took))
    closed = settlement.close_settled(session, numbered, now=now)
    if closed:
        final = [replace(one, header=closed.get(one.header.id, one.header)) for one in final]
    paid = [one for one in final if one.header.id in closed]
    tell(session, events.InvoicePaid, paid, now=now)
    return [*final, *dropped]


def _drop(
    session: database.Session, empty: Sequence[Drafted], *, now: dt.datetime
) -> list[Drafted]:
    headers = finalizing.drop(session, [one.header for one in empty], now=now)
    dropped = [replace(one, header=header) for header, one in zip(headers, empty, strict=True)]
    announce_all(session, [announcement(events.InvoiceDropped, one) for one in dropped], now=now)
    return dropped
