"""What goes around a task's arguments: a text of them without secrets, and where they come from.

Celery puts a text of the arguments beside each message, for events and logs. Ours is made without
secrets where a message is sent from Python, and again where it is received, since producers in
other languages send none.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from celery import Task as CeleryTask
from celery.app.amqp import AMQP as CeleryAMQP  # noqa: N811 (ours takes its name)
from celery.exceptions import InvalidTaskError
from celery.utils.saferepr import saferepr
from celery.worker.request import Request as CeleryRequest

from tasks import origin, tracing
from tasks.contract import SECRET_FIELDS
from tasks.tracing import Kind

MASK = "***"
LONGEST = 1024
"""Characters of the text."""

MOST_ITEMS = 3
"""Of a list that are shown: the text of a thousand events would be made only to be cut."""


def masked(arguments: Any) -> str:
    """Return the text of a task's keyword arguments, with secrets replaced."""
    return str(saferepr(_without_secrets(arguments), LONGEST))


def _without_secrets(value: Any) -> Any:
    if isinstance(value, list) and len(value) > MOST_ITEMS:
        return [*value[:MOST_ITEMS], f"and {len(value) - MOST_ITEMS:,} more"]
    if not isinstance(value, dict):
        return value
    return {
        name: MASK if name in SECRET_FIELDS and item else _without_secrets(item)
        for name, item in value.items()
    }


@contextlib.contextmanager
def _sending(task_id: str, name: str, given: Mapping[str, Any]) -> Iterator[None]:
    """Let the message's headers name the span of its sending, unless the sender says another."""
    came = origin.current()
    parent = None if came is None else came.traceparent
    span = None
    if tracing.is_on() and origin.TRACEPARENT not in given:
        about = {"messaging.system": "celery", "messaging.message.id": task_id}
        span = tracing.begin(f"send {name}", Kind.producer, parent=parent, **about)
    if span is None:
        yield
        return
    with origin.within(origin.Origin(came.correlation_id if came else task_id, span.traceparent)):
        yield
    span.end()


class AMQP(CeleryAMQP):  # type: ignore[misc]
    """Where messages are made."""

    def as_task_v2(
        self,
        task_id: str,
        name: str,
        args: Any = None,
        kwargs: Any = None,
        *rest: Any,
        **options: Any,
    ) -> Any:
        """Make a task's message, its text masked, with what the work at hand is done for."""
        options["kwargsrepr"] = masked(kwargs or {})
        message = super().as_task_v2(task_id, name, args, kwargs, *rest, **options)
        given = options.get("headers") or {}
        with _sending(task_id, name, given):
            ours = origin.headers_for(task_id)
        message.headers.update({name: ours[name] for name in ours.keys() - given.keys()})
        return message


class Request(CeleryRequest):  # type: ignore[misc]
    """Where messages are received."""

    def __init__(self, message: Any, **options: Any) -> None:
        """Read a message; whatever text came with it, show our own.

        The pool gets what was read here, not the text once more: Celery would send it both, and a
        chunk of a thousand events would be parsed twice.
        """
        if not options.get("decoded"):
            options |= {"body": message.payload, "decoded": True}
        super().__init__(message, **options)
        self._check()
        self._kwargsrepr = masked(self._kwargs)
        self._request_dict["kwargsrepr"] = self._kwargsrepr

    def __repr__(self) -> str:
        """Name the task and the message: the consumer logs it when the broker goes away."""
        return f"<Request: {self.name}[{self.id}]>"

    def on_failure(self, *args: Any, **options: Any) -> Any:
        """Tell of a failure in lines that say whose: also of one that nobody's code has seen."""
        with origin.within(origin.of_message(self._request_dict, message_id=str(self.id))):
            return super().on_failure(*args, **options)

    def send_event(self, type: str, **fields: Any) -> None:  # noqa: A002 (Celery's name)
        """Tell Flower; of an answer that is not shown, that there is one."""
        if "result" in fields and self.task.resultrepr_maxsize == 0:
            fields["result"] = MASK
        super().send_event(type, **fields)

    def _check(self) -> None:
        """Refuse here what would else fail once a place in the pool is taken, and keep the place.

        Raises:
            InvalidTaskError: the arguments are no list and object, or the time limits no numbers.
        """
        if not isinstance(self._kwargs, dict) or not isinstance(self._args, list | tuple):
            raise InvalidTaskError("its arguments are not a list and an object")
        limits = self.time_limits
        if not isinstance(limits, list | tuple) or len(limits) != 2:
            raise InvalidTaskError("its time limits are not two")
        if not all(limit is None or isinstance(limit, int | float) for limit in limits):
            raise InvalidTaskError("its time limits are not numbers")


class Task(CeleryTask):  # type: ignore[misc]
    """A task whose messages are shown masked."""

    abstract = True
    Request = f"{__name__}:Request"
