"""How messages reach a worker: one that can not be read costs only itself.

Celery and kombu expect every message to have been written by themselves. What has another shape, by
a mistake of a producer in another language or of somebody at the Redis prompt, raises in the middle
of the worker's loop and ends the process; and if it had been taken already it is given back, and
ends the next one.
"""

from collections.abc import Callable
from typing import Any

import structlog
from celery import signals
from celery.worker.consumer import Consumer as CeleryConsumer
from kombu.transport import redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from tasks import metrics, signing
from worker import messages, trust

UNREADABLE = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError)
"""What reading something of another shape than expected raises."""

log = structlog.get_logger(__name__)


class Consumer(CeleryConsumer):  # type: ignore[misc]
    """Celery's consumer, but it refuses what it can not read instead of ending the worker."""

    def create_task_handler(self, *args: Any, **options: Any) -> Callable[[Any], None]:
        """Return what is called with each message."""
        handle = super().create_task_handler(*args, **options)
        known = self.strategies

        def handle_or_refuse(message: Any) -> None:
            try:
                trust.require(message)
                if not trust.is_ours(message.headers) and message.headers.get("task") in known:
                    # Celery's own, such as celery.map, which calls any task: nobody here needs it.
                    self.on_unknown_task(None, message, KeyError("a task of Celery itself"))
                    return
                handle(message)
            except signing.Untrusted as untrusted:
                self._refuse(message, untrusted)
            except UNREADABLE as error:
                # Logs it, takes it off the queue, and sends the signal by which it is kept.
                self.on_invalid_task(None, message, error)

        return handle_or_refuse

    def _refuse(self, message: Any, untrusted: signing.Untrusted) -> None:
        """Take a message off its queue that may not be acted upon; the signal has it kept."""
        metrics.REFUSED.add(code=untrusted.code)
        log.error("message.refused", code=untrusted.code, reason=str(untrusted))
        message.reject_log_error(log, self.connection_errors)
        signals.task_rejected.send(sender=self, message=message, exc=untrusted)


class Channel(redis.Channel):
    """Redis' channel, but it drops what is no message at all, and outlives a Redis that died."""

    def _connparams(self, *args: Any, **options: Any) -> Any:
        # Closed after its connection was given up, a channel gives back what it holds over one it
        # can not have. As a lost connection that is expected, and the consumer connects anew;
        # kombu's AttributeError ends the worker. The messages come back by themselves.
        if self.connection.client is None:
            raise RedisConnectionError("the connection was given up")
        return super()._connparams(*args, **options)

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)
        except RedisError:
            raise  # one of them is a ValueError too
        except UNREADABLE as error:
            # It was taken off the queue and is not ours to keep: nothing tells what it is.
            log.error("message.no_envelope", error=type(error).__name__)  # noqa: TRY400 (it quotes)
            return True


class Transport(redis.Transport):
    """Redis with our channel."""

    Channel = Channel


# What goes around a body has the body in it as one text, and is written when a message is sent and
# again when a worker takes it: 2 ms each for a thousand events with kombu's writer, 0.02 ms with
# ours. Kombu has no setting for it.
redis.dumps = messages.write  # type: ignore[attr-defined,assignment]
