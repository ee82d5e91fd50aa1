"""Flower and the logs see a task's arguments and answers, but no secret."""

from types import SimpleNamespace
from typing import Any, TypedDict

import pytest
from celery import Celery
from celery.exceptions import InvalidTaskError
from celery.utils.saferepr import saferepr

from tasks import contract
from tasks.queues import Queue
from worker import app, masking


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


def request(payload: Any, **headers: Any) -> masking.Request:
    """A message of billing.set_tenant as a worker sees it."""
    message = SimpleNamespace(
        headers={"task": "billing.set_tenant", "id": "m-1", **headers},
        body=b"",
        payload=payload,
        content_type="application/json",
        content_encoding="utf-8",
        delivery_info={},
        properties={},
    )
    return masking.Request(message, app=app, hostname="test")


def test_a_request_in_a_log_names_itself_and_shows_no_argument() -> None:
    said = repr(request([[], {"name": "hunter2"}, {}]))

    assert said == "<Request: billing.set_tenant[m-1]>"


@pytest.mark.parametrize(
    ("payload", "headers"),
    [
        ([[], ["tenant_id"], {}], {}),
        ([{}, {}, {}], {}),
        ([[], {}, {}], {"timelimit": "soon"}),
        ([[], {}, {}], {"timelimit": ["soon", None]}),
        ([[], {}, {}], {"timelimit": [1, 2, 3]}),
    ],
)
def test_a_request_of_another_shape_is_refused_before_it_takes_a_place(
    payload: Any, headers: dict[str, Any]
) -> None:
    with pytest.raises(InvalidTaskError):
        request(payload, **headers)


@pytest.mark.parametrize("limits", [None, [None, None], [10, 5.5]])
def test_time_limits_that_are_numbers_or_none_are_taken(limits: Any) -> None:
    assert request([[], {}, {}], timelimit=limits).time_limits in (limits, (None, None))
