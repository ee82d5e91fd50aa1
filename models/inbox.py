"""What comes in from outside: answers already given, messages that could not be taken."""

import datetime as dt
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Identity, Index, LargeBinary, func, text
from sqlalchemy.dialects.postgresql import JSON, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, one_of, text_key
from models.rules.states import RejectedState


class IdempotencyKey(Base):
    """One command that was carried out, with the hash of its request and the answer it got.

    `tenant_id` has no foreign key: operations without a tenant use the empty string.
    """

    __tablename__ = "idempotency_keys"
    __table_args__ = (
        text_key("key", longest=128),
        # Retention deletes old rows by age.
        Index("ix_idempotency_keys_created_at", "created_at", postgresql_using="brin"),
    )

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    operation: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    request_hash: Mapped[bytes] = mapped_column(LargeBinary)
    answer: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())


class RejectedMessage(Base):
    """A command, or one event of a chunk, that could not be taken; kept until someone mends it.

    The same payload sent again while the first is still open raises `seen_count` instead of
    filling the table. `payload` is `json`, not `jsonb`: it must hold what jsonb refuses.
    """

    __tablename__ = "rejected_messages"
    __table_args__ = (
        one_of("state", RejectedState),
        # The dedupe key of open rows, and what makes keeping a rejection safe to run twice.
        Index(
            "uq_rejected_messages_task_payload_hash",
            "task",
            "payload_hash",
            unique=True,
            postgresql_where=text("state = 'open'"),
        ),
        # `billing rejected list`: newest open first.
        Index(
            "ix_rejected_messages_open",
            "id",
            postgresql_where=text("state = 'open'"),
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    task: Mapped[str]
    tenant_id: Mapped[str | None]
    payload: Mapped[Any] = mapped_column(JSON)
    payload_hash: Mapped[bytes] = mapped_column(LargeBinary)
    code: Mapped[str]
    errors: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    state: Mapped[str] = mapped_column(server_default=text("'open'"))
    message_id: Mapped[str | None]
    seen_count: Mapped[int] = mapped_column(server_default=text("1"))
    received_at: Mapped[dt.datetime]
    last_seen_at: Mapped[dt.datetime]
    resolved_at: Mapped[dt.datetime | None]
    resolved_by: Mapped[str | None]
    replayed_as: Mapped[UUID | None]
