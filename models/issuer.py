"""Who bills: what its invoices say of it, how they are numbered, and which credit pays them."""

import datetime as dt
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, one_of


class Issuer(Base):
    """The one issuer. A row that is not there has these defaults."""

    __tablename__ = "issuers"
    __table_args__ = (
        one_of("issuer_key", ("default",)),
        CheckConstraint("payment_days BETWEEN 0 AND 365", name="payment_days"),
        CheckConstraint("invoice_series <> credit_note_series", name="series"),
    )

    issuer_key: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    # What is printed: address, tax number, bank, footer.
    printed: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    payment_days: Mapped[int] = mapped_column(server_default=text("14"))
    invoice_series: Mapped[str] = mapped_column(server_default=text("'INV'"))
    credit_note_series: Mapped[str] = mapped_column(server_default=text("'CN'"))
    number_format: Mapped[str] = mapped_column(server_default=text("'{series}-{sequence:6}'"))
    version: Mapped[int] = mapped_column(server_default=text("1"))
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class PrepaidProduct(Base):
    """The product whose credit pays invoices of a currency: one unit is one major unit of it."""

    __tablename__ = "prepaid_products"
    __table_args__ = (
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
        Index("uq_prepaid_products_product_key", "product_key", unique=True),
    )

    currency: Mapped[str] = mapped_column(primary_key=True)
    product_key: Mapped[str] = mapped_column(ForeignKey("products.product_key"))
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
