"""Tenants whose billing waits, because something about them can not be billed."""

import datetime as dt
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, one_of


class Stage(StrEnum):
    """What could not be done for a tenant."""

    invoicing = "invoicing"
    finalization = "finalization"
    late_usage = "late_usage"


class ParkedTenant(Base):
    """A tenant that a run could not bill, why, and when it is tried again.

    When a run could, the row is resolved; it stays, to count what was said of it. Meanwhile the
    tenant costs the others nothing: each further try comes later than the one before.
    """

    __tablename__ = "parked_tenants"
    __table_args__ = (
        one_of("stage", Stage),
        CheckConstraint("tries > 0", name="tries"),
        # Runs and operators look at those that wait, which are few.
        Index(
            "ix_parked_tenants_waiting",
            "parked_at",
            "tenant_id",
            postgresql_where=text("resolved_at IS NULL"),
        ),
    )

    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"), primary_key=True)
    stage: Mapped[str] = mapped_column(primary_key=True)
    invoice_id: Mapped[UUID | None] = mapped_column(ForeignKey("invoices.id"))
    code: Mapped[str]
    reason: Mapped[str]
    tries: Mapped[int] = mapped_column(server_default=text("1"))
    parked_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    tried_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    next_try_at: Mapped[dt.datetime]
    resolved_at: Mapped[dt.datetime | None]
    version: Mapped[int] = mapped_column(server_default=text("1"))
