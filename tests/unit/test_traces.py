"""Traces are off unless they are wanted, can be made, and have somewhere to go."""

import importlib.util
from collections.abc import Iterator
from typing import Any

import pytest

from tasks import tracing
from tasks.tracing import Kind
from worker import settings, traces

PLACE = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in (PLACE, "OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER"):
        monkeypatch.delenv(name, raising=False)
    yield
    monkeypatch.undo()
    monkeypatch.delenv(PLACE, raising=False)
    traces.use(settings.load())


@pytest.mark.parametrize(
    ("environment", "is_on"),
    [
        ({}, False),
        ({PLACE: "http://127.0.0.1:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ({PLACE: "http://127.0.0.1:4318", "OTEL_SDK_DISABLED": "true"}, False),
        ({PLACE: "http://127.0.0.1:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_spans_are_made_where_there_is_somewhere_to_send_them(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], is_on: bool
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    traces.use(settings.load())

    assert tracing.is_on() == is_on
    if not is_on:
        assert tracing.begin("x", Kind.client, parent=None) is None


def test_without_the_package_there_is_a_warning_and_no_span(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    known: Any = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "opentelemetry" else known(name)
    )
    monkeypatch.setenv(PLACE, "http://127.0.0.1:4318")

    traces.use(settings.load())

    assert not tracing.is_on()
    assert "tracing.not_installed" in caplog.text
