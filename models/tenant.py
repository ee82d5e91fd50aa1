"""Who is billed."""

import datetime as dt
from typing import Any

from sqlalchemy import CheckConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, metadata_column, text_key


class Tenant(Base):
    """A billed party. Created by its first usage event if nobody has introduced it before.

    `usage_version` is where the versions of new totals begin: above those of the totals that were
    dropped when the time zone changed.
    """

    __tablename__ = "tenants"
    __table_args__ = (
        text_key("tenant_id", longest=64),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
    )

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    timezone: Mapped[str] = mapped_column(server_default=text("'UTC'"))
    currency: Mapped[str] = mapped_column(server_default=text("'USD'"))
    # What an invoice is addressed to, several lines, and the tax number printed on it.
    address: Mapped[str | None]
    tax_number: Mapped[str | None]
    details: Mapped[dict[str, Any]] = metadata_column()
    usage_version: Mapped[int] = mapped_column(server_default=text("0"))
    version: Mapped[int] = mapped_column(server_default=text("1"))
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
