"""Celery's settings, as the environment decides them."""

from types import SimpleNamespace

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from worker import brokers, celery, consumer


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


def test_rabbitmq_gets_none_of_redis_options_and_keeps_messages_by_majority(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BROKER_URL", "amqp://127.0.0.1:1//")

    found = celery.configuration()

    assert found["broker_transport_options"] == {"confirm_publish": True}
    assert [queue.queue_arguments for queue in found["task_queues"]] == [brokers.QUORUM] * 3


def test_redis_queues_are_just_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_URL", "redis://127.0.0.1:1/0")

    assert {queue.queue_arguments for queue in celery.configuration()["task_queues"]} == {None}


def test_a_channel_without_a_connection_says_so_as_a_lost_connection() -> None:
    channel = consumer.Channel.__new__(consumer.Channel)
    channel.connection = SimpleNamespace(client=None)
    channel.closed = True

    with pytest.raises(RedisConnectionError):
        channel._connparams()
