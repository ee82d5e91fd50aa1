"""Reading credit: whether a tenant can use a product, and what it has."""

import datetime as dt
from decimal import Decimal
from typing import TypedDict

from models import database
from models.rules import decimals
from models.store import tenant, wallet
from tasks import contract, fields
from tasks.queues import Queue


class QuotaCheck(TypedDict):
    """Whether a product can be used. `remaining` is None where use takes nothing away."""

    can_use: bool
    product_key: str
    product_name: str
    remaining: str | None
    message: str


class HoldingAnswer(TypedDict):
    """What a tenant has of a product.

    `granted`, `used` and `available` are of the batches in their time; `pending` is what can be
    spent later; `held` is in reservations; `balance` is all that remains, less the `debt`, which
    can not be spent either. `next_expiry` is that of the first usable batch to end.
    """

    product_key: str
    product_name: str
    type: str
    granted: str
    used: str
    held: str
    available: str
    pending: str
    balance: str
    debt: str
    unlimited: bool
    next_expiry: dt.datetime | None


class Wallet(TypedDict):
    """Everything a tenant has, by product, as it was at one instant."""

    tenant_id: str
    products: list[HoldingAnswer]


@contract.command("billing.check_quota", queue=Queue.billing)
def check_quota(
    session: database.Session,
    *,
    tenant_id: fields.TenantId,
    product_key: fields.ProductKey,
    amount: fields.Amount | None = None,
    as_of: fields.Instant = contract.NOW,
) -> QuotaCheck:
    """Tell whether a tenant can use a product now, and how much of it.

    Runs when somebody asks. It changes nothing and sets nothing aside, so twice or half way does no
    harm; what must not be spent by another meanwhile is reserved or consumed. Refused with code
    `product.unknown`.

    Args:
        tenant_id: whose credit.
        product_key: of which product.
        amount: how much is wanted; absent, anything above 0.
    """
    holding = wallet.get_holding(session, tenant_id, product_key, now=as_of)
    can_use = holding.allows(amount)
    return {
        "can_use": can_use,
        "product_key": holding.product_key,
        "product_name": holding.name,
        "remaining": None if holding.is_unlimited else decimals.plain(holding.available),
        "message": _message(holding, amount, can_use),
    }


@contract.command("billing.get_wallet", queue=Queue.billing)
def get_wallet(
    session: database.Session,
    *,
    tenant_id: fields.TenantId,
    as_of: fields.Instant = contract.NOW,
) -> Wallet:
    """Tell what a tenant has of every product it was ever granted.

    Runs when somebody asks. It changes nothing, so twice or half way does no harm. All figures are
    of one instant. Without debt and reservations granted - used = available.
    Refused with code `tenant.unknown`.

    Args:
        tenant_id: whose wallet.
    """
    tenant.get(session, tenant_id)
    found = wallet.holdings(session, tenant_id, now=as_of)
    return {"tenant_id": tenant_id, "products": [_holding(one) for one in found]}


def _message(holding: wallet.Holding, amount: Decimal | None, can_use: bool) -> str:
    if holding.is_unlimited:
        until = holding.next_expiry
        ends = "" if until is None else f" until {until:%Y-%m-%d %H:%M} UTC at least"
        return f"{holding.name} can be used without limit{ends}"
    if holding.batches == 0:
        return f"nothing of {holding.name} can be used now"
    there = f"{Decimal(decimals.plain(holding.available)):,f} of {holding.name} can be used now"
    if can_use or amount is None:
        return there
    return f"{there}, {Decimal(decimals.plain(amount)):,f} are needed"


def _holding(one: wallet.Holding) -> HoldingAnswer:
    return {
        "product_key": one.product_key,
        "product_name": one.name,
        "type": one.type.value,
        "granted": decimals.plain(one.granted),
        "used": decimals.plain(one.used),
        "held": decimals.plain(one.held),
        "available": decimals.plain(one.available),
        "pending": decimals.plain(one.pending),
        "balance": decimals.plain(one.balance),
        "debt": decimals.plain(one.debt),
        "unlimited": one.is_unlimited,
        "next_expiry": one.next_expiry,
    }
