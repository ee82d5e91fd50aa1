"""What is known of each task, and the register of all of them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import pydantic

from models import database
from models.store.ending import Part
from tasks.queues import Queue

Reveal = Callable[[database.Session, Any], Any]
"""Completes an answer with what must not be stored, such as a secret."""

First = Callable[[dict[str, Any]], Part]
"""Makes of the arguments what is read as a command's key is claimed."""


@dataclass(frozen=True, slots=True)
class Spec:
    """One task: its name, queue, kind, the schema of its arguments, and its body.

    Args:
        make_model: makes the schema of its arguments, once.
        kind: a command is one transaction; a job opens its own.
        once: what an `idempotency_key` among the arguments stands for: the call, which is then
            carried out once, or one item of what is sent, which the body sorts out itself.
        scope: the argument within whose value an `idempotency_key` is unique, besides tenant_id.
        follows_alias: whether a `tenant_id` that became part of another tenant is that one to the
            body.
        first: what the body reads first, so that it is read as the key is claimed.
    """

    name: str
    queue: Queue
    kind: Literal["command", "job"]
    once: Literal["call", "item"]
    make_model: Callable[[], type[pydantic.BaseModel]] = field(repr=False)
    answer: Any
    body: Callable[..., Any]
    doc: str = field(repr=False)
    reveal: Reveal | None = None
    scope: str | None = None
    follows_alias: bool = True
    first: First | None = None

    @property
    def model(self) -> type[pydantic.BaseModel]:
        """The schema of its arguments."""
        return self.make_model()

    @property
    def only_reads(self) -> bool:
        """Whether it changes nothing, as its name says."""
        return self.name.removeprefix("billing.").startswith(READS)


READS = ("get_", "list_", "find_", "check_", "preview_", "render_", "quote")
"""How the names of tasks begin that change nothing."""

SECRET_FIELDS = frozenset({"headers", "identities", "secret", "secrets", "private_key"})
"""Names under which a message or an answer may hold a secret, or whose account somebody has: never
shown in Flower or a log, and not kept in a message that was refused."""

NOT_KEPT = "(not kept: it may be a secret)"
"""What a refused message has in such a place."""

REGISTRY: dict[str, Spec] = {}
"""Every task by its name."""
