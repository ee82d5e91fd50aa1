"""Offers: made, changed, read with their items in one look."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

from sqlalchemy import Row, Select, delete, func, insert, select
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.orm import Session, aliased

from models.catalog import Product
from models.offer import Offer, OfferItem
from models.rules import offer as rules
from models.rules.expiry import ExpiryUnit
from models.rules.refusal import Refusal
from models.store import product


class UnknownOffer(Refusal):
    """There is no offer by this sku."""

    code: ClassVar[str] = "offer.unknown"


class IncompleteOffer(Refusal):
    """A new offer needs a name, a price with its currency, and items."""

    code: ClassVar[str] = "offer.incomplete"


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be different; None stays as it is, `details` are merged over those stored."""

    name: str | None = None
    amount: Decimal | None = None
    currency: rules.Currency | None = None
    items: tuple[rules.Item, ...] | None = None
    active: bool | None = None
    details: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which offers are meant; None is any.

    Args:
        currency: an ISO 4217 code or a product_key.
        product_key: of something they grant.
    """

    active: bool | None = None
    currency: str | None = None
    product_key: str | None = None


def get(session: Session, sku: str) -> rules.Offer:
    """Return an offer.

    Raises:
        UnknownOffer: there is none by that sku.
    """
    row = session.execute(_select().where(Offer.sku == sku)).one_or_none()
    if row is None:
        raise UnknownOffer(f"sku {sku!r} is unknown; make it with billing.set_offer", field="sku")
    return _read(row)


def list_page(
    session: Session, wanted: Filter, *, after: str | None, most: int
) -> Sequence[rules.Offer]:
    """Return offers by sku, at most `most` of those behind `after`, all of one instant."""
    statement = _select().order_by(Offer.sku).limit(most)
    if after is not None:
        statement = statement.where(Offer.sku > after)
    if wanted.active is not None:
        statement = statement.where(Offer.active.is_(wanted.active))
    if wanted.currency is not None:
        currency = func.coalesce(Offer.currency, Offer.currency_product_key)
        statement = statement.where(currency == wanted.currency)
    if wanted.product_key is not None:
        # Another look at the items: the offer is shown with all of its own.
        item = aliased(OfferItem)
        granting = select(item.sku).where(item.product_key == wanted.product_key)
        statement = statement.where(Offer.sku.in_(granting))
    return [_read(row) for row in session.execute(statement)]


def change(session: Session, sku: str, wanted: Change, *, now: dt.datetime) -> rules.Offer:
    """Make an offer or change what is given; return it.

    Its row is locked until the transaction ends; what is granted meanwhile reads the old items or
    the new ones, never some of both.

    Raises:
        CatalogKeyTaken: the sku is the key of a product.
        IncompleteOffer: the offer is new and lacks something.
        InvalidPrice: the amount does not fit the currency.
        UnknownProduct: an item is of no product.
    """
    if wanted.items is not None:
        _check_products(session, wanted.items)
    # Two calls that make the same offer: the second one waits here for the first.
    product.claim_key(session, sku, kind="offer")
    row = session.scalars(select(Offer).where(Offer.sku == sku).with_for_update()).one_or_none()
    if row is None:
        _insert(session, sku, wanted, now)
    else:
        _update(session, row, wanted, now)
    return get(session, sku)


def _insert(session: Session, sku: str, wanted: Change, now: dt.datetime) -> None:
    name, items = wanted.name, wanted.items
    if name is None or wanted.amount is None or wanted.currency is None or items is None:
        given = {
            "name": name,
            "price": wanted.amount,
            "currency": wanted.currency,
            "items": items,
        }
        missing = [field for field, value in given.items() if value is None]
        raise IncompleteOffer(
            f"offer {sku!r} is new, so it needs {' and '.join(missing)} as well", field=missing[0]
        )
    price = rules.Price(wanted.amount, wanted.currency)
    session.execute(
        insert(Offer).values(
            sku=sku,
            name=name,
            **_price(price),
            active=True if wanted.active is None else wanted.active,
            details=wanted.details or {},
            created_at=now,
            updated_at=now,
        )
    )
    _insert_items(session, sku, items)


def _update(session: Session, row: Offer, wanted: Change, now: dt.datetime) -> None:
    stored = get(session, row.sku)
    row.name = row.name if wanted.name is None else wanted.name
    row.active = row.active if wanted.active is None else wanted.active
    row.details = {**row.details, **(wanted.details or {})}
    amount = stored.price.amount if wanted.amount is None else wanted.amount
    price = rules.Price(amount, wanted.currency or stored.price.currency)
    if price != stored.price:
        for column, value in _price(price).items():
            setattr(row, column, value)
    has_new_items = wanted.items is not None and wanted.items != stored.items
    if has_new_items:
        session.execute(delete(OfferItem).where(OfferItem.sku == row.sku))
        _insert_items(session, row.sku, wanted.items or ())
    if has_new_items or session.is_modified(row):
        row.version += 1
        row.updated_at = now
        session.flush()


def _insert_items(session: Session, sku: str, items: Sequence[rules.Item]) -> None:
    session.execute(
        insert(OfferItem),
        [
            {
                "sku": sku,
                "position": position,
                "product_key": item.product_key,
                "quantity": item.quantity,
                "period": item.period.value,
                "period_value": item.value,
            }
            for position, item in enumerate(items, start=1)
        ],
    )


def _check_products(session: Session, items: Sequence[rules.Item]) -> None:
    keys = [item.product_key for item in items]
    known = set(session.scalars(select(Product.product_key).where(Product.product_key.in_(keys))))
    for position, key in enumerate(keys):
        if key not in known:
            raise product.UnknownProduct(
                f"items.{position}.product_key {key!r} is unknown; make it with "
                "billing.set_product",
                field="items",
            )


def _price(price: rules.Price) -> dict[str, Decimal | str | None]:
    return {
        "price": price.amount,
        "currency": None if price.currency.is_product else price.currency.code,
        "currency_product_key": price.currency.code if price.currency.is_product else None,
    }


def _select() -> Select[*tuple[Any, ...]]:
    """Offers with their items as arrays: one statement, so both as they belong together."""

    def listed(column: Any) -> Any:
        return func.array_agg(aggregate_order_by(column, OfferItem.position)).label(column.key)

    return (
        select(
            Offer.sku,
            Offer.name,
            Offer.price,
            Offer.currency,
            Offer.currency_product_key,
            Offer.active,
            Offer.details,
            Offer.version,
            listed(OfferItem.product_key),
            listed(OfferItem.quantity),
            listed(OfferItem.period),
            listed(OfferItem.period_value),
        )
        .join(OfferItem, OfferItem.sku == Offer.sku)
        .group_by(Offer.sku)
    )


def _read(row: Row[Any]) -> rules.Offer:
    columns = zip(row.product_key, row.quantity, row.period, row.period_value, strict=True)
    return rules.Offer(
        sku=row.sku,
        name=row.name,
        price=rules.Price(
            row.price,
            rules.Currency(row.currency or row.currency_product_key, row.currency is None),
        ),
        items=tuple(
            rules.Item(key, quantity, ExpiryUnit(unit), value)
            for key, quantity, unit, value in columns
        ),
        active=row.active,
        details=row.details,
        version=row.version,
    )
