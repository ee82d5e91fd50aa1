"""Prepaid credit and invoices: what finalization takes from a tenant's credit, or gives to it."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from uuid import UUID

from models import database
from models.rules import money
from models.store import credit, credit_spending, prepaid
from models.store.invoice import Header
from tasks import credit_news
from tasks.announce import Announcement, announce_all
from webhooks import events

CAUSE = "invoice"
"""What a ledger entry names as its cause, beside the invoice's id."""


def settle(
    session: database.Session, headers: Sequence[Header], *, now: dt.datetime
) -> list[Header]:
    """Let prepaid credit pay what it can of drafts; return them, in order, with what it paid.

    Credit pays whole minor units, from batches in the product's order: oldest first, as a rule.
    An invoice below zero becomes credit.

    Raises:
        NoPrepaidProduct: an invoice is below zero and no product holds credit in its currency.
    """
    products = prepaid.products(session)
    funded = prepaid.funded(session, [header.tenant_id for header in headers])
    paid: dict[UUID, int] = {}
    told: list[Announcement] = []
    # Balances are locked in the order in which everybody locks them.
    for header in sorted(headers, key=lambda one: (one.tenant_id, products.get(one.currency, ""))):
        if header.total_minor < 0:
            paid[header.id] = header.total_minor
            told.append(_grant(session, header, -header.total_minor, source="invoice", now=now))
            funded.add((header.tenant_id, products[header.currency]))
        elif header.total_minor and (header.tenant_id, products.get(header.currency)) in funded:
            paid[header.id], said = _take(session, header, products[header.currency], now)
            told += said
    announce_all(session, told, now=now)
    return [
        replace(header, credit_minor=paid[header.id]) if header.id in paid else header
        for header in headers
    ]


def give(
    session: database.Session, header: Header, amount_minor: int, *, source: str, now: dt.datetime
) -> None:
    """Grant credit, without an end, for an invoice: so many minor units of its currency.

    Raises:
        NoPrepaidProduct: no product holds credit in its currency.
        InactiveProduct: the product is switched off.
    """
    told = _grant(session, header, amount_minor, source=source, now=now)
    announce_all(session, [told], now=now)


def _grant(
    session: database.Session, header: Header, amount_minor: int, *, source: str, now: dt.datetime
) -> Announcement:
    product_key = prepaid.get_product(session, header.currency)
    amount = money.from_minor(amount_minor, header.currency)
    granted = credit.grant(
        session,
        tenant_id=header.tenant_id,
        product_key=product_key,
        amount=amount,
        valid_from=None,
        expires_at=None,
        source=source,
        cause=credit.Cause(CAUSE, str(header.id)),
        details={"invoice_id": str(header.id), "number": header.number},
        now=now,
    )
    event = events.CreditsGranted(
        tenant_id=header.tenant_id,
        product_key=product_key,
        batch_id=granted.batch_id,
        amount=amount,
        balance=granted.balance,
        expires_at=None,
        source=source,
        repaid=granted.repaid,
    )
    return Announcement(event, header.tenant_id, granted.version)


def _take(
    session: database.Session, header: Header, product_key: str, now: dt.datetime
) -> tuple[int, list[Announcement]]:
    """Spend what there is, at most the total; return how much that was and what is to be said."""
    try:
        return header.total_minor, _spend(session, header, product_key, header.total_minor, now)
    except credit_spending.TooLittle as short:
        # The balance is locked by now: what it holds, it holds until we are done.
        told = credit_news.of_ended(short.lapsed)
        scale: int = 10 ** money.minor_unit(header.currency)
        minor = int(Fraction(short.available) * scale)
        if minor <= 0:
            return 0, told
        return minor, told + _spend(session, header, product_key, minor, now)


def _spend(
    session: database.Session,
    header: Header,
    product_key: str,
    amount_minor: int,
    now: dt.datetime,
) -> list[Announcement]:
    debit = credit_spending.Debit(
        tenant_id=header.tenant_id,
        product_key=product_key,
        amount=money.from_minor(amount_minor, header.currency),
        cause=credit.Cause(CAUSE, str(header.id)),
        details={"invoice_id": str(header.id)},
    )
    return credit_news.of_spending(debit, credit_spending.consume(session, debit, now=now))
