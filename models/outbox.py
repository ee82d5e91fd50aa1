"""What happened, where it goes, and how each try ended."""

import datetime as dt
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Computed,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    SmallInteger,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, metadata_column, one_of
from models.rules.states import STORED_DELIVERY_STATES, EndpointState


class SecretKind(StrEnum):
    """How a secret signs: a shared key, or the private half of a key pair."""

    hmac = "hmac"
    ed25519 = "ed25519"


class OutboxMessage(Base):
    """Something that happened, as the bytes every subscriber gets. Never updated."""

    __tablename__ = "outbox_messages"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    type: Mapped[str]
    tenant_id: Mapped[str]
    schema_version: Mapped[int] = mapped_column(SmallInteger)
    sequence: Mapped[int] = mapped_column(BigInteger)
    body: Mapped[bytes] = mapped_column(LargeBinary)
    truncated: Mapped[bool] = mapped_column(server_default=text("false"))
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    # Whose work told of it, and where that stood in a trace.
    correlation_id: Mapped[str | None]
    traceparent: Mapped[str | None]


class OutboxPending(Base):
    """A message not yet fanned out to deliveries: a queue, so a late commit is never skipped."""

    __tablename__ = "outbox_pending"

    message_id: Mapped[UUID] = mapped_column(ForeignKey("outbox_messages.id"), primary_key=True)


class Endpoint(Base):
    """Where events go: one tenant's (`tenant_id` set) or the operator's, which sees all tenants."""

    __tablename__ = "endpoints"
    __table_args__ = (
        one_of("state", EndpointState),
        CheckConstraint("length(url) <= 2048", name="url"),
        CheckConstraint("cardinality(topics) >= 1", name="topics"),
        CheckConstraint("(tenant_id IS NULL) = operator", name="owner"),
        CheckConstraint("rate_per_minute BETWEEN 1 AND 60000", name="rate_per_minute"),
        Index("ix_endpoints_tenant_id", "tenant_id"),
        # The few whose deliveries have yet to follow a change of state.
        Index("ix_endpoints_unsettled", "id", postgresql_where=text("unsettled")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[str | None] = mapped_column(ForeignKey("tenants.tenant_id"))
    operator: Mapped[bool] = mapped_column(server_default=text("false"))
    url: Mapped[str]
    topics: Mapped[list[str]] = mapped_column(ARRAY(Text))
    description: Mapped[str | None]
    headers: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    # URLs are stored in one normal spelling: this is the Host header, which many endpoints share.
    host: Mapped[str] = mapped_column(Computed("split_part(url, '/', 3)", persisted=True))
    ordered: Mapped[bool] = mapped_column(server_default=text("false"))
    rate_per_minute: Mapped[int | None]
    state: Mapped[str] = mapped_column(server_default=text("'enabled'"))
    unsettled: Mapped[bool] = mapped_column(server_default=text("false"))
    details: Mapped[dict[str, Any]] = metadata_column()
    version: Mapped[int] = mapped_column(server_default=text("1"))
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class EndpointHealth(Base):
    """How an endpoint is doing; no row while nothing is known. Written by whoever holds its lock.

    The columns are what a claim asks: nothing before `hold_until` nor before `probe_at`, one
    delivery at a time while `single`, only `blocked_by` while an ordered endpoint stands still,
    and so many as the rate limit has left since `paced_until`. `condition` is for the rules alone.
    """

    __tablename__ = "endpoint_health"
    __table_args__ = (
        # Those that are failing: when the next notice of each falls due.
        Index(
            "ix_endpoint_health_review_at",
            "review_at",
            postgresql_where=text("review_at IS NOT NULL"),
        ),
    )

    endpoint_id: Mapped[UUID] = mapped_column(ForeignKey("endpoints.id"), primary_key=True)
    hold_until: Mapped[dt.datetime | None]
    probe_at: Mapped[dt.datetime | None]
    single: Mapped[bool] = mapped_column(server_default=text("false"))
    blocked_by: Mapped[int | None] = mapped_column(BigInteger)
    paced_until: Mapped[dt.datetime | None]
    review_at: Mapped[dt.datetime | None]
    condition: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))


