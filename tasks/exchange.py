"""Exchange: units of a currency product for what an offer grants."""

import datetime as dt
from typing import Literal, TypedDict

from models import database
from models.credit import Action
from models.rules import burndown, decimals
from models.rules import offer as rules
from models.store import credit, credit_locking, credit_spending, product, tenant
from tasks import contract, credit_news, fields, granting, offer_grants
from tasks.announce import Announcement, announce_all
from tasks.queues import Queue
from webhooks import events


class Exchanged(TypedDict):
    """The price was paid, and `batches` granted. `balance` is what is left of the currency."""

    exchanged: Literal[True]
    sku: str
    quantity: int
    currency: str
    price: str
    balance: str
    batches: list[granting.GrantedBatch]


class NotExchanged(TypedDict):
    """Nothing happened: `available` of the currency is nothing, or less than the price."""

    exchanged: Literal[False]
    reason: Literal["quota_exhausted", "insufficient_funds"]
    currency: str
    price: str
    available: str


@contract.command("billing.exchange", queue=Queue.billing)
def exchange(
    session: database.Session,
    *,
    tenant_id: fields.TenantId,
    sku: fields.Sku,
    quantity: fields.Count = 1,
    source: fields.Key64 = "exchange",
    idempotency_key: fields.IdempotencyKey,
    metadata: fields.Metadata | None = None,
    as_of: fields.Instant = contract.NOW,
) -> Exchanged | NotExchanged:
    """Spend a currency product to get an offer: both or nothing.

    Runs when a producer sends it. The price is paid from the oldest usable batches, as
    billing.consume_quota pays, and is in the ledger as `exchange`. Twice is harmless: the same key
    is one exchange and gives the first answer again, a "no" as well. If it dies half way nothing
    was spent or granted, and the message comes back.

    Too little of the currency is an answer, not an error: `exchanged` false with reason
    `quota_exhausted` (nothing usable) or `insufficient_funds` (too little). Emits
    billing.credits_exchanged, billing.credits_granted for each batch, and
    billing.product_deactivated when the last of the currency was spent.

    Refused with code `offer.unknown`, `offer.inactive`, `offer.not_exchangeable` (the price is
    money, nothing, or not a whole number of units), `offer.too_much` or `product.inactive`.

    Args:
        tenant_id: who pays and gets it.
        sku: which offer.
        quantity: how many of it, 1 to 1,000,000.
        source: where the batches come from, 1 to 64 characters.
        metadata: kept with the batches and all ledger entries.
    """
    sold = offer_grants.get_active(session, sku)
    debit = credit_spending.Debit(
        tenant_id=tenant_id,
        product_key=_currency(session, sold),
        amount=rules.units_to_pay(sold, quantity),
        cause=credit.Cause("billing.exchange", idempotency_key),
        details=metadata or {},
        action=Action.exchange,
    )
    try:
        # What is made to be locked, and what spending does before it says no, is undone by a "no".
        with database.savepoint(session):
            spent = _pay(session, sold, debit, as_of)
    except burndown.InsufficientCredit as short:
        return _too_little(debit, short)
    lots = granting.lots_of(
        sold,
        quantity=quantity,
        timezone=tenant.get(session, tenant_id).timezone,
        source=source,
        now=as_of,
    )
    granted = granting.grant(
        session, lots, tenant_id=tenant_id, cause=debit.cause, details=debit.details, now=as_of
    )
    announce_all(session, _what_it_tells(sku, quantity, debit, spent), now=as_of)
    return {
        "exchanged": True,
        "sku": sku,
        "quantity": quantity,
        "currency": debit.product_key,
        "price": decimals.plain(debit.amount),
        "balance": decimals.plain(spent.balance),
        "batches": [granting.answer(one) for one in granted],
    }


def _currency(session: database.Session, sold: rules.Offer) -> str:
    currency = sold.price.currency
    if currency.is_product and not product.is_currency(session, currency.code):
        raise rules.NotExchangeable(
            f"offer {sold.sku!r} is priced in {currency.code!r}, which is no currency any more; "
            "make it one with billing.set_product, or price the offer in another",
            field="sku",
        )
    return currency.code


def _pay(
    session: database.Session, sold: rules.Offer, debit: credit_spending.Debit, now: dt.datetime
) -> credit_spending.Spent:
    """Lock everything that changes, then spend."""
    tenant.ensure(session, debit.tenant_id, now=now)
    product_keys = {item.product_key for item in sold.items} | {debit.product_key}
    credit_locking.lock(session, tenant_id=debit.tenant_id, product_keys=product_keys, now=now)
    return credit_spending.consume(session, debit, now=now)


def _what_it_tells(
    sku: str, quantity: int, debit: credit_spending.Debit, spent: credit_spending.Spent
) -> list[Announcement]:
    exchanged = events.CreditsExchanged(
        tenant_id=debit.tenant_id,
        sku=sku,
        quantity=quantity,
        product_key=debit.product_key,
        amount=debit.amount,
        balance=spent.balance,
    )
    told = [
        *credit_news.of_ended(spent.lapsed),
        Announcement(exchanged, debit.tenant_id, spent.version),
    ]
    if spent.depleted:
        told.append(credit_news.of_depletion(debit.tenant_id, debit.product_key, spent.version))
    return told


def _too_little(debit: credit_spending.Debit, short: burndown.InsufficientCredit) -> NotExchanged:
    return {
        "exchanged": False,
        "reason": "insufficient_funds" if short.available else "quota_exhausted",
        "currency": debit.product_key,
        "price": decimals.plain(debit.amount),
        "available": decimals.plain(short.available),
    }
