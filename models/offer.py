"""How products are sold: offers, their price, and what each of them grants."""

import datetime as dt
from decimal import Decimal
from typing import Any

from sqlalchemy import CheckConstraint, Computed, ForeignKey, ForeignKeyConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, metadata_column, one_of
from models.rules.expiry import ExpiryUnit


class Offer(Base):
    """A named set of products at a price, in money or in units of a currency product."""

    __tablename__ = "offers"
    __table_args__ = (
        CheckConstraint("sku = upper(sku)", name="upper"),
        CheckConstraint("price >= 0 AND scale(price) <= 12", name="price"),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
        CheckConstraint(
            "(currency IS NULL) <> (currency_product_key IS NULL)", name="one_currency"
        ),
        ForeignKeyConstraint(["sku", "kind"], ["catalog_keys.key", "catalog_keys.kind"]),
    )

    sku: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(Computed("'offer'", persisted=True))
    name: Mapped[str]
    # In major units of the currency, or in units of the currency product.
    price: Mapped[Decimal]
    currency: Mapped[str | None]
    currency_product_key: Mapped[str | None] = mapped_column(ForeignKey("products.product_key"))
    active: Mapped[bool] = mapped_column(server_default=text("true"))
    details: Mapped[dict[str, Any]] = metadata_column()
    version: Mapped[int] = mapped_column(server_default=text("1"))
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class OfferItem(Base):
    """So much of a product, and for how long it is valid once it is granted."""

    __tablename__ = "offer_items"
    __table_args__ = (
        one_of("period", ExpiryUnit),
        CheckConstraint("quantity > 0", name="quantity"),
        CheckConstraint(
            "(period = 'forever') = (period_value IS NULL) AND coalesce(period_value > 0, true)",
            name="period_value",
        ),
    )

    sku: Mapped[str] = mapped_column(ForeignKey("offers.sku"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    product_key: Mapped[str] = mapped_column(ForeignKey("products.product_key"))
    quantity: Mapped[Decimal]
    period: Mapped[str]
    period_value: Mapped[int | None]