class EndpointSecret(Base):
    """A signing key of an endpoint, sealed under a master key."""

    __tablename__ = "endpoint_secrets"
    __table_args__ = (
        one_of("kind", SecretKind),
        Index("ix_endpoint_secrets_endpoint_id", "endpoint_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    endpoint_id: Mapped[UUID] = mapped_column(ForeignKey("endpoints.id"))
    kind: Mapped[str] = mapped_column(server_default=text("'hmac'"))
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[dt.datetime | None]


class Delivery(Base):
    """One message to one endpoint. What is being sent is pending here and has a lease."""

    __tablename__ = "deliveries"
    __table_args__ = (
        one_of("state", STORED_DELIVERY_STATES),
        Index("uq_deliveries_message_id_endpoint_id", "message_id", "endpoint_id", unique=True),
        # What an endpoint has due, oldest first.
        Index(
            "ix_deliveries_due",
            "endpoint_id",
            "due_at",
            "id",
            postgresql_where=text("state = 'pending'"),
        ),
        # What waits for its endpoint to be enabled, or is cancelled with it.
        Index(
            "ix_deliveries_held",
            "endpoint_id",
            "id",
            postgresql_where=text("state = 'held'"),
        ),
        # What an endpoint got, newest first.
        Index("ix_deliveries_endpoint_id", "endpoint_id", "id"),
        # What an endpoint never got: few, and kept until somebody replays them.
        Index(
            "ix_deliveries_dead",
            "endpoint_id",
            "id",
            postgresql_where=text("state = 'dead'"),
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    message_id: Mapped[UUID] = mapped_column(ForeignKey("outbox_messages.id"))
    endpoint_id: Mapped[UUID] = mapped_column(ForeignKey("endpoints.id"))
    state: Mapped[str] = mapped_column(server_default=text("'pending'"))
    attempt_count: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    due_at: Mapped[dt.datetime]
    completed_at: Mapped[dt.datetime | None]
    skip_reason: Mapped[str | None]
    # When an operator last had it sent again after it was delivered or dead.
    replayed_at: Mapped[dt.datetime | None]


class DeliveryLease(Base):
    """A delivery that is being sent, and by whom. Few rows, each written once and deleted."""

    __tablename__ = "delivery_leases"

    # No foreign key: to check it would write to the very row that a claim leaves alone. Only a
    # pending delivery is leased, and only what is no longer pending is ever deleted.
    delivery_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    endpoint_id: Mapped[UUID]
    lease_token: Mapped[UUID]
    leased_until: Mapped[dt.datetime]


class DeliveryAttempt(Base):
    """One HTTP try and how it ended. Partitioned by day, so that old days are dropped whole."""

    __tablename__ = "delivery_attempts"
    __table_args__ = (
        Index("ix_delivery_attempts_delivery_id", "delivery_id"),
        # How an endpoint answered of late.
        Index("ix_delivery_attempts_endpoint_id", "endpoint_id", "attempted_at"),
        {"postgresql_partition_by": "RANGE (attempted_at)"},
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    attempted_at: Mapped[dt.datetime] = mapped_column(primary_key=True)
    # No foreign key: an attempt outlives nothing, and its partition is dropped without a scan.
    delivery_id: Mapped[int] = mapped_column(BigInteger)
    endpoint_id: Mapped[UUID]
    attempt_number: Mapped[int] = mapped_column(SmallInteger)
    outcome: Mapped[str]
    status: Mapped[int | None] = mapped_column(SmallInteger)
    latency_ms: Mapped[int]
    error: Mapped[str | None]
    response_excerpt: Mapped[bytes | None] = mapped_column(LargeBinary)
