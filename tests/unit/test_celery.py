"""Celery's settings, as the environment decides them."""

from types import SimpleNamespace

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from worker import celery, consumer


def test_the_operator_decides_when_a_message_is_given_out_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BROKER_URL", "redis://127.0.0.1:1/0")
    monkeypatch.delenv("BILLING_VISIBILITY_TIMEOUT_SECONDS", raising=False)
    usual = celery.configuration()["broker_transport_options"]["visibility_timeout"]
    monkeypatch.setenv("BILLING_VISIBILITY_TIMEOUT_SECONDS", "900")

    assert celery.configuration()["broker_transport_options"]["visibility_timeout"] == 900
    # What runs no longer than it may is not given out again.
    assert usual >= 2 * celery.TASK_TIME_LIMIT


def test_another_broker_gets_none_of_redis_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_URL", "amqp://127.0.0.1:1//")

    assert celery.configuration()["broker_transport_options"] == {}


def test_a_channel_without_a_connection_says_so_as_a_lost_connection() -> None:
    channel = consumer.Channel.__new__(consumer.Channel)
    channel.connection = SimpleNamespace(client=None)
    channel.closed = True

    with pytest.raises(RedisConnectionError):
        channel._connparams()
