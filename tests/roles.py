"""Work done as one of the database's roles, over connections that tests have anyway."""

import contextlib
from collections.abc import Iterator
from typing import Final

from sqlalchemy import Connection, Engine, event

from models.rights import Role
from tasks import contract
from tasks.queues import Queue

OF_QUEUE: Final = {
    Queue.usage: Role.worker,
    Queue.billing: Role.worker,
    Queue.webhooks: Role.sender,
}
"""As whom the workers of each queue log in."""


def of_task(name: str) -> Role:
    """Return as whom a task runs."""
    return OF_QUEUE[contract.REGISTRY[name].queue]


@contextlib.contextmanager
def acting_as(engine: Engine, role: Role) -> Iterator[None]:
    """Let whatever is done over an engine be done with a role's rights, in every thread."""

    def become(connection: Connection) -> None:
        connection.exec_driver_sql(f"SET LOCAL ROLE {role}")

    event.listen(engine, "begin", become)
    try:
        yield
    finally:
        event.remove(engine, "begin", become)
