"""When tenants want to be told about their credit, and what they were told."""

import datetime as dt
from decimal import Decimal
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, ForeignKey, Integer, Numeric, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base


class CreditNotice(Base):
    """What a tenant wants to hear of one product, and what of it was seen last.

    `seen` is the available amount at the last look, `version_seen` the version of the balance then,
    and `look_at` the instant at which time alone will change the amount.
    """

    __tablename__ = "credit_notices"

    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"), primary_key=True)
    product_key: Mapped[str] = mapped_column(ForeignKey("products.product_key"), primary_key=True)
    low: Mapped[list[Decimal]] = mapped_column(ARRAY(Numeric), server_default=text("'{}'"))
    expiring_days: Mapped[list[int]] = mapped_column(ARRAY(Integer), server_default=text("'{}'"))
    seen: Mapped[Decimal]
    version_seen: Mapped[int] = mapped_column(BigInteger)
    look_at: Mapped[dt.datetime | None]


class ExpiryNotice(Base):
    """A batch whose end was told so many days ahead: once each."""

    __tablename__ = "expiry_notices"

    batch_id: Mapped[UUID] = mapped_column(ForeignKey("credit_batches.id"), primary_key=True)
    days: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    told_at: Mapped[dt.datetime]
