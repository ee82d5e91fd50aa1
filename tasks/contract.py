"""What every task obeys: names, schemas, validation, one transaction, answers, retries.

A task's body is a plain function whose keyword-only arguments are its message. `command` runs it
in one transaction and, when it takes an `idempotency_key`, at most once per key; `job` leaves the
transactions to it (periodic work that goes in chunks). Both validate the arguments first, whoever
calls: a Celery client by name, `.delay(…)`, or Python in the same process.
"""

import datetime as dt
import inspect
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Concatenate, Generic, Literal, ParamSpec, Protocol, TypeVar, cast, overload

import pydantic
import pydantic_core
import structlog
from celery import Task as CeleryTask
from celery import shared_task
from celery.exceptions import Reject

from models import database
from models.rules.refusal import Refusal
from models.store import inbox
from tasks.queues import Queue

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)

MOST_TRIES = 6
"""How often one call runs its transaction when PostgreSQL undoes it or can not be reached."""

SHORTEST_PAUSE = 0.02
"""Seconds before the second try; doubled for each further one, times a random 0.5 to 1.5."""

REQUEUE_PAUSE = 5.0
"""Seconds before a message goes back to its queue when the database stays unreachable."""

REGISTRY: dict[str, "Spec"] = {}
"""Every task by its name."""

log = structlog.get_logger(__name__)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


NOW = cast("dt.datetime", object())
"""The default of an `as_of` argument: the instant of the call. A body always sees a real one."""


class InvalidMessage(Refusal):
    """A task's arguments do not fit its schema."""

    code = "message.invalid"

    def __init__(self, message: str, *, errors: list[dict[str, Any]] | None = None) -> None:
        super().__init__(message)
        self.errors = errors or []


@dataclass(frozen=True, slots=True)
class Spec:
    """What is known of one task: its name, queue, kind, and the schema of its arguments."""

    name: str
    queue: Queue
    kind: Literal["command", "job"]
    model: type[pydantic.BaseModel]
    answer: Any
    body: Callable[..., Any]
    doc: str = field(repr=False)
    reveal: Callable[[database.Session, Any], Any] | None = None


class Task(Protocol, Generic[P, R_co]):
    """A task: call it here and now, or send it with `delay` or `apply_async`."""

    name: str

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Run in this process and return the answer."""

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Send to a worker; `.get()` of what comes back waits for the answer."""

    def apply_async(self, args: Any = None, kwargs: dict[str, Any] | None = None, **o: Any) -> Any:
        """Send to a worker with Celery's options."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a call came from: the Celery message id, or None for a call in this process."""

    message_id: str | None = None


@overload
def command(
    name: str, *, queue: Queue
) -> Callable[[Callable[Concatenate[database.Session, P], R_co]], Task[P, R_co]]: ...


@overload
def command(
    name: str, *, queue: Queue, reveal: Callable[[database.Session, Any], R_co]
) -> Callable[[Callable[Concatenate[database.Session, P], Any]], Task[P, R_co]]: ...


def command(
    name: str, *, queue: Queue, reveal: Callable[[database.Session, Any], Any] | None = None
) -> Callable[[Callable[Concatenate[database.Session, P], Any]], Task[P, Any]]:
    """Declare a task that is one transaction. The body gets the open session first.

    Args:
        name: "billing.…".
        queue: where it waits for a worker.
        reveal: completes the answer with what must not be stored beside the idempotency key, such
            as a secret: it gets the open session and the answer as stored, each time it is given.
    """

    def declare(body: Callable[Concatenate[database.Session, P], Any]) -> Task[P, Any]:
        return cast("Task[P, Any]", _declare(name, queue, "command", body, reveal))

    return declare


def job(name: str, *, queue: Queue) -> Callable[[Callable[P, R_co]], Task[P, R_co]]:
    """Declare a task that opens its own transactions, such as periodic work in chunks."""

    def declare(body: Callable[P, R_co]) -> Task[P, R_co]:
        return cast("Task[P, R_co]", _declare(name, queue, "job", body))

    return declare


def keep_lost(name: str, kwargs: dict[str, Any], error: BaseException, message_id: str) -> None:
    """Keep a command whose process died or ran out of time too often to try again."""
    spec = REGISTRY.get(name)
    if spec is not None and spec.kind == "command":
        fault = {"field": None, "reason": f"{type(error).__name__}: {error}"}
        _keep(spec, kwargs, Origin(message_id), code="worker.lost", errors=[fault])


def _declare(
    name: str,
    queue: Queue,
    kind: Literal["command", "job"],
    body: Any,
    reveal: Callable[[database.Session, Any], Any] | None = None,
) -> Any:
    hints = inspect.signature(body, eval_str=True)
    spec = Spec(
        name=name,
        queue=queue,
        kind=kind,
        model=_model(name, hints),
        answer=inspect.signature(reveal or body, eval_str=True).return_annotation,
        body=body,
        doc=inspect.getdoc(body) or "",
        reveal=reveal,
    )
    if name in REGISTRY:
        raise ValueError(f"two tasks are named {name!r}")
    REGISTRY[name] = spec

    def run(task: CeleryTask, *args: Any, **kwargs: Any) -> Any:
        if args:
            raise InvalidMessage(f"{name} takes its arguments by keyword, got {len(args)} by place")
        called_here = task.request.called_directly
        origin = Origin(None if called_here else task.request.id)
        return _execute(spec, kwargs, origin)

    run.__name__ = body.__name__
    run.__module__ = body.__module__
    run.__doc__ = body.__doc__
    return shared_task(name=name, bind=True, typing=False)(run)


