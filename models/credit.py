"""Prepaid credit: balances, dated batches, holds on them, and the ledger behind it all."""

import datetime as dt
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, metadata_column, one_of
from models.rules.states import CreditBatchState, ReservationState


class Direction(StrEnum):
    """Which way a ledger entry moves the balance; USE records a use that takes nothing away."""

    CREDIT = "CREDIT"
    DEBIT = "DEBIT"
    USE = "USE"


class Action(StrEnum):
    """Why a ledger entry was written."""

    grant = "grant"
    consume = "consume"
    commit = "commit"
    overdraft = "overdraft"
    repay = "repay"
    refund = "refund"
    exchange = "exchange"
    adjust = "adjust"
    revoke = "revoke"
    expire = "expire"
    transfer = "transfer"
    merge_out = "merge_out"
    merge_in = "merge_in"


class CreditBalance(Base):
    """The cached sum of one product of one tenant, and the lock that serialises changes to it.

    `balance` is what remains in all batches less `debt`, what was used after the fact and is not
    paid yet. Whoever changes anything under the lock raises `version`.
    """

    __tablename__ = "credit_balances"
    __table_args__ = (
        CheckConstraint("held >= 0", name="held"),
        CheckConstraint("debt >= 0", name="debt"),
    )

    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"), primary_key=True)
    product_key: Mapped[str] = mapped_column(ForeignKey("products.product_key"), primary_key=True)
    balance: Mapped[Decimal] = mapped_column(server_default=text("0"))
    held: Mapped[Decimal] = mapped_column(server_default=text("0"))
    debt: Mapped[Decimal] = mapped_column(server_default=text("0"))
    # When subscribers were last told that nothing usable is left.
    depleted_at: Mapped[dt.datetime | None]
    version: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    updated_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class CreditBatch(Base):
    """A dated lot of credit: what was granted, what remains, and until when it may be spent."""

    __tablename__ = "credit_batches"
    __table_args__ = (
        one_of("state", CreditBatchState),
        CheckConstraint(
            "initial_amount > 0 AND remaining_amount BETWEEN 0 AND initial_amount", name="amounts"
        ),
        CheckConstraint("held_amount BETWEEN 0 AND remaining_amount", name="held"),
        CheckConstraint("valid_from < expires_at", name="validity"),
        CheckConstraint(
            "(state = 'ACTIVE') = (remaining_amount > 0 AND closed_at IS NULL)", name="remaining"
        ),
        # Spending reads the first few batches of one balance that hold something, in paying order:
        # by age, or by expiry, as the product says.
        Index(
            "ix_credit_batches_spendable",
            "tenant_id",
            "product_key",
            "priority",
            "created_at",
            "id",
            postgresql_where=text("state = 'ACTIVE'"),
        ),
        Index(
            "ix_credit_batches_spendable_by_expiry",
            "tenant_id",
            "product_key",
            "priority",
            "expires_at",
            "created_at",
            "id",
            postgresql_where=text("state = 'ACTIVE'"),
        ),
        # The expiry sweep walks through what is due, chunk after chunk, without reading the rest.
        Index(
            "ix_credit_batches_expires_at_id",
            "expires_at",
            "id",
            postgresql_where=text("state = 'ACTIVE' AND expires_at IS NOT NULL"),
        ),
        # A wallet's batches, newest first, whatever has become of them.
        Index("ix_credit_batches_tenant_id_id", "tenant_id", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"))
    product_key: Mapped[str] = mapped_column(ForeignKey("products.product_key"))
    initial_amount: Mapped[Decimal]
    remaining_amount: Mapped[Decimal]
    held_amount: Mapped[Decimal] = mapped_column(server_default=text("0"))
    priority: Mapped[int] = mapped_column(server_default=text("0"))
    valid_from: Mapped[dt.datetime]
    expires_at: Mapped[dt.datetime | None]
    state: Mapped[str] = mapped_column(server_default=text("'ACTIVE'"))
    source: Mapped[str]
    created_at: Mapped[dt.datetime]
    closed_at: Mapped[dt.datetime | None]
    # Of state REVOKED: why, and who decided. A batch of which nothing was left has no entry of it.
    revoked_reason: Mapped[str | None]
    revoked_by: Mapped[str | None]
    details: Mapped[dict[str, Any]] = metadata_column()


class LedgerEntry(Base):
    """One change of a balance, with its cause. UPDATE, DELETE and TRUNCATE are refused."""

    __tablename__ = "ledger_entries"
    __table_args__ = (
        one_of("direction", Direction),
        one_of("action", Action),
        CheckConstraint("amount > 0", name="amount"),
        # A wallet's history, newest first.
        Index("ix_ledger_entries_tenant_id_product_key_id", "tenant_id", "product_key", "id"),
        Index("ix_ledger_entries_batch_id", "batch_id"),
        # What one use took, and what was given back of it.
        Index(
            "ix_ledger_entries_uses",
            "cause_id",
            postgresql_where=text("action IN ('consume', 'commit', 'overdraft', 'refund')"),
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"))
    product_key: Mapped[str] = mapped_column(ForeignKey("products.product_key"))
    direction: Mapped[str]
    amount: Mapped[Decimal]
    action: Mapped[str]
    batch_id: Mapped[UUID | None] = mapped_column(ForeignKey("credit_batches.id"))
    balance_after: Mapped[Decimal]
    cause_type: Mapped[str]
    cause_id: Mapped[str]
    details: Mapped[dict[str, Any]] = metadata_column()
    created_at: Mapped[dt.datetime]


class Reservation(Base):
    """Credit set aside for a use whose amount is not known yet, until `expires_at` at the latest.

    `committed_amount` is what was charged in the end: less or more than what was set aside.
    """

    __tablename__ = "reservations"
    __table_args__ = (
        one_of("state", ReservationState),
        CheckConstraint("amount > 0", name="amount"),
        CheckConstraint("created_at < expires_at", name="expires_at"),
        CheckConstraint("(state = 'held') = (closed_at IS NULL)", name="closed_at"),
        CheckConstraint(
            "(state = 'committed') = (committed_amount IS NOT NULL) AND committed_amount >= 0",
            name="committed_amount",
        ),
        # The sweep walks through what is due; a balance looks for its own that are over.
        Index(
            "ix_reservations_expires_at_id",
            "expires_at",
            "id",
            postgresql_where=text("state = 'held'"),
        ),
        Index(
            "ix_reservations_open",
            "tenant_id",
            "product_key",
            "expires_at",
            postgresql_where=text("state = 'held'"),
        ),
        # A tenant's reservations, newest first: ids sort by time.
        Index("ix_reservations_tenant_id_id", "tenant_id", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.tenant_id"))
    product_key: Mapped[str] = mapped_column(ForeignKey("products.product_key"))
    amount: Mapped[Decimal]
    state: Mapped[str] = mapped_column(server_default=text("'held'"))
    committed_amount: Mapped[Decimal | None]
    reason: Mapped[str | None]
    release_reason: Mapped[str | None]
    expires_at: Mapped[dt.datetime]
    created_at: Mapped[dt.datetime]
    closed_at: Mapped[dt.datetime | None]
    details: Mapped[dict[str, Any]] = metadata_column()


class ReservationSlice(Base):
    """What a reservation set aside of one batch. Batches are charged in the order of `nth`."""

    __tablename__ = "reservation_slices"
    __table_args__ = (CheckConstraint("amount > 0", name="amount"),)

    reservation_id: Mapped[UUID] = mapped_column(ForeignKey("reservations.id"), primary_key=True)
    nth: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    batch_id: Mapped[UUID] = mapped_column(ForeignKey("credit_batches.id"))
    amount: Mapped[Decimal]
