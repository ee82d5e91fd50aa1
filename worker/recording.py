"""Messages as they are on the wire, kept so that workers to come can be tried with them."""

import base64
import json
import uuid
from collections.abc import Mapping
from typing import Any, Final

from kombu.connection import Connection

from tasks import contract
from worker.celery import app

NAMESPACE: Final = uuid.UUID("5b0b6f6e-0d0b-5c1c-9c8b-6d6573736167")
ORIGIN: Final = "gen1@producer"
"""Instead of the process and the host that recorded."""


def record(task: str, arguments: Mapping[str, Any], *, kind: str = "usual") -> dict[str, Any]:
    """Return what a call of a task puts on the broker: body, content type, headers, properties.

    Ids are made of the task's name and `kind`, so that the same call is the same message.
    """
    task_id = str(uuid.uuid5(NAMESPACE, f"{task} {kind}"))
    queue = contract.REGISTRY[task].queue.value
    with Connection("memory://") as connection:
        connection.transport.state.clear()
        app.send_task(
            task,
            kwargs=dict(arguments),
            task_id=task_id,
            queue=queue,
            connection=connection,
        )
        raw = connection.default_channel._get(queue)  # noqa: SLF001 (as it is, not as it is read)
    return _without_chance(raw, task_id)


def wire(recorded: Mapping[str, Any]) -> bytes:
    """Return a recorded message as it lies in Redis."""
    body = base64.b64encode(recorded["body"].encode()).decode()
    return json.dumps({**recorded, "body": body}).encode()


def _without_chance(raw: dict[str, Any], task_id: str) -> dict[str, Any]:
    """Replace what differs from one process and one sending to the next; show the body as text."""
    thread = raw["properties"]["reply_to"]
    text = json.dumps(raw).replace(thread, str(uuid.uuid5(NAMESPACE, "a thread")))
    message: dict[str, Any] = json.loads(text)
    message["body"] = base64.b64decode(message["body"]).decode()
    message["headers"]["origin"] = ORIGIN
    message["properties"]["delivery_tag"] = str(uuid.uuid5(NAMESPACE, f"tag of {task_id}"))
    return message
