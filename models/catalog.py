"""What is sold: products, plans and their prices."""

import datetime as dt
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    Computed,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ExcludeConstraint
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, metadata_column, one_of, text_key
from models.rules.burndown import Policy
from models.rules.period import Anchor, Interval
from models.rules.pricing import Model
from models.rules.proration import Proration


class ProductType(StrEnum):
    """How use is limited: a counted quantity, a period of time, or not at all."""

    quantity = "quantity"
    period = "period"
    unlimited = "unlimited"


class PriceKind(StrEnum):
    """What a price charges for: the plan itself, or what was used of a metric."""

    fixed = "fixed"
    usage = "usage"
    setup = "setup"
    """Once, in the period in which a subscription is first charged for."""
    commitment = "commitment"
    """What the fees and the usage of a period come to at least."""


class Timing(StrEnum):
    """Whether a fixed fee is charged for the period ahead or the period behind."""

    advance = "advance"
    arrears = "arrears"


_FEE_MODELS = "'fixed', 'per_unit', 'graduated', 'volume', 'package', 'block'"


class CatalogKey(Base):
    """The namespace that product keys and skus share: one key names one thing."""

    __tablename__ = "catalog_keys"
    __table_args__ = (
        text_key("key", longest=64),
        CheckConstraint("key = upper(key)", name="upper"),
        one_of("kind", ("product", "offer")),
        # What lets products and offers point here with their kind.
        Index("uq_catalog_keys_key_kind", "key", "kind", unique=True),
    )

    key: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]


class Product(Base):
    """Something tracked in credit batches, such as a number of calls or a prepaid currency."""

    __tablename__ = "products"
    __table_args__ = (
        one_of("type", ProductType),
        one_of("burn_policy", Policy),
        CheckConstraint("product_key = upper(product_key)", name="upper"),
        ForeignKeyConstraint(["product_key", "kind"], ["catalog_keys.key", "catalog_keys.kind"]),
    )

    product_key: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(Computed("'product'", persisted=True))
    name: Mapped[str]
    type: Mapped[str] = mapped_column(server_default=text("'quantity'"))
    is_currency: Mapped[bool] = mapped_column(server_default=text("false"))
    # Which batch of equal priority pays first.
    burn_policy: Mapped[str] = mapped_column(server_default=text("'fifo'"))
    active: Mapped[bool] = mapped_column(server_default=text("true"))
    details: Mapped[dict[str, Any]] = metadata_column()
    version: Mapped[int] = mapped_column(server_default=text("1"))
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class Plan(Base):
    """A named set of prices, billed once per interval."""

    __tablename__ = "plans"
    __table_args__ = (
        text_key("plan_key", longest=64),
        one_of("interval", Interval),
        one_of("anchor", Anchor),
        one_of("proration", Proration),
    )

    plan_key: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    interval: Mapped[str] = mapped_column(server_default=text("'month'"))
    anchor: Mapped[str] = mapped_column(server_default=text("'calendar'"))
    # What fees of a part of a period are shared out by.
    proration: Mapped[str] = mapped_column(server_default=text("'day'"))
    active: Mapped[bool] = mapped_column(server_default=text("true"))
    details: Mapped[dict[str, Any]] = metadata_column()
    version: Mapped[int] = mapped_column(server_default=text("1"))
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class Price(Base):
    """One charge of a plan in one currency, from an instant until the next version of it.

    `unit_amount` is what one unit costs, or the fee; `params` is what else its model needs, which
    `models/rules/pricing/params.py` reads and writes. `effective_at` and `ended_at` are half-open;
    empty means from the beginning, and until further notice. A price that has been billed is never
    edited: a change ends it and starts another.
    """

    __tablename__ = "prices"
    __table_args__ = (
        text_key("price_key", longest=64),
        one_of("kind", PriceKind),
        one_of("model", Model),
        one_of("timing", Timing),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
        CheckConstraint("(kind = 'usage') = (metric IS NOT NULL)", name="metric"),
        CheckConstraint("scale(unit_amount) <= 12", name="unit_amount"),
        # Of other models the params say it all.
        CheckConstraint(
            "(model IN ('fixed', 'per_unit')) = (unit_amount IS NOT NULL)", name="single_amount"
        ),
        CheckConstraint("jsonb_typeof(params) = 'object'", name="params"),
        CheckConstraint("kind = 'usage' OR model IN (" + _FEE_MODELS + ")", name="fee_model"),
        CheckConstraint("kind <> 'usage' OR model <> 'fixed'", name="usage_model"),
        CheckConstraint(
            "kind NOT IN ('setup', 'commitment') OR model = 'fixed'", name="single_fee"
        ),
        CheckConstraint("timing = 'arrears' OR kind IN ('fixed', 'setup')", name="fee_in_advance"),
        CheckConstraint("effective_at < ended_at", name="effective"),
        # No two versions of one price at the same instant.
        ExcludeConstraint(
            ("plan_key", "="),
            ("price_key", "="),
            ("currency", "="),
            (func.tstzrange(text("effective_at"), text("ended_at")), "&&"),
            name="ex_prices_one_version_at_a_time",
            using="gist",
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    plan_key: Mapped[str] = mapped_column(ForeignKey("plans.plan_key"))
    price_key: Mapped[str]
    currency: Mapped[str]
    kind: Mapped[str]
    metric: Mapped[str | None]
    model: Mapped[str]
    unit_amount: Mapped[Decimal | None]
    params: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    timing: Mapped[str] = mapped_column(server_default=text("'arrears'"))
    description: Mapped[str | None]
    effective_at: Mapped[dt.datetime | None]
    ended_at: Mapped[dt.datetime | None]
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
