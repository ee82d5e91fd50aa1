"""Messages that could not be taken: found, mended and sent again, or discarded by an operator."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from sqlalchemy import ColumnElement, func, orm, select, update
from sqlalchemy.orm import Session

from models.inbox import RejectedMessage
from models.rules.refusal import Refusal
from models.rules.states import RejectedState


class UnknownRejectedMessage(Refusal):
    """No rejected message has that id."""

    code: ClassVar[str] = "rejected_message.unknown"


@dataclass(frozen=True, slots=True)
class Filter:
    """Which rejected messages are meant; None is no condition.

    Args:
        task: the task's name.
        code: the cause, such as "message.invalid".
        since: those that came, first or again, at this instant or later.
        but: causes that are not meant.
    """

    state: RejectedState | None = RejectedState.open
    task: str | None = None
    tenant_id: str | None = None
    code: str | None = None
    since: dt.datetime | None = None
    but: frozenset[str] = frozenset()


def list_newest(session: Session, wanted: Filter, *, limit: int) -> list[RejectedMessage]:
    """Return rejected messages, newest first, without their payloads.

    Args:
        limit: how many at most, 1 or more.
    """
    query = select(RejectedMessage).options(orm.defer(RejectedMessage.payload, raiseload=True))
    query = query.where(*_conditions(wanted))
    return list(session.scalars(query.order_by(RejectedMessage.id.desc()).limit(limit)))


def list_ids(
    session: Session, wanted: Filter, *, after: int, until: int, limit: int
) -> Sequence[int]:
    """Return at most `limit` ids behind `after` and not above `until`, oldest first."""
    query = select(RejectedMessage.id).where(
        *_conditions(wanted), RejectedMessage.id > after, RejectedMessage.id <= until
    )
    return session.scalars(query.order_by(RejectedMessage.id).limit(limit)).all()


def newest_id(session: Session) -> int:
    """Return the highest id there is, 0 without any: what comes later is above it."""
    return session.scalar(select(func.max(RejectedMessage.id))) or 0


def get(session: Session, rejected_message_id: int) -> RejectedMessage:
    """Return one rejected message with its payload.

    Raises:
        UnknownRejectedMessage: there is none with that id.
    """
    return _found(session.get(RejectedMessage, rejected_message_id), rejected_message_id)


def lock(session: Session, rejected_message_id: int) -> RejectedMessage:
    """Return one rejected message, locked until the transaction ends: one operator at a time.

    Raises:
        UnknownRejectedMessage: there is none with that id.
    """
    statement = select(RejectedMessage).where(RejectedMessage.id == rejected_message_id)
    row = session.scalars(
        statement.with_for_update().execution_options(populate_existing=True)
    ).one_or_none()
    return _found(row, rejected_message_id)


def resolve(
    session: Session,
    row: RejectedMessage,
    state: RejectedState,
    *,
    actor: str,
    note: str,
    now: dt.datetime,
) -> bool:
    """Close an open message that was locked; tell whether it was open.

    Args:
        state: what it becomes, one that an open message can move to.
        actor: who decided.
        note: what was done and why; kept as the last entry of `errors`.
    """
    entry = {"field": None, "reason": f"{state} by {actor}: {note}"}
    return _change(
        session,
        row,
        state=state,
        resolved_at=now,
        resolved_by=actor,
        errors=[*row.errors, entry],
    )


def refuse_again(
    session: Session,
    row: RejectedMessage,
    *,
    code: str,
    errors: Sequence[dict[str, Any]],
    now: dt.datetime,
) -> bool:
    """Say of an open message that was refused once more why this time; it stays open."""
    return _change(
        session,
        row,
        code=code,
        errors=list(errors),
        seen_count=row.seen_count + 1,
        last_seen_at=now,
    )


def _change(session: Session, row: RejectedMessage, **values: Any) -> bool:
    """Change a message that is still open; a closed one stays what it is."""
    moved = session.execute(
        update(RejectedMessage)
        .where(RejectedMessage.id == row.id)
        .where(RejectedMessage.state == RejectedState.open)
        .values(values)
        .returning(RejectedMessage.id)
        .execution_options(synchronize_session=False)
    )
    return moved.first() is not None


def _found(row: RejectedMessage | None, rejected_message_id: int) -> RejectedMessage:
    if row is None:
        raise UnknownRejectedMessage(
            f"no rejected message has the id {rejected_message_id}; `billing rejected list` "
            "shows those there are",
            field="rejected_message_id",
        )
    return row


def _conditions(wanted: Filter) -> list[ColumnElement[bool]]:
    equal = {
        RejectedMessage.state: wanted.state,
        RejectedMessage.task: wanted.task,
        RejectedMessage.tenant_id: wanted.tenant_id,
        RejectedMessage.code: wanted.code,
    }
    conditions = [column == value for column, value in equal.items() if value is not None]
    if wanted.since is not None:
        conditions.append(RejectedMessage.last_seen_at >= wanted.since)
    if wanted.but:
        conditions.append(RejectedMessage.code.not_in(wanted.but))
    return conditions
