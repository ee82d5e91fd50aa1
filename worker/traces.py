"""Spans by OpenTelemetry, where it is installed (the extra `otel`) and told where to send them.

The standard variables say the rest: OTEL_EXPORTER_OTLP_ENDPOINT, _HEADERS, OTEL_TRACES_SAMPLER, ….
"""

import atexit
import importlib.util
import os
import threading
from collections.abc import Mapping
from typing import Any, Final

import structlog

from models import statements
from tasks import origin, tracing
from tasks.tracing import Attribute, Kind
from worker import settings

PATIENCE_SECONDS: Final = 3.0
"""How long a process that ends waits for a collector that does not answer."""

LONGEST_TEXT: Final = 2_000
"""Characters of a statement's text that a span has."""

log = structlog.get_logger(__name__)


def use(chosen: settings.Settings) -> None:
    """Make spans from now on, or none, as the settings say."""
    tracer = _tracer(chosen)
    tracing.use(tracer)
    statements.tell(None if tracer is None else _statement_begins)
    if tracer is not None:
        atexit.register(tracer.close)


def _tracer(chosen: settings.Settings) -> "OpenTelemetry | None":
    if not chosen.traces():
        return None
    if importlib.util.find_spec("opentelemetry") is None:
        log.warning("tracing.not_installed", needs="the extra otel: pip install billing[otel]")
        return None
    return OpenTelemetry(chosen.otel_service_name)


def _statement_begins(name: str, text: str) -> statements.Ended | None:
    found = origin.current()
    if found is None or found.traceparent is None:
        return None  # nobody's work: the start of a process
    span = tracing.begin(
        name,
        Kind.client,
        parent=found.traceparent,
        **{"db.system.name": "postgresql", "db.query.text": " ".join(text.split())[:LONGEST_TEXT]},
    )
    return None if span is None else lambda error: span.end(error=error)


class OpenTelemetry:
    """Makes spans and has them sent by a thread, which each process starts with its first one."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._lock = threading.Lock()
        self._provider: Any = None
        self._spans: Any = None
        self._pid: int | None = None

    def begin(
        self,
        name: str,
        kind: Kind,
        *,
        parent: str | None,
        attributes: Mapping[str, Attribute],
    ) -> "Span":
        """Begin a span; see `tracing.Tracer`."""
        from opentelemetry.trace import SpanKind  # noqa: PLC0415 (an extra)

        return Span(
            self._here().start_span(
                name,
                context=_context(parent),
                kind=SpanKind[kind.name.upper()],
                attributes=dict(attributes),
            )
        )

    def close(self) -> None:
        """Send what is still here, for a bounded time."""
        with self._lock:
            provider, self._provider = self._provider, None
            is_ours = self._pid == os.getpid()
        if provider is None or not is_ours:
            return
        # A collector that is away is tried again for longer than anybody wants to wait.
        ending = threading.Thread(target=provider.shutdown, daemon=True)
        ending.start()
        ending.join(PATIENCE_SECONDS)

    def _here(self) -> Any:
        """Return what makes spans in this process: threads do not come along in a fork."""
        with self._lock:
            if self._provider is None or self._pid != os.getpid():
                self._provider, self._pid = _provider(self._service), os.getpid()
                self._spans = self._provider.get_tracer("billing")
            return self._spans


class Span:
    """A span of OpenTelemetry's."""

    def __init__(self, span: Any) -> None:
        self._span = span
        context = span.get_span_context()
        self.traceparent = (
            f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"
        )

    def end(self, *, error: str | None = None, **attributes: Attribute) -> None:
        """Say that it is over; see `tracing.Span`."""
        from opentelemetry.trace import StatusCode  # noqa: PLC0415 (an extra)

        self._span.set_attributes(attributes)
        if error is not None:
            self._span.set_attribute("error.type", error)
            self._span.set_status(StatusCode.ERROR, error)
        self._span.end()


def _provider(service: str) -> Any:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 (an extra)
        OTLPSpanExporter,
    )
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 (an extra)
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 (an extra)
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 (an extra)

    made = TracerProvider(
        resource=Resource.create({"service.name": service}), shutdown_on_exit=False
    )
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return made


def _context(parent: str | None) -> Any:
    from opentelemetry import trace  # noqa: PLC0415 (an extra)
    from opentelemetry.context import Context  # noqa: PLC0415 (an extra)

    if parent is None:
        return Context()
    _, trace_id, span_id, flags = parent.split("-")
    remote = trace.SpanContext(
        trace_id=int(trace_id, 16),
        span_id=int(span_id, 16),
        is_remote=True,
        trace_flags=trace.TraceFlags(int(flags, 16)),
    )
    return trace.set_span_in_context(trace.NonRecordingSpan(remote), Context())
