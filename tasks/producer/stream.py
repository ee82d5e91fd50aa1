"""One event a call, onto a Redis stream that workers drain: as quick as Redis answers."""

import threading
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from types import TracebackType
from typing import Any, Final, Self

from redis import Redis

from tasks import clock, tls
from tasks.producer import line

STREAM: Final = "billing:usage"
"""The stream's key."""

FIELD: Final = "event"
"""The one field of an entry: the event as JSON."""

NETWORK_SECONDS: Final = 10


class StreamProducer:
    """Thread-safe. An event is safe once `record` has returned, as far as that Redis keeps what it
    has taken: with `appendfsync always` from anything, with `everysec` but for its last second.

    Args:
        url: of the Redis whose stream the workers drain; their broker, unless told otherwise.
        pipelined: how many events go in one exchange, 1 or more. More than 1 is several times
            quicker, and an event is then safe when `flush` has returned, or the next exchange.
    """

    def __init__(self, url: str, *, pipelined: int = 1) -> None:
        if pipelined < 1:
            raise ValueError(f"pipelined is {pipelined}; it must be 1 or more")
        self._redis = Redis.from_url(
            tls.check(url).url,
            socket_timeout=NETWORK_SECONDS,
            socket_connect_timeout=NETWORK_SECONDS,
        )
        self._pipelined = pipelined
        self._lock = threading.Lock()
        self._unsent: list[bytes] = []

    def record(
        self,
        *,
        tenant_id: str,
        metric: str,
        amount: Decimal | int | str,
        at: datetime | None = None,
        idempotency_key: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> str:
        """Put one event on the stream and return its idempotency key.

        Args are those of `UsageProducer.record`.

        Raises:
            InvalidEvent: it can not be written as JSON.
            redis.RedisError: Redis did not take it, or (pipelined) not those before it; record it
                again, with the same key and `at`.
        """
        key, written = line.write(
            tenant_id=tenant_id,
            metric=metric,
            amount=amount,
            at=at,
            idempotency_key=idempotency_key,
            metadata=metadata,
            now=clock.now(),
        )
        if self._pipelined == 1:
            self._redis.xadd(STREAM, {FIELD: written})
            return key
        with self._lock:
            # Before it is taken: what could not be sent is held, but never more than that.
            if len(self._unsent) >= self._pipelined:
                self._send()
            self._unsent.append(written)
        return key

    def flush(self) -> None:
        """Send what is gathered. Raises redis.RedisError; what was gathered is then still here."""
        with self._lock:
            self._send()

    def close(self) -> None:
        """Flush and close the connections."""
        self.flush()
        self._redis.close()

    def __enter__(self) -> Self:
        """Return the producer itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def _send(self) -> None:
        if not self._unsent:
            return
        with self._redis.pipeline(transaction=False) as pipeline:
            for written in self._unsent:
                pipeline.xadd(STREAM, {FIELD: written})
            pipeline.execute()
        self._unsent = []
