"""How one call of a task is carried out: validated, once, tried again, kept if it can not be."""

import datetime as dt
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

import pydantic
import pydantic_core
import structlog
from celery.exceptions import Reject

from models import database
from models.rules.refusal import Refusal
from models.store import ending, inbox
from tasks import credit_errors, origin, signing, tracing, whose, withholding
from tasks.spec import REGISTRY, Spec
from tasks.tracing import Kind

T = TypeVar("T")

MOST_TRIES = 6
"""How often one call runs its transaction when PostgreSQL undoes it or can not be reached."""

SHORTEST_PAUSE = 0.02
"""Seconds, doubled before each further try and multiplied by a random 0.5 to 1.5."""

REQUEUE_PAUSE = 5.0
"""Seconds before a message goes back to its queue when the database stays unreachable."""

LONGEST_VALUE = 80
"""Characters of a faulty value that is quoted beside its reason."""

log = structlog.get_logger(__name__)


class InvalidMessage(Refusal):
    """A task's arguments do not fit its schema."""

    code = "message.invalid"

    def __init__(
        self,
        message: str,
        code: str | None = None,
        field: str | None = None,
        *,
        errors: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(message, code, field)
        self.errors = errors or []


def now() -> dt.datetime:
    """Return the instant of the call."""
    return dt.datetime.now(dt.UTC)


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
        answer = _bounded(spec, message_id, lambda: _run(spec, arguments))
        return pydantic_core.to_jsonable_python(answer)
    except InvalidMessage as invalid:
        _keep(spec, kwargs, message_id, code=invalid.code, errors=invalid.errors)
        raise
    except Refusal as refusal:
        fault = {"field": refusal.field, "reason": refusal.message}
        _keep(spec, kwargs, message_id, code=refusal.code, errors=[fault])
        raise
    except Reject:
        raise
    except Exception as surprise:
        fault = {"field": None, "reason": f"{type(surprise).__name__}: see the worker's log"}
        _keep(spec, kwargs, message_id, code="unexpected", errors=[fault])
        raise


def carry_out(session: database.Session, spec: Spec, kwargs: dict[str, Any]) -> Any:
    """Carry out a command within the caller's transaction; return its answer as plain JSON values.

    What the task reveals to its caller alone, such as a secret, is not in the answer.

    Raises:
        InvalidMessage: the arguments do not fit.
        Refusal: the task refused them, with a code.
    """
    answer = _run_in(session, spec, _validate(spec, kwargs))
    return pydantic_core.to_jsonable_python(answer)


def insist(work: Callable[[database.Session], T]) -> T:
    """Do `work` in a transaction; again, a bounded number of times, if the database undid it.

    As the body of a task is run that is called in this process.
    """

    def once() -> T:
        with database.transaction() as session:
            return work(session)

    return _again(once)


def keep_lost(name: str, kwargs: dict[str, Any], error: BaseException, message_id: str) -> None:
    """Keep a command whose process died or ran out of time too often to try again."""
    spec = REGISTRY.get(name)
    if spec is not None:
        fault = {"field": None, "reason": f"{type(error).__name__}: {error}"}
        _keep(spec, kwargs, message_id, code="worker.lost", errors=[fault])


def keep_unknown(name: str, kwargs: dict[str, Any], message_id: str) -> None:
    """Keep a message for a task that this program does not have."""
    fault = {"field": None, "reason": f"no task is named {name!r}"}
    _store(name, kwargs, message_id, code="task.unknown", errors=[fault])


def keep_unreadable(name: str, kwargs: dict[str, Any], message_id: str, *, reason: str) -> None:
    """Keep a message that is not made as a task's message is.

    Args:
        name: what it says its task is, or nothing.
        kwargs: what could be read of it.
        reason: why it is none, without a word of what it says.
    """
    fault = {"field": None, "reason": reason}
    _store(name, kwargs, message_id, code="message.unreadable", errors=[fault])


def keep_untrusted(
    name: str, kwargs: dict[str, Any], message_id: str, *, fault: signing.Untrusted
) -> None:
    """Keep a message that nobody with a key has sent, or not as it is."""
    errors = [{"field": None, "reason": str(fault)}]
    _store(name, kwargs, message_id, code=fault.code, errors=errors)


def describe(error: pydantic.ValidationError, spec: Spec | None = None) -> list[dict[str, Any]]:
    """Return one mapping for each fault: `field`, `reason`, and `value` where it is short.

    Args:
        spec: the task whose arguments these are, if they are. Of what may be a secret there is no
            value.
    """
    return [
        {
            "field": ".".join(str(part) for part in fault["loc"]) or None,
            "reason": fault["msg"],
            **_quoted(fault, spec),
        }
        for fault in error.errors(include_url=False, include_context=False)
    ]


def _quoted(fault: Mapping[str, Any], spec: Spec | None) -> dict[str, str]:
    if fault["type"] == "missing":
        return {}  # its value would be all that was given
    value = repr(fault["input"])
    is_shown = withholding.is_quotable(spec, fault["loc"], fault["input"])
    return {"value": value} if is_shown and len(value) <= LONGEST_VALUE else {}


def _validate(spec: Spec, kwargs: dict[str, Any]) -> dict[str, Any]:
    try:
        message = spec.model.model_validate(kwargs)
    except pydantic.ValidationError as error:
        errors = describe(error, spec)
        reasons = "; ".join(f"{fault['field']}: {fault['reason']}" for fault in errors)
        raise InvalidMessage(f"{spec.name}: {reasons}", errors=errors) from None
    return {name: getattr(message, name) for name in type(message).model_fields}


def _bounded(spec: Spec, message_id: str | None, work: Callable[[], T]) -> T:
    """Do `work`, again if need be; put a message back to its queue if the database stays away."""
    try:
        return _again(work)
    except Exception as error:
        is_message = spec.kind == "command" and message_id is not None
        if is_message and database.is_unreachable(error):
            _put_back(spec, error)
        raise


def _again(work: Callable[[], T]) -> T:
    """Do `work`; again, a bounded number of times, if the database undid it or was away."""
    for tried in range(1, MOST_TRIES + 1):
        try:
            return work()
        except Exception as error:
            may_work = database.is_unreachable(error) or database.is_retryable(error)
            if not may_work or tried == MOST_TRIES:
                raise
        time.sleep(SHORTEST_PAUSE * 2**tried * random.uniform(0.5, 1.5))  # noqa: S311 (jitter)
    raise AssertionError("the last try returns or raises")


def _put_back(spec: Spec, error: BaseException) -> NoReturn:
    """Return a command to its queue: it may be the only copy of a fact, and can not be kept."""
    log.warning("task.put_back", task=spec.name, reason=type(error).__name__)
    time.sleep(REQUEUE_PAUSE)
    raise Reject(reason="the database is unreachable", requeue=True)


def _run(spec: Spec, arguments: dict[str, Any]) -> Any:
    if spec.kind == "job":
        return spec.body(**whose.alone(arguments))
    with database.transaction() as session:
        answer = _run_in(session, spec, arguments)
        return answer if spec.reveal is None else spec.reveal(session, answer)


def _run_in(session: database.Session, spec: Spec, sent: dict[str, Any]) -> Any:
    if spec.once == "item" or sent.get("idempotency_key") is None:
        return spec.body(session, **whose.of_today(session, spec, sent))
    return _run_once(session, spec, sent)


def _run_once(session: database.Session, spec: Spec, sent: dict[str, Any]) -> Any:
    """Give the stored answer of this idempotency key, or run the body and store its answer.

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
    at = sent.get("as_of") or now()
    call, answer, arguments = whose.answered(session, spec, sent, call, now=at)
    if answer is None:
        ending.gather(session)
        answer = pydantic_core.to_jsonable_python(spec.body(session, **arguments))
        inbox.keep_answer(session, call, answer)
    return answer


def _keep(
    spec: Spec,
    kwargs: dict[str, Any],
    message_id: str | None,
    *,
    code: str,
    errors: list[dict[str, Any]],
) -> None:
    """Keep a command's message that failed; a job's is rung again by beat."""
    if message_id is None or spec.kind == "job":
        return
    _bounded(
        spec, message_id, lambda: _store(spec.name, kwargs, message_id, code=code, errors=errors)
    )


def _store(
    name: str, kwargs: dict[str, Any], message_id: str, *, code: str, errors: list[dict[str, Any]]
) -> None:
    tenant_id = kwargs.get("tenant_id")
    rejection = inbox.Rejection(
        task=name,
        tenant_id=tenant_id if isinstance(tenant_id, str) else None,
        payload=withholding.kept(name, kwargs),
        code=code,
        errors=errors,
        message_id=message_id,
    )
    with database.transaction() as session:
        at = now()
        ids = inbox.keep_rejections(session, [rejection], now=at)
        credit_errors.tell(session, rejection, ids[0], now=at)
    log.warning("task.rejected", task=name, code=code, rejected_message_id=ids[0])