def _model(name: str, signature: inspect.Signature) -> type[pydantic.BaseModel]:
    fields: dict[str, Any] = {}
    for parameter in signature.parameters.values():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        default: Any = parameter.default
        if default is NOW:
            default = pydantic.Field(default_factory=_now)
        elif default is inspect.Parameter.empty:
            default = ...
        fields[parameter.name] = (parameter.annotation, default)
    title = name.removeprefix("billing.").title().replace("_", "").replace(".", "")
    return pydantic.create_model(
        title,
        __config__=pydantic.ConfigDict(extra="forbid", arbitrary_types_allowed=False),
        **fields,
    )


def _execute(spec: Spec, kwargs: dict[str, Any], origin: Origin) -> Any:
    try:
        arguments = _validate(spec, kwargs)
        return pydantic_core.to_jsonable_python(_run_bounded(spec, arguments, origin))
    except InvalidMessage as invalid:
        _keep(spec, kwargs, origin, code=invalid.code, errors=invalid.errors)
        raise
    except Refusal as refusal:
        fault = {"field": refusal.field, "reason": refusal.message}
        _keep(spec, kwargs, origin, code=refusal.code, errors=[fault])
        raise
    except Reject:
        raise
    except Exception as surprise:
        fault = {"field": None, "reason": f"{type(surprise).__name__}: see the worker's log"}
        _keep(spec, kwargs, origin, code="unexpected", errors=[fault])
        raise


def _validate(spec: Spec, kwargs: dict[str, Any]) -> dict[str, Any]:
    try:
        message = spec.model.model_validate(kwargs)
    except pydantic.ValidationError as error:
        errors = describe(error)
        reasons = "; ".join(f"{fault['field']}: {fault['reason']}" for fault in errors)
        raise InvalidMessage(f"{spec.name}: {reasons}", errors=errors) from None
    return {name: getattr(message, name) for name in type(message).model_fields}


def describe(error: pydantic.ValidationError) -> list[dict[str, Any]]:
    """Return one mapping for each fault: `field`, `reason`, and `value` where it is short."""
    return [
        {
            "field": ".".join(str(part) for part in fault["loc"]) or None,
            "reason": fault["msg"],
            **({"value": value} if len(value := repr(fault["input"])) <= 80 else {}),
        }
        for fault in error.errors(include_url=False, include_context=False)
    ]


def _run_bounded(spec: Spec, arguments: dict[str, Any], origin: Origin) -> Any:
    """Run the body; again, a bounded number of times, if the database undid it or was away."""
    for tries_left in reversed(range(MOST_TRIES)):
        try:
            return _run(spec, arguments)
        except Exception as error:
            passing = database.is_retryable(error) or database.is_unreachable(error)
            if not passing or (tries_left == 0 and origin.message_id is None):
                raise
            if tries_left == 0:
                if spec.kind == "command" and database.is_unreachable(error):
                    _put_back(spec, error)
                raise
            pause = SHORTEST_PAUSE * 2 ** (MOST_TRIES - 1 - tries_left)
            time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 (jitter, not a secret)
    raise AssertionError("unreachable: the last try returns or raises")


def _put_back(spec: Spec, error: BaseException) -> None:
    """Return a command to its queue: it may be the only copy of a fact, and can not be kept."""
    log.warning("task.put_back", task=spec.name, reason=type(error).__name__)
    time.sleep(REQUEUE_PAUSE)
    raise Reject(reason="the database is unreachable", requeue=True)


def _run(spec: Spec, arguments: dict[str, Any]) -> Any:
    if spec.kind == "job":
        return spec.body(**arguments)
    with database.transaction() as session:
        if arguments.get("idempotency_key") is None:
            answer = spec.body(session, **arguments)
        else:
            answer = _run_once(spec, session, arguments)
        return answer if spec.reveal is None else spec.reveal(session, answer)


def _run_once(spec: Spec, session: database.Session, arguments: dict[str, Any]) -> Any:
    request = {name: value for name, value in arguments.items() if name != "as_of"}
    call = inbox.Call(
        tenant_id=str(arguments.get("tenant_id") or ""),
        operation=spec.name,
        key=arguments["idempotency_key"],
        request_hash=inbox.hash_request(pydantic_core.to_jsonable_python(request)),
    )
    answer = inbox.find_answer(session, call, now=arguments.get("as_of") or _now())
    if answer is None:
        answer = pydantic_core.to_jsonable_python(spec.body(session, **arguments))
        inbox.keep_answer(session, call, answer)
    return answer


def _keep(
    spec: Spec,
    kwargs: dict[str, Any],
    origin: Origin,
    *,
    code: str,
    errors: list[dict[str, Any]],
) -> None:
    """Keep a message that failed. A call in this process gets its exception and needs no copy."""
    if origin.message_id is None or spec.kind == "job":
        return
    tenant_id = kwargs.get("tenant_id")
    rejection = inbox.Rejection(
        task=spec.name,
        tenant_id=tenant_id if isinstance(tenant_id, str) else None,
        payload=kwargs,
        code=code,
        errors=errors,
        message_id=origin.message_id,
    )
    with database.transaction() as session:
        ids = inbox.keep_rejections(session, [rejection], now=_now())
    log.warning("task.rejected", task=spec.name, code=code, rejected_message_id=ids[0])
