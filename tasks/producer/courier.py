"""Carries chunks of events to the queue and their answers back, over connections of its own."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from celery import Celery
from celery.backends.base import DisabledBackend
from celery.exceptions import CeleryError
from kombu.connection import Connection
from kombu.exceptions import KombuError
from kombu.messaging import Producer
from redis.exceptions import RedisError

from tasks import signing, tls
from tasks.queues import Queue
from tasks.signing import MessageKeys

TASK = "billing.record_usage"

NETWORK_SECONDS = 10
"""How long one exchange with the broker may take before the connection is taken for dead."""

FAILURES = (CeleryError, KombuError, RedisError, OSError, EOFError)
"""What a broker that is away, restarts or talks nonsense makes us see."""

EMBED = b'{"callbacks":null,"errbacks":null,"chain":null,"chord":null}'


class NoAnswers(ValueError):
    """A producer that can not hear answers could not tell a lost chunk from a stored one."""

    def __init__(self) -> None:
        super().__init__(
            "no place for answers is known: give `answers`, the BILLING_RESULT_BACKEND of the "
            "workers, or a broker that is a Redis, which keeps both"
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker said of a chunk.

    Args:
        kind: "done", with `content`; or the task "failed", with the error's name as `content`.
    """

    kind: Literal["done", "failed"]
    content: Any


class Courier:
    """Used by one thread of one process.

    Args:
        broker: the broker's URL.
        answers: the result backend's URL; the broker if it is a Redis.

        keys: what messages are signed with, where workers demand it.

    Raises:
        NoAnswers: there is no result backend.
        InvalidTls: a URL says something of TLS that can not be used.
    """

    def __init__(
        self, broker: str, answers: str | None = None, keys: MessageKeys | None = None
    ) -> None:
        self._keys = keys
        is_redis = broker.startswith(("redis://", "rediss://"))
        encrypted = tls.check(broker)
        backend = tls.check(answers).url if answers else (encrypted.url if is_redis else None)
        # An application of our own: nobody else's threads, settings and subscriptions.
        self._app = Celery(
            "usage-producer", broker=encrypted.url, backend=backend, set_as_current=False
        )
        self._app.conf.update(
            # Retries are the producer's: these would sleep where nobody can interrupt them.
            task_publish_retry=False,
            broker_use_ssl=encrypted.options,
            redis_socket_timeout=NETWORK_SECONDS,
            redis_socket_connect_timeout=NETWORK_SECONDS,
            broker_connection_timeout=NETWORK_SECONDS,
            broker_transport_options=(
                {
                    "socket_timeout": NETWORK_SECONDS,
                    "socket_connect_timeout": NETWORK_SECONDS,
                    "socket_keepalive": True,
                }
                if is_redis
                else {"confirm_publish": True}
            ),
        )
        if isinstance(self._app.backend, DisabledBackend):
            raise NoAnswers
        self._connection: Connection | None = None
        self._producer: Producer | None = None

    def send(self, task_id: str, lines: Sequence[bytes]) -> None:
        """Put one message on the usage queue. Raises one of FAILURES."""
        headers, properties, _, _ = self._app.amqp.as_task_v2(task_id, TASK)
        # The lines are JSON already: written once, by `record`, and not read again here.
        body = b'[[],{"events":[' + b",".join(lines) + b"]}," + EMBED + b"]"
        if self._keys is not None:
            headers[signing.HEADER] = self._keys.sign(task_id, TASK, body)
        try:
            self._open().publish(
                body,
                # The nameless exchange leads to the queue of that name, with any broker and also
                # after a FLUSHALL, which forgets bindings.
                exchange="",
                routing_key=Queue.usage.value,
                content_type="application/json",
                content_encoding="utf-8",
                headers=headers,
                delivery_mode=2,
                **properties,
            )
        except BaseException:
            self.close()
            raise

    def look(self, task_id: str) -> Answer | None:
        """Return the answer of a message if it has come. Raises one of FAILURES."""
        meta = self._app.backend.get_task_meta(task_id, cache=False)
        if meta["status"] == "SUCCESS":
            return Answer("done", meta["result"])
        if meta["status"] in {"FAILURE", "REVOKED"}:
            return Answer("failed", type(meta["result"]).__name__)
        return None

    def forget(self, task_id: str) -> None:
        """Delete an answer that was read; it would expire anyway."""
        with contextlib.suppress(*FAILURES):
            self._app.backend.forget(task_id)

    def close(self) -> None:
        """Close the connection; the next message opens another one."""
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(*FAILURES):
                connection.release()

    def _open(self) -> Producer:
        if self._producer is None:
            self._connection = self._app.connection_for_write()
            # Once: without a bound kombu tries for ever, where nobody can interrupt it.
            self._connection.ensure_connection(max_retries=1, timeout=NETWORK_SECONDS)
            self._producer = Producer(self._connection.channel(), auto_declare=False)
        return self._producer
