"""Trials that were had, and keyed hashes of the identities that had them."""

import datetime as dt
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, CheckConstraint, ForeignKey, Index, LargeBinary, Uuid
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, metadata_column


class Trial(Base):
    """An offer that was granted to be tried, and the batches it became."""

    __tablename__ = "trials"
    __table_args__ = (Index("ix_trials_tenant_id_id", "tenant_id", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"))
    sku: Mapped[str] = mapped_column(ForeignKey("offers.sku"))
    batch_ids: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid()))
    details: Mapped[dict[str, Any]] = metadata_column()
    created_at: Mapped[dt.datetime]


class TrialIdentity(Base):
    """An identity that had a trial: HMAC-SHA-256 under the pepper whose id stands beside it.

    The identity itself is nowhere, and neither is the pepper.
    """

    __tablename__ = "trial_identities"
    __table_args__ = (
        CheckConstraint("length(digest) = 32", name="digest"),
        Index("ix_trial_identities_trial_id", "trial_id"),
    )

    digest: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    pepper_id: Mapped[str]
    trial_id: Mapped[UUID] = mapped_column(ForeignKey("trials.id"))
