"""What every task obeys: a name, a queue, a schema, one transaction.

A task's body is a plain function whose keyword-only arguments are its message. `command` runs it
in one transaction and, when it takes an `idempotency_key`, at most once per key; `job` leaves the
transactions to it (periodic work that goes in chunks). Both validate the arguments first, whoever
calls: a Celery client by name, `.delay(…)`, or Python in the same process. What happens to a call,
good or bad, is in `tasks/execution.py`; how often it is tried, in `tasks/trying.py`; where one goes
that can not be carried out, in `tasks/keeping.py`.
"""

import datetime as dt
import functools
import inspect
from collections.abc import Callable
from typing import Any, Concatenate, Generic, Literal, ParamSpec, Protocol, TypeVar, cast, overload

import pydantic
from celery import Task as CeleryTask
from celery import shared_task

from models import database
from models.rules.refusal import Refusal
from tasks import clock, execution
from tasks.message_faults import InvalidMessage
from tasks.queues import Queue
from tasks.spec import REGISTRY, SECRET_FIELDS, First, Reveal, Spec

__all__ = [
    "NOW",
    "REGISTRY",
    "SECRET_FIELDS",
    "InvalidMessage",
    "Spec",
    "Task",
    "command",
    "job",
]

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)

NOW = cast("dt.datetime", object())
"""The default of an `as_of` argument: the instant of the call. A body always sees a real one."""

PRIVATE_FIELDS = SECRET_FIELDS | {"event", "attempts"}
"""Names under which an answer may hold what is not for Flower: secrets, payloads, peers' words."""


class Task(Protocol, Generic[P, R_co]):
    """A task: call it here and now, or send it with `delay` or `apply_async`."""

    name: str

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Run in this process and return the answer."""

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Send to a worker; `.get()` of what comes back waits for the answer."""

    def apply_async(self, args: Any = None, kwargs: dict[str, Any] | None = None, **o: Any) -> Any:
        """Send to a worker with Celery's options."""


@overload
def command(
    name: str,
    *,
    queue: Queue,
    once: Literal["call", "item"] = "call",
    scope: str | None = None,
    follows_alias: bool = True,
    first: First | None = None,
) -> Callable[[Callable[Concatenate[database.Session, P], R_co]], Task[P, R_co]]: ...


@overload
def command(
    name: str,
    *,
    queue: Queue,
    reveal: Callable[[database.Session, Any], R_co],
    scope: str | None = None,
    follows_alias: bool = True,
) -> Callable[[Callable[Concatenate[database.Session, P], Any]], Task[P, R_co]]: ...


def command(
    name: str,
    *,
    queue: Queue,
    once: Literal["call", "item"] = "call",
    reveal: Reveal | None = None,
    scope: str | None = None,
    follows_alias: bool = True,
    first: First | None = None,
) -> Callable[[Callable[Concatenate[database.Session, P], Any]], Task[P, Any]]:
    """Declare a task that is one transaction. The body gets the open session first.

    Args:
        name: "billing.…".
        queue: where it waits for a worker.
        once: what an `idempotency_key` stands for. The call: it is carried out once and its answer
            is kept. One item of what is sent: the body sorts out which items it has already seen.
        reveal: completes the answer with what must not be stored beside the idempotency key, such
            as a secret: it gets the open session and the answer as stored, each time it is given.
        scope: the argument, such as the id of what is changed, within which an `idempotency_key`
            is unique: for commands that name no tenant, whose keys would else be everybody's.
        follows_alias: whether the body is given, as `tenant_id`, the tenant that the one which was
            sent became part of. No only for a body that follows it by itself.
        first: what the body is sure to read first of its tenant: it is read as the key is claimed.
    """

    def declare(body: Callable[Concatenate[database.Session, P], Any]) -> Task[P, Any]:
        task = _declare(
            name,
            body,
            queue=queue,
            kind="command",
            once=once,
            reveal=reveal,
            scope=scope,
            # A body that sorts out items needs to know under which id each was sent.
            follows_alias=follows_alias and once == "call",
            first=first,
        )
        return cast("Task[P, Any]", task)

    return declare


def job(name: str, *, queue: Queue) -> Callable[[Callable[P, R_co]], Task[P, R_co]]:
    """Declare a task that opens its own transactions, such as periodic work in chunks."""

    def declare(body: Callable[P, R_co]) -> Task[P, R_co]:
        return cast("Task[P, R_co]", _declare(name, body, queue=queue, kind="job"))

    return declare


def _declare(
    name: str,
    body: Callable[..., Any],
    *,
    queue: Queue,
    kind: Literal["command", "job"],
    once: Literal["call", "item"] = "call",
    reveal: Reveal | None = None,
    scope: str | None = None,
    follows_alias: bool = True,
    first: First | None = None,
) -> Any:
    spec = Spec(
        name=name,
        queue=queue,
        kind=kind,
        once=once,
        # When it is needed: there are many tasks, and few of them in any one process.
        make_model=functools.cache(lambda: _model(name, inspect.signature(body, eval_str=True))),
        answer=inspect.signature(reveal or body, eval_str=True).return_annotation,
        body=body,
        doc=inspect.getdoc(body) or "",
        reveal=reveal,
        scope=scope,
        follows_alias=follows_alias,
        first=first,
    )
    if name in REGISTRY:
        raise ValueError(f"two tasks are named {name!r}")
    REGISTRY[name] = spec

    def run(task: CeleryTask, *args: Any, **kwargs: Any) -> Any:
        if args:
            raise InvalidMessage(f"{name} takes its arguments by keyword, got {len(args)} by place")
        message_id = None if task.request.called_directly else task.request.id
        return execution.execute(spec, kwargs, message_id)

    run.__name__ = body.__name__
    run.__module__ = body.__module__
    run.__doc__ = body.__doc__
    # `throws`: a refusal is an answer, not a traceback in the log.
    return shared_task(name=name, bind=True, typing=False, throws=(Refusal,), **_shown(spec))(run)


def _model(name: str, signature: inspect.Signature) -> type[pydantic.BaseModel]:
    """Make the pydantic model of a body's keyword-only arguments."""
    fields: dict[str, Any] = {}
    for parameter in signature.parameters.values():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        default: Any = parameter.default
        if default is NOW:
            default = pydantic.Field(default_factory=clock.now)
        elif default is inspect.Parameter.empty:
            default = ...
        fields[parameter.name] = (parameter.annotation, default)
    title = name.removeprefix("billing.").title().replace("_", "").replace(".", "")
    strict = pydantic.ConfigDict(extra="forbid")
    return pydantic.create_model(title, __config__=strict, **fields)


def _shown(spec: Spec) -> dict[str, int]:
    """Bound what Flower shows of an answer: nothing, if it may hold what is private."""
    fields = getattr(spec.answer, "__annotations__", {})
    return {"resultrepr_maxsize": 0} if PRIVATE_FIELDS & fields.keys() else {}
