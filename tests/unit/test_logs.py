"""Log lines: one format, a payload or a secret in none of them."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from worker import logs


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Logging, put back as it was afterwards."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    root.handlers = before
    root.setLevel(level)
    logging.getLogger(logs.QUOTING_LOGGER).filters.clear()
    structlog.reset_defaults()


def _fail(password: str) -> None:
    raise ValueError(len(password))


def test_our_lines_and_the_libraries_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "INFO")

    structlog.get_logger("ours").info("thing.done", count=2)
    logging.getLogger("theirs").warning("slow %s", "query")

    ours, theirs = map(json.loads, capsys.readouterr().err.splitlines())
    assert (ours["event"], ours["count"], ours["level"]) == ("thing.done", 2, "info")
    assert (theirs["event"], theirs["logger"]) == ("slow query", "theirs")


@pytest.mark.parametrize("style", ["json", "text"])
def test_a_traceback_shows_no_local_variables(
    style: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(style, "INFO")

    try:
        _fail(f"hunter-{len(style[:2])}")
    except ValueError:
        structlog.get_logger("ours").exception("thing.failed")

    said = capsys.readouterr().err
    assert "ValueError" in said
    assert "hunter-2" not in said


def test_a_message_that_can_not_be_read_is_not_quoted(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "INFO")

    logging.getLogger(logs.QUOTING_LOGGER).error(
        "Received unregistered task of type %s.\n\nThe full contents of the message body was:\n%s",
        "billing.nope",
        "hunter2",
    )

    said = capsys.readouterr().err
    assert "billing.nope" in said
    assert "hunter2" not in said


def test_bytes_that_can_not_be_decoded_are_not_quoted(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "INFO")

    logging.getLogger(logs.QUOTING_LOGGER).critical(
        "Can't decode message body: %r [type:%r encoding:%r headers:%s]\n\nbody: %s",
        UnicodeDecodeError("utf-8", b"\xffhunter2", 0, 1, "invalid start byte"),
        "application/json",
        "utf-8",
        {"kwargsrepr": "hunter2"},
        "hunter2",
    )

    said = capsys.readouterr().err
    assert "Can't decode message body" in said
    assert "hunter2" not in said


def test_lines_below_the_level_are_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "WARNING")

    structlog.get_logger("ours").info("thing.done")

    assert capsys.readouterr().err == ""
