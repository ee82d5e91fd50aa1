"""Late usage on the next invoice: what numbered periods cost by now, less what was billed of them.

It goes to a tenant's oldest draft in the currency, whenever that is computed. Once the draft has
its number, what it says is billed and the difference is gone; so it is never billed twice, however
often and by whomever drafts are computed. The caller holds the tenants' locks.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from uuid import UUID

from models import database
from models.invoice import InvoiceKind
from models.rules import crediting, late
from models.rules.billing import Line
from models.store import late_usage
from models.store.drafting import Drafted
from models.store.invoice import Header
from models.store.late_usage import Noticed
from tasks import giving_back

Owner = tuple[str, str]
"""A tenant and a currency."""


def noticed(session: database.Session, tenant_ids: Collection[str]) -> list[Noticed]:
    """Return the numbered invoices whose usage was counted anew since. Read it before counting."""
    return [one for one in late_usage.of_tenants(session, tenant_ids) if one.is_numbered]


def adjust(
    session: database.Session,
    drafts: Sequence[Drafted],
    numbered: Sequence[Noticed],
    costs: Sequence[Sequence[Line]],
) -> list[Drafted]:
    """Return drafts, in their order, with the late usage that is to be on them after their lines.

    Args:
        costs: the lines that each of `numbered` would have now.
    """
    due = differences(session, numbered, costs)
    if not due:
        return list(drafts)
    chosen = _oldest(session, [one.header for one in drafts])
    return [
        replace(one, lines=[*one.lines, *_taken(session, one.header, due)])
        if one.header.id in chosen
        else one
        for one in drafts
    ]


def differences(
    session: database.Session, numbered: Sequence[Noticed], costs: Sequence[Sequence[Line]]
) -> dict[Owner, list[Line]]:
    """Return what is due by late usage, up or down, oldest period first, by tenant and currency."""
    headers = [one.header for one in numbered]
    due: dict[Owner, list[Line]] = {}
    billed = late_usage.billed(session, headers) if headers else []
    for header, one, lines in zip(headers, billed, costs, strict=True):
        found = late.adjustments(one, lines)
        if found:
            due.setdefault(owner(header), []).extend(found)
    return due


def takers(session: database.Session, headers: Sequence[Header]) -> set[Owner]:
    """Return whose late usage these drafts will take, all of it.

    Not those who get a closing invoice: it may be that a credit note follows. Whoever looks once
    more forgets what is billed.
    """
    chosen = _oldest(session, headers)
    return {
        owner(header)
        for header in headers
        if header.id in chosen and header.kind is not InvoiceKind.closing
    }


def done(
    known: Sequence[Noticed], finalized: Sequence[Header], took: Collection[Owner]
) -> list[Noticed]:
    """Return what of the log is dealt with by the finalization of drafts.

    Args:
        known: what was in it before anything was counted.
        took: whose late usage the drafts took.
    """
    ids = {header.id for header in finalized}
    return [
        one
        for one in known
        if one.header.id in ids or (one.is_numbered and owner(one.header) in took)
    ]


def owner(header: Header) -> Owner:
    """Return whom an invoice bills in what."""
    return header.tenant_id, header.currency


def closing(session: database.Session, lines: Sequence[Line]) -> list[Line]:
    """Return what of late usage goes onto a closing invoice: what costs more, and of what costs
    less that which no credit note can take back.

    Raises:
        MoreThanBilled: that is more than what costs more.
    """
    stuck = giving_back.stuck(session, lines)
    amounts = [max(line.amount_minor, -left) for line, left in zip(lines, stuck, strict=True)]
    found = [
        line if line.amount_minor == amount else replace(line, amount_minor=amount)
        for line, amount in zip(lines, amounts, strict=True)
        if amount
    ]
    if sum(line.amount_minor for line in found) < 0:
        those = [line.description for line in found if line.amount_minor < 0]
        raise crediting.MoreThanBilled(
            f"{'; '.join(those)}: less was used than was billed, and nothing is left to be "
            "credited of the invoice that billed it"
        )
    return found


def _taken(
    session: database.Session, header: Header, due: Mapping[Owner, Sequence[Line]]
) -> list[Line]:
    """What of late usage goes onto a draft."""
    lines = due.get(owner(header), ())
    return closing(session, lines) if header.kind is InvoiceKind.closing else list(lines)


def _oldest(session: database.Session, headers: Sequence[Header]) -> set[UUID]:
    """The oldest draft of each tenant and currency, stored ones and these together."""
    oldest = late_usage.takers(session, {header.tenant_id for header in headers})
    for header in headers:
        there = oldest.get(owner(header))
        if there is None or _age(header) < _age(there):
            oldest[owner(header)] = header
    return {header.id for header in oldest.values()}


def _age(header: Header) -> tuple[object, ...]:
    return header.period.end, header.id
