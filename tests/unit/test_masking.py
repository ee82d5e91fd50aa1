"""Flower and the logs see a task's arguments and answers, but no secret."""

from typing import Any, TypedDict

import pytest
from celery import Celery
from celery.utils.saferepr import saferepr

from tasks import contract
from tasks.queues import Queue
from worker import masking


def test_arguments_are_shown() -> None:
    assert masking.masked({"tenant_id": "acme", "amount": "1.5"}) == (
        "{'tenant_id': 'acme', 'amount': '1.5'}"
    )


@pytest.mark.parametrize("field", sorted(contract.SECRET_FIELDS))
def test_a_secret_is_masked_at_any_depth(field: str) -> None:
    shown = masking.masked({"endpoint": {field: {"authorization": "hunter2"}}, field: "hunter2"})

    assert "hunter2" not in shown
    assert shown.count(masking.MASK) == 2


def test_a_long_chunk_is_cut() -> None:
    events = [{"idempotency_key": f"key {number}"} for number in range(1000)]

    assert len(masking.masked({"events": events})) < 2 * masking.LONGEST


def test_a_message_sent_from_python_carries_the_masked_text() -> None:
    sender = Celery(amqp=masking.AMQP, set_as_current=False)

    message = sender.amqp.as_task_v2(
        "an id", "billing.x", None, {"headers": {"x": "hunter2"}}, create_sent_event=True
    )

    assert "hunter2" not in message.headers["kwargsrepr"]
    assert "hunter2" not in message.sent_event["kwargs"]
    assert message.body[1] == {"headers": {"x": "hunter2"}}


class Shown(TypedDict):
    """An answer for everyone."""

    version: int


class ShownOnce(TypedDict):
    """An answer with a secret."""

    secret: str


@pytest.mark.parametrize(("answer", "is_hidden"), [(Shown, False), (ShownOnce, True)])
def test_an_answer_that_may_hold_a_secret_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, answer: Any, is_hidden: bool
) -> None:
    monkeypatch.setattr(contract, "REGISTRY", {})

    def body() -> Any: ...

    body.__annotations__["return"] = answer
    task: Any = contract.job(f"test.{answer.__name__}", queue=Queue.billing)(body)

    text = saferepr({"secret": "hunter2"}, task.resultrepr_maxsize)
    assert ("hunter2" not in text) is is_hidden
