"""Answers already given, and keeping messages that could not be taken."""

import datetime as dt
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from sqlalchemy import select
from sqlalchemy import text as sql
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import Session

from models import hot
from models.inbox import RejectedMessage
from models.rules.refusal import Refusal
from models.store import ending, outbox
from models.store.ending import Part

DEEPEST = 300
"""Levels of nesting that are kept. Metadata we accept has at most 254, and Python's JSON reader
takes more than its writer can write again: such a message must not be what can not be kept."""


class IdempotencyConflict(Refusal):
    """An idempotency key was used before for another request."""

    code: ClassVar[str] = "idempotency.conflict"


@dataclass(frozen=True, slots=True)
class Call:
    """One mutating command: who asked for what under which key."""

    tenant_id: str
    operation: str
    key: str
    request_hash: bytes


def find_answer(session: Session, call: Call, *, now: dt.datetime) -> dict[str, Any] | None:
    """Claim a call's key, or return the answer the same call got before.

    The key row is inserted in the caller's transaction: a concurrent call with the same key waits
    here until this one commits (and then gets its answer) or rolls back (and then runs itself).

    Raises:
        IdempotencyConflict: the key was used for another request of this operation.
    """
    if hot.execute(session, CLAIM, claim_of(call, now=now)):
        return None
    return get_answer(session, call)


def get_answer(session: Session, call: Call) -> dict[str, Any]:
    """Return the answer that the same call got before, whose key was found to be taken.

    Raises:
        IdempotencyConflict: the key was used for another request of this operation.
    """
    row = session.execute(ANSWER, _key_of(call)).one()
    if row.request_hash != call.request_hash:
        whose = f" of tenant {call.tenant_id!r}" if call.tenant_id else ""
        raise IdempotencyConflict(
            f"idempotency_key {call.key!r} was used before for another {call.operation}{whose}; "
            "send the first request again unchanged, or use a new key",
            field="idempotency_key",
        )
    answer: dict[str, Any] = row.answer
    return answer


def keep_answer(
    session: Session, call: Call, answer: dict[str, Any], *, ends: bool = False
) -> None:
    """Store the answer beside the key that `find_answer` claimed in this transaction.

    With it goes what was left for the end, messages for the outbox too: one round trip for all.

    Args:
        ends: nothing else is asked of this transaction, so that all of it may go with the commit.
    """
    parts = [*ending.taken(session), *outbox.taken(session)]
    last = Part(KEEP, {**_key_of(call), "answer": json.dumps(answer)})
    if ends:
        ending.leave_to_commit(session, parts, last)
    else:
        ending.write(session, parts, last)


@dataclass(frozen=True, slots=True)
class Rejection:
    """A command, or one item of it, that could not be taken.

    Args:
        task: the task's name, such as "billing.record_usage".
        payload: its keyword arguments as they came (any JSON, also what jsonb refuses).
        code: a stable word for the cause.
        errors: one mapping for each fault: `field`, `reason`, and `value` where it is short.
    """

    task: str
    tenant_id: str | None
    payload: Any
    code: str
    errors: Sequence[dict[str, Any]]
    message_id: str | None = None


def keep_rejections(
    session: Session, rejections: Sequence[Rejection], *, now: dt.datetime
) -> list[int]:
    """Keep what could not be taken, and return its ids in the same order.

    A payload that is already waiting gets its count raised instead of a second row.
    """
    if not rejections:
        return []
    unique = {_payload_hash(rejection): rejection for rejection in rejections}
    # One order of keys in every transaction, so that two of them can not deadlock.
    rows = [_row(rejection, digest, now) for digest, rejection in sorted(unique.items(), key=_key)]
    statement = pg_insert(RejectedMessage).on_conflict_do_update(
        index_elements=["task", "payload_hash"],
        index_where=sql("state = 'open'"),
        set_={"seen_count": RejectedMessage.seen_count + 1, "last_seen_at": now},
    )
    kept = session.execute(
        statement.returning(RejectedMessage.payload_hash, RejectedMessage.id), rows
    )
    ids: dict[bytes, int] = {row.payload_hash: row.id for row in kept}
    return [ids[_payload_hash(rejection)] for rejection in rejections]


def times_seen(session: Session, rejected_message_id: int) -> int:
    """Return how often a message that was kept has come."""
    found: int = session.execute(
        select(RejectedMessage.seen_count).where(RejectedMessage.id == rejected_message_id)
    ).scalar_one()
    return found


def claim_of(call: Call, *, now: dt.datetime) -> dict[str, Any]:
    """Return the row that claims a call's key."""
    return {**_key_of(call), "request_hash": call.request_hash, "now": now}


def hash_request(request: Any) -> bytes:
    """Return the SHA-256 of a request's canonical JSON, 32 bytes."""
    return hashlib.sha256(_canonical(request)).digest()


def _key_of(call: Call) -> dict[str, str]:
    return {"tenant_id": call.tenant_id, "operation": call.operation, "key": call.key}


def _key(item: tuple[bytes, Rejection]) -> bytes:
    return item[0]


def _row(rejection: Rejection, digest: bytes, now: dt.datetime) -> dict[str, Any]:
    return {
        "task": rejection.task,
        "tenant_id": _storable(rejection.tenant_id),
        "payload": json.loads(_canonical(rejection.payload)),
        "payload_hash": digest,
        "code": rejection.code,
        "errors": json.loads(_canonical(list(rejection.errors))),
        "message_id": rejection.message_id,
        "received_at": now,
        "last_seen_at": now,
    }


def _payload_hash(rejection: Rejection) -> bytes:
    return hash_request([rejection.task, rejection.payload])


def _storable(text: str | None) -> str | None:
    """A text column takes neither NUL nor lone surrogates; the payload beside it keeps them."""
    if text is None:
        return None
    return text.encode("utf-8", "replace").decode().replace("\x00", "?")[:64]


def _canonical(value: Any) -> bytes:
    """JSON in one fixed form: keys sorted, ASCII only (so that any string survives)."""
    return _CANONICAL.encode(_plain(value)).encode("ascii")


_CANONICAL = json.JSONEncoder(
    default=str, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
)


def _plain(value: Any, depth: int = 0) -> Any:
    """What any JSON writer can write: NaN and infinity as the words they were, no endless depth."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if not isinstance(value, dict | list | tuple):
        return value
    if depth == DEEPEST:
        return f"(nested deeper than {DEEPEST} levels)"
    if isinstance(value, dict):
        return {str(key): _plain(item, depth + 1) for key, item in value.items()}
    return [_plain(item, depth + 1) for item in value]


# Every command with a key runs the first and the last of these.
CLAIM = hot.statement("""
    INSERT INTO idempotency_keys (tenant_id, operation, key, request_hash, created_at)
    VALUES (:tenant_id, :operation, :key, :request_hash, :now)
    ON CONFLICT DO NOTHING
    RETURNING key
""")

ANSWER = sql("""
    SELECT request_hash, answer FROM idempotency_keys
    WHERE tenant_id = :tenant_id AND operation = :operation AND key = :key
""")

KEEP = """
    UPDATE idempotency_keys SET answer = CAST(:answer AS jsonb)
    WHERE tenant_id = :tenant_id AND operation = :operation AND key = :key
"""
