"""Products whose credit pays invoices: one for a currency, and who has some of it."""

import datetime as dt
from collections.abc import Sequence
from typing import ClassVar

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models.credit import CreditBalance
from models.issuer import PrepaidProduct
from models.rules.refusal import Refusal


class NotACurrencyProduct(Refusal):
    """Invoices are paid by credit of a product that is a currency and is used up."""

    code: ClassVar[str] = "prepaid.not_a_currency"


class PrepaidProductTaken(Refusal):
    """A product holds credit of one currency."""

    code: ClassVar[str] = "prepaid.taken"


class NoPrepaidProduct(Refusal):
    """No product holds prepaid credit in this currency."""

    code: ClassVar[str] = "prepaid.no_product"


def products(session: Session) -> dict[str, str]:
    """Return the product that holds prepaid credit of each currency."""
    return {row.currency: row.product_key for row in session.scalars(select(PrepaidProduct))}


def get_product(session: Session, currency: str) -> str:
    """Return the product that holds prepaid credit of a currency.

    Raises:
        NoPrepaidProduct: there is none.
    """
    product_key = products(session).get(currency)
    if product_key is None:
        raise NoPrepaidProduct(
            f"no product holds prepaid credit in {currency}; name one with "
            "billing.set_prepaid_product",
            field="currency",
        )
    return product_key


def set_product(session: Session, *, currency: str, product_key: str, now: dt.datetime) -> None:
    """Let credit of a product pay the invoices of a currency.

    Raises:
        PrepaidProductTaken: it pays those of another currency.
    """
    session.execute(
        insert(PrepaidProduct)
        .values(currency=currency, product_key=product_key, created_at=now)
        .on_conflict_do_nothing()
    )
    other = session.scalars(
        select(PrepaidProduct.currency).where(
            PrepaidProduct.product_key == product_key, PrepaidProduct.currency != currency
        )
    ).first()
    if other is not None:
        raise PrepaidProductTaken(
            f"product {product_key!r} holds credit in {other}; a unit of it can not be one of "
            f"{currency} too, name another product",
            field="product_key",
        )
    session.execute(
        update(PrepaidProduct)
        .where(PrepaidProduct.currency == currency, PrepaidProduct.product_key != product_key)
        .values(product_key=product_key)
    )


def funded(session: Session, tenant_ids: Sequence[str]) -> set[tuple[str, str]]:
    """Return the tenants, with the product, who may have something to spend.

    A first look without a lock, so that invoices of those who have none cost nothing.
    """
    rows = session.execute(
        select(CreditBalance.tenant_id, CreditBalance.product_key)
        .join(PrepaidProduct, PrepaidProduct.product_key == CreditBalance.product_key)
        .where(
            CreditBalance.tenant_id == func.any(sorted(set(tenant_ids))),
            CreditBalance.balance > 0,
        )
    )
    return {(row.tenant_id, row.product_key) for row in rows}
