"""How one call of a task is carried out: validated, once, in a transaction."""

from typing import Any

import pydantic
import pydantic_core
from celery.exceptions import Reject

from models import database
from models.rules.refusal import Refusal
from models.store import ending, inbox
from tasks import clock, keeping, message_faults, origin, tracing, trying, whose
from tasks.message_faults import InvalidMessage
from tasks.spec import Spec
from tasks.tracing import Kind


def execute(spec: Spec, kwargs: dict[str, Any], message_id: str | None) -> Any:
    """Carry out one call and return its answer as plain JSON values.

    Args:
        message_id: Celery's id of the message, or None for a call in this process. A command's
            message that fails is kept in rejected_messages; a caller in this process gets the
            exception and needs no copy.

    Raises:
        InvalidMessage: the arguments do not fit.
        Refusal: the task refused them, with a code.
        Reject: the database stays away; the message goes back to its queue.
    """
    with origin.somebodys():
        if message_id is None and tracing.is_on():
            return _execute_in_span(spec, kwargs)
        return _execute(spec, kwargs, message_id)


def _execute_in_span(spec: Spec, kwargs: dict[str, Any]) -> Any:
    came = origin.current() or origin.new()
    span = tracing.begin(f"call {spec.name}", Kind.internal, parent=came.traceparent)
    if span is None:
        return _execute(spec, kwargs, None)
    try:
        with origin.within(origin.Origin(came.correlation_id, span.traceparent)):
            answer = _execute(spec, kwargs, None)
    except BaseException as error:
        span.end(error=type(error).__name__)
        raise
    span.end()
    return answer


def _execute(spec: Spec, kwargs: dict[str, Any], message_id: str | None) -> Any:
    try:
        arguments = _validate(spec, kwargs)
        answer = trying.bounded(spec, message_id, lambda: _run(spec, arguments))
        return pydantic_core.to_jsonable_python(answer)
    except InvalidMessage as invalid:
        keeping.keep(spec, kwargs, message_id, code=invalid.code, errors=invalid.errors)
        raise
    except Refusal as refusal:
        fault = {"field": refusal.field, "reason": refusal.message}
        keeping.keep(spec, kwargs, message_id, code=refusal.code, errors=[fault])
        raise
    except Reject:
        raise
    except Exception as surprise:
        fault = {"field": None, "reason": f"{type(surprise).__name__}: see the worker's log"}
        keeping.keep(spec, kwargs, message_id, code="unexpected", errors=[fault])
        raise


def carry_out(session: database.Session, spec: Spec, kwargs: dict[str, Any]) -> Any:
    """Carry out a command within the caller's transaction; return its answer as plain JSON values.

    What the task reveals to its caller alone, such as a secret, is not in the answer.

    Raises:
        InvalidMessage: the arguments do not fit.
        Refusal: the task refused them, with a code.
    """
    answer = _run_in(session, spec, _validate(spec, kwargs), ends=False)
    return pydantic_core.to_jsonable_python(answer)


def _validate(spec: Spec, kwargs: dict[str, Any]) -> dict[str, Any]:
    try:
        message = spec.model.model_validate(kwargs)
    except pydantic.ValidationError as error:
        errors = message_faults.describe(error, spec)
        reasons = "; ".join(f"{fault['field']}: {fault['reason']}" for fault in errors)
        raise InvalidMessage(f"{spec.name}: {reasons}", errors=errors) from None
    return {name: getattr(message, name) for name in type(message).model_fields}


def _run(spec: Spec, arguments: dict[str, Any]) -> Any:
    if spec.kind == "job":
        return spec.body(**whose.alone(arguments))
    with database.transaction() as session:
        answer = _run_in(session, spec, arguments, ends=spec.reveal is None)
        return answer if spec.reveal is None else spec.reveal(session, answer)


def _run_in(session: database.Session, spec: Spec, sent: dict[str, Any], *, ends: bool) -> Any:
    if spec.once == "item" or sent.get("idempotency_key") is None:
        return spec.body(session, **whose.of_today(session, spec, sent))
    return _run_once(session, spec, sent, ends=ends)


def _run_once(session: database.Session, spec: Spec, sent: dict[str, Any], *, ends: bool) -> Any:
    """Give the stored answer of this idempotency key, or run the body and store its answer.

    `ends`: the transaction does nothing after it.

    What was sent makes the request, the tenant of today the key: so a caller that sends again what
    it sent before its tenant was merged gets the answer of then.
    """
    request = {name: value for name, value in sent.items() if name != "as_of"}
    call = inbox.Call(
        tenant_id=str(sent.get("tenant_id") or ""),
        operation=spec.name if spec.scope is None else f"{spec.name} {sent[spec.scope]}",
        key=sent["idempotency_key"],
        request_hash=inbox.hash_request(pydantic_core.to_jsonable_python(request)),
    )
    at = sent.get("as_of") or clock.now()
    call, answer, arguments = whose.answered(session, spec, sent, call, now=at)
    if answer is None:
        ending.gather(session)
        answer = pydantic_core.to_jsonable_python(spec.body(session, **arguments))
        inbox.keep_answer(session, call, answer, ends=ends)
    return answer
