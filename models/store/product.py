"""Products, and the namespace they share with offers."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models.catalog import CatalogKey, Product, ProductType
from models.rules import money
from models.rules.burndown import Policy
from models.rules.refusal import Refusal


class UnknownProduct(Refusal):
    """There is no product by this key."""

    code: ClassVar[str] = "product.unknown"


class ProductTypeFixed(Refusal):
    """A product keeps the type it was made with: the meaning of its ledger depends on it."""

    code: ClassVar[str] = "product.type_fixed"


class NotACurrency(Refusal):
    """A product that prices are in is counted, and not called as money is."""

    code: ClassVar[str] = "product.not_a_currency"


class CatalogKeyTaken(Refusal):
    """A product and an offer can not have the same key."""

    code: ClassVar[str] = "catalog.key_taken"


def get(session: Session, product_key: str) -> Product:
    """Return a product.

    Raises:
        UnknownProduct: there is none by that key.
    """
    product = session.get(Product, product_key)
    if product is None:
        raise unknown(product_key)
    return product


def unknown(product_key: str) -> UnknownProduct:
    """Return the refusal of a key by which there is no product."""
    return UnknownProduct(
        f"product_key {product_key!r} is unknown; make it with billing.set_product",
        field="product_key",
    )


def is_currency(session: Session, product_key: str) -> bool:
    """Tell whether there is a product by this key that prices can be in now."""
    found = session.get(Product, product_key)
    return found is not None and found.is_currency


@dataclass(frozen=True, slots=True)
class Filter:
    """Which products are meant; None is any."""

    active: bool | None = None
    type_: ProductType | None = None
    is_currency: bool | None = None


def list_page(
    session: Session, wanted: Filter, *, after: str | None, most: int
) -> Sequence[Product]:
    """Return products by key, at most `most` of those behind `after`."""
    statement = select(Product).order_by(Product.product_key).limit(most)
    if after is not None:
        statement = statement.where(Product.product_key > after)
    if wanted.active is not None:
        statement = statement.where(Product.active.is_(wanted.active))
    if wanted.type_ is not None:
        statement = statement.where(Product.type == wanted.type_.value)
    if wanted.is_currency is not None:
        statement = statement.where(Product.is_currency.is_(wanted.is_currency))
    return session.scalars(statement).all()


def change(
    session: Session,
    product_key: str,
    *,
    now: dt.datetime,
    name: str,
    type_: ProductType,
    is_currency: bool | None = None,
    burn_policy: Policy | None = None,
    active: bool | None = None,
    details: dict[str, Any] | None = None,
) -> Product:
    """Make a product or set what is given, keep what is not, merge `details`; return the product.

    Its row is locked until the transaction ends, in a way that lets credit of it move meanwhile.

    Raises:
        CatalogKeyTaken: the key is an offer's.
        ProductTypeFixed: the product exists with another type.
        NotACurrency: it would be a currency, and is not counted or is called as money is.
    """
    claim_key(session, product_key, kind="product")
    session.execute(
        insert(Product)
        .values(
            product_key=product_key, name=name, type=type_.value, created_at=now, updated_at=now
        )
        .on_conflict_do_nothing()
    )
    # Not a full FOR UPDATE: that would stop every grant of the product at its foreign key.
    product = session.scalars(
        select(Product).where(Product.product_key == product_key).with_for_update(key_share=True)
    ).one()
    if product.type != type_.value:
        raise ProductTypeFixed(
            f"product {product_key!r} is of type {product.type!r} and stays so; for type "
            f"{type_.value!r} make a product with another key",
            field="type",
        )
    product.name = name
    product.is_currency = product.is_currency if is_currency is None else is_currency
    product.burn_policy = product.burn_policy if burn_policy is None else burn_policy.value
    if product.is_currency:
        _check_currency(product_key, type_)
    product.active = product.active if active is None else active
    product.details = {**product.details, **(details or {})}
    if session.is_modified(product):
        product.version += 1
        product.updated_at = now
        session.flush()
    return product


def claim_key(session: Session, key: str, *, kind: Literal["product", "offer"]) -> None:
    """Take a key of the shared namespace for a kind, or see that the kind has it already.

    Raises:
        CatalogKeyTaken: the key belongs to the other kind.
    """
    session.execute(insert(CatalogKey).values(key=key, kind=kind).on_conflict_do_nothing())
    owner = session.scalars(select(CatalogKey.kind).where(CatalogKey.key == key)).one()
    if owner != kind:
        raise CatalogKeyTaken(
            f"{kind} key {key!r} is taken, it is the key of another kind: {owner}; choose another",
            field="product_key" if kind == "product" else "sku",
        )


def _check_currency(product_key: str, type_: ProductType) -> None:
    if product_key in money.MINOR_UNITS:
        raise NotACurrency(
            f"product {product_key!r} can not be a currency: that is the code of money; choose "
            "another key",
            field="product_key",
        )
    if type_ is not ProductType.quantity:
        raise NotACurrency(
            f"product {product_key!r} is of type {type_.value!r} and can not be a currency: its "
            "use takes nothing away; a currency is of type 'quantity'",
            field="is_currency",
        )
