"""What a customer sent stays where it belongs, also when the database refuses it by surprise."""

import base64
import contextlib
import json
from collections.abc import Callable, Iterator

import pytest
from redis.client import PubSub

from tasks.queues import Queue
from tests.acceptance import system

pytestmark = pytest.mark.slow

POISON = "tests.acceptance.poison"
MARKER = b"marker-4711"

BROKEN = {
    "a unique key": (
        "UniqueViolation",
        "INSERT INTO tenants (tenant_id) VALUES (:secret), (:secret)",
    ),
    "a check": (
        "CheckViolation",
        "INSERT INTO tenants (tenant_id, name, currency) VALUES ('x', :secret, 'euro')",
    ),
    "a foreign key": (
        "ForeignKeyViolation",
        "INSERT INTO credit_balances (tenant_id, product_key) VALUES (:secret, :secret)",
    ),
    "a column that must be there": (
        "NotNullViolation",
        "INSERT INTO tenants (tenant_id, name, timezone) VALUES ('x', :secret, NULL)",
    ),
    "a number": ("InvalidTextRepresentation", "SELECT CAST(CAST(:secret AS text) AS numeric)"),
    "JSON": ("InvalidTextRepresentation", "SELECT CAST(CAST(:secret AS text) AS jsonb)"),
}
"""What PostgreSQL calls it when a rule is broken, and a statement that breaks it."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[system.System]:
    """One worker with the bad tasks."""
    with system.running(tmp_path_factory.mktemp("discretion")) as started:
        started.start_worker("worker", include=POISON)
        started.await_ready()
        yield started


@pytest.mark.parametrize("rule", BROKEN)
def test_a_row_that_breaks_a_rule_is_quoted_nowhere(running: system.System, rule: str) -> None:
    error, statement = BROKEN[rule]
    with hearing(running) as heard:
        message = running.producer.send(
            "billing.test_break",
            {"statement": statement, "secret": MARKER.decode()},
            queue=Queue.billing,
        )
        running.wait(lambda: running.producer.find_answer(message), within=120)
        running.wait(lambda: b"task-failed" in heard(), within=120)

        assert error.encode() in heard()
        assert MARKER not in heard()
    answers = kept_answers(running)
    assert error.encode() in answers
    assert MARKER not in answers
    said = (running.folder / "processes.log").read_bytes()
    assert error.encode() in said
    assert b"billing.test_break" in said
    assert MARKER not in said
    ((payload, errors),) = running.query(
        "SELECT payload::text, errors::text FROM rejected_messages WHERE message_id = :id",
        id=message,
    )
    assert '"secret": "(not kept' in payload
    assert MARKER.decode() not in payload
    assert MARKER.decode() not in errors


def kept_answers(running: system.System) -> bytes:
    """What Redis keeps for those who wait."""
    with contextlib.closing(running.redis()) as client:
        kept = [client.get(key) for key in client.keys("celery-task-meta-*")]
    return b"".join(answer for answer in kept if isinstance(answer, bytes))


@contextlib.contextmanager
def hearing(running: system.System) -> Iterator[Callable[[], bytes]]:
    """Hear what is told through Redis: answers, and the events that Flower shows."""
    heard: list[bytes] = []
    with (
        contextlib.closing(running.redis()) as client,
        contextlib.closing(PubSub(client.connection_pool)) as subscribed,
    ):
        subscribed.psubscribe("*")

        def so_far() -> bytes:
            while message := subscribed.get_message():
                if message["type"] == "pmessage":
                    body = json.loads(message["data"]).get("body", "")
                    heard.extend((message["data"], base64.b64decode(body)))
            return b"".join(heard)

        yield so_far
