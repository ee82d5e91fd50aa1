"""In what brokers differ: options of the connection, arguments of the queues."""

from typing import Any

from worker import settings

REDIS_OPTIONS = {
    # The default sweep looks for lost messages so seldom that one with a timeout of 5 s
    # came back after 100 s; with these, after 5.5 s.
    "unacked_restore_interval": 5,
    "unacked_restore_throttle": 1,
    # A Redis that hangs is noticed; an idle connection through a firewall is kept.
    "socket_timeout": 30,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "health_check_interval": 25,
    "retry_on_timeout": True,
}
"""Of the broker's connection. RabbitMQ has none of these problems and refuses the options."""

QUORUM = {
    # Copied to a majority of RabbitMQ's nodes and to their disks before a producer is told so.
    "x-queue-type": "quorum",
    # How often a message may be given back before RabbitMQ drops it: 20 times by default since 4.0,
    # and a worker gives back what it got each five seconds while the database is away.
    "x-delivery-limit": 1_000_000,
}
"""Of queues on RabbitMQ."""


def is_rabbitmq(url: str) -> bool:
    """Tell whether a broker's URL is one of RabbitMQ."""
    return url.startswith(("amqp://", "amqps://", "pyamqp://"))


def transport_options(chosen: settings.Settings, broker: str) -> dict[str, Any]:
    """Return the options of the connection to a broker, by its URL."""
    if is_rabbitmq(broker):
        # To send returns when RabbitMQ has the message, not when the network has.
        return {"confirm_publish": True}
    if not settings.is_redis(broker):
        return {}
    return {**REDIS_OPTIONS, "visibility_timeout": chosen.visibility_timeout_seconds}
