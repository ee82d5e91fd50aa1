"""Messages that could not be taken: sent again, mended or not, or discarded."""

import datetime as dt
from typing import Annotated, Any, Literal, TypedDict

import structlog
from pydantic import Field

from models import database
from models.inbox import RejectedMessage
from models.rules.refusal import Refusal
from models.rules.states import RejectedState
from models.store import rejected
from tasks import contract, execution, fields, usage_event
from tasks.queues import Queue
from tasks.spec import NOT_KEPT

USAGE = "billing.record_usage"

BY_MESSAGE = "a message"
"""Who acted, when the message does not say."""

RejectedMessageId = Annotated[int, Field(ge=1, lt=2**63)]

log = structlog.get_logger(__name__)


class ReplayAnswer(TypedDict):
    """What became of a rejected message.

    `state` is "replayed", or "open" when it was refused again: then `code` and `errors` say why.
    `answer` is what the task answered, None if it did not run this time.
    """

    rejected_message_id: int
    state: Literal["open", "replayed"]
    answer: Any
    code: str | None
    errors: list[dict[str, Any]]


class DiscardAnswer(TypedDict):
    """A message that nobody wants any more."""

    rejected_message_id: int
    state: Literal["discarded"]


class AlreadyResolved(Refusal):
    """The message was dealt with before, in another way."""

    code = "rejected_message.resolved"


class SecretNotKept(Refusal):
    """A part of the message was left out when it was kept, since it may hold secrets."""

    code = "rejected_message.secret_not_kept"


@contract.command("billing.replay_rejected", queue=Queue.billing)
def replay_rejected(
    session: database.Session,
    *,
    rejected_message_id: RejectedMessageId,
    payload: dict[str, Any] | None = None,
    actor: fields.Name | None = None,
    as_of: fields.Instant = contract.NOW,
) -> ReplayAnswer:
    """Send a rejected message again, as it came or mended.

    Runs when an operator sends it. It carries the task out and closes the message in one
    transaction, so twice is harmless: the second time it is closed already. A message that is
    refused again stays open, whole, with the new reason if it was sent as it came; of many events
    those that are refused again are open messages of their own. If it dies half way nothing has
    happened.

    A usage event without `at` keeps the instant it first came. What may be a secret, such as an
    endpoint's headers, was not kept and must be given anew. A secret that the task makes is not in
    the answer: the same command sent again, or billing.rotate_endpoint_secret, shows one.

    Args:
        rejected_message_id: which one.
        payload: the task's arguments, or the usage event, to send instead of what came.
        actor: who decided, 1 to 200 characters.
        as_of: what to call now.

    Raises:
        UnknownRejectedMessage: there is none with that id.
        AlreadyResolved: it was discarded.
    """
    row = rejected.lock(session, rejected_message_id)
    if row.state == RejectedState.replayed:
        return _answer(row, "replayed")
    _require_open(row, "replay")
    note = "as it came" if payload is None else "mended"
    try:
        with database.savepoint(session):
            # Closed first: what its task keeps of it anew is another open message, not this one.
            _resolve(session, row, RejectedState.replayed, actor=actor, note=note, now=as_of)
            answer = _send_again(session, row, payload, now=as_of)
    except Refusal as refusal:
        errors = _errors(refusal)
        if payload is None:
            rejected.refuse_again(session, row, code=refusal.code, errors=errors, now=as_of)
        return _answer(row, "open", code=refusal.code, errors=errors)
    log.info("rejected.replayed", rejected_message_id=row.id, actor=actor or BY_MESSAGE)
    return _answer(row, "replayed", answer=answer)


@contract.command("billing.discard_rejected", queue=Queue.billing)
def discard_rejected(
    session: database.Session,
    *,
    rejected_message_id: RejectedMessageId,
    reason: fields.Name,
    actor: fields.Name | None = None,
    as_of: fields.Instant = contract.NOW,
) -> DiscardAnswer:
    """Close a rejected message that nobody wants; it is kept, with who decided and why.

    Runs when an operator sends it. Twice is harmless: the second time it is closed already. If it
    dies half way nothing has happened.

    Args:
        rejected_message_id: which one.
        reason: why, 1 to 200 characters.
        actor: who decided, 1 to 200 characters.
        as_of: what to call now.

    Raises:
        UnknownRejectedMessage: there is none with that id.
        AlreadyResolved: it was replayed.
    """
    row = rejected.lock(session, rejected_message_id)
    if row.state != RejectedState.discarded:
        _require_open(row, "discard")
        _resolve(session, row, RejectedState.discarded, actor=actor, note=reason, now=as_of)
        log.info("rejected.discarded", rejected_message_id=row.id, actor=actor or BY_MESSAGE)
    return {"rejected_message_id": row.id, "state": "discarded"}


def _send_again(
    session: database.Session,
    row: RejectedMessage,
    mended: dict[str, Any] | None,
    *,
    now: dt.datetime,
) -> Any:
    spec = contract.REGISTRY.get(row.task)
    if spec is None or spec.kind != "command":
        raise contract.InvalidMessage(
            f"no command is named {row.task!r}; discard the message, or replay it with a program "
            "that has one"
        )
    payload = row.payload if mended is None else mended
    if not isinstance(payload, dict):
        raise contract.InvalidMessage(
            f"what came is no object but {type(payload).__name__}; replay it with a mended payload"
        )
    _require_whole(payload)
    if row.task == USAGE:
        payload = usage_event.dated(payload, row.received_at)
    if "as_of" in spec.model.model_fields:
        payload = {"as_of": now} | payload
    return execution.carry_out(session, spec, payload)


def _require_whole(payload: dict[str, Any]) -> None:
    lacking = [key for key, value in payload.items() if value == NOT_KEPT]
    if lacking:
        raise SecretNotKept(
            f"{', '.join(lacking)} of this message may hold secrets and was not kept; replay it "
            "with a mended payload that has it, or without it",
            field=lacking[0],
        )


def _require_open(row: RejectedMessage, verb: str) -> None:
    if row.state != RejectedState.open:
        raise AlreadyResolved(
            f"rejected message {row.id} was {row.state} by {row.resolved_by} at "
            f"{row.resolved_at:%Y-%m-%d %H:%M:%SZ}; only an open one can be {verb}ed",
            field="rejected_message_id",
        )


def _resolve(
    session: database.Session,
    row: RejectedMessage,
    state: RejectedState,
    *,
    actor: str | None,
    note: str,
    now: dt.datetime,
) -> None:
    by = actor or BY_MESSAGE
    if not rejected.resolve(session, row, state, actor=by, note=note, now=now):
        raise AssertionError("a message that is locked and open stays open")


def _errors(refusal: Refusal) -> list[dict[str, Any]]:
    if isinstance(refusal, contract.InvalidMessage) and refusal.errors:
        return refusal.errors
    return [{"field": refusal.field, "reason": refusal.message}]


def _answer(
    row: RejectedMessage,
    state: Literal["open", "replayed"],
    *,
    answer: Any = None,
    code: str | None = None,
    errors: list[dict[str, Any]] | None = None,
) -> ReplayAnswer:
    return {
        "rejected_message_id": row.id,
        "state": state,
        "answer": answer,
        "code": code,
        "errors": errors or [],
    }
