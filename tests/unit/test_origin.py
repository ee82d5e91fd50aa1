"""Ids that go with work: taken where they can be used, made where there are none."""

import pytest
import structlog

from tasks import origin
from tasks.origin import CORRELATION, TRACEPARENT, Origin
from worker import app

SPAN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_message_tells_what_it_comes_from() -> None:
    told = {CORRELATION: "request-42", TRACEPARENT: SPAN}

    assert origin.of_message(told, message_id="m-1") == Origin("request-42", SPAN)


@pytest.mark.parametrize("given", [None, "", "two words", "a\nb", "ä", "x" * 129, 7, ["a"]])
def test_an_id_that_no_line_could_carry_is_the_messages_instead(given: object) -> None:
    assert origin.of_message({CORRELATION: given}, message_id="m-1") == Origin("m-1")


def test_an_id_of_a_message_that_no_line_could_carry_is_made_anew() -> None:
    assert origin.of_message({}, message_id="a\nb").correlation_id.isalnum()


@pytest.mark.parametrize(
    "given",
    [
        None,
        7,
        "",
        SPAN.upper(),
        f"{SPAN}\r\nx: y",
        SPAN.replace("00-", "ff-", 1),
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01",
    ],
)
def test_a_span_that_is_none_is_passed_over(given: object) -> None:
    assert origin.of_message({TRACEPARENT: given}, message_id="m-1").traceparent is None


def test_what_is_sent_within_work_is_done_for_the_same() -> None:
    assert origin.headers_for("m-2") == {CORRELATION: "m-2"}
    with origin.within(Origin("request-42", SPAN)):
        assert origin.headers_for("m-2") == {CORRELATION: "request-42", TRACEPARENT: SPAN}
        with origin.nobodys():
            assert origin.headers_for("m-2") == {CORRELATION: "m-2"}
            with origin.within(Origin("message")):
                pass
        assert structlog.contextvars.get_contextvars()["correlation_id"] == "request-42"


def test_a_message_says_what_its_sender_says_and_else_what_it_is_done_for() -> None:
    with origin.within(Origin("request-42")):
        ours = app.amqp.as_task_v2("m-3", "billing.x", None, {})
        theirs = app.amqp.as_task_v2("m-4", "billing.x", None, {}, headers={CORRELATION: "own"})

    assert ours.headers[CORRELATION] == "request-42"
    # What the sender says is added to the message when it is sent.
    assert CORRELATION not in theirs.headers


def test_work_within_work_goes_back_to_what_was_before() -> None:
    with origin.within(Origin("outer")):
        with origin.within(Origin("inner")):
            assert structlog.contextvars.get_contextvars()["correlation_id"] == "inner"
        with origin.somebodys():
            assert origin.current() == Origin("outer")
        assert structlog.contextvars.get_contextvars()["correlation_id"] == "outer"
    assert origin.current() is None
    assert "correlation_id" not in structlog.contextvars.get_contextvars()


def test_a_call_in_this_process_gets_an_id_of_its_own() -> None:
    with origin.somebodys():
        made = origin.current()
    assert made is not None
    assert len(made.correlation_id) == 32
