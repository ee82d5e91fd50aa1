"""One call followed from its producer to the subscriber: through log lines, and as one trace."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks import origin
from tasks.queues import Queue
from tests import receiver as far_end
from tests.acceptance import system
from tests.collector import Collector, Span
from tests.receiver import Receiver
from worker import settings

pytestmark = pytest.mark.slow

SPAN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
GRANTED = "billing.credits_granted"
LATE = "600"
"""Seconds until the broker gives a message out again: much longer than the test."""


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, collector: Collector
) -> Iterator[system.System]:
    """One worker for all queues."""
    folder = tmp_path_factory.mktemp("followed")
    with system.running(
        folder,
        BILLING_VISIBILITY_TIMEOUT_SECONDS=LATE,
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        OTEL_BSP_SCHEDULE_DELAY="100",
    ) as started:
        started.start_worker("worker", include="tests.acceptance.poison")
        started.await_ready()
        started.ask("billing.set_product", product_key="CALLS", name="Calls", type="quantity")
        yield started


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with far_end.receiver() as found:
        yield found


def subscribe(running: system.System, receiver: Receiver, tenant_id: str) -> None:
    running.ask("billing.set_tenant", tenant_id=tenant_id)
    running.ask(
        "billing.create_endpoint",
        tenant_id=tenant_id,
        url=receiver.url,
        topics=["billing.credits_granted"],
        idempotency_key=f"endpoint of {tenant_id}",
    )


def grant(tenant_id: str) -> dict[str, Any]:
    return {
        "tenant_id": tenant_id,
        "product_key": "CALLS",
        "amount": "5",
        "source": "bonus",
        "idempotency_key": f"grant of {tenant_id}",
    }


def lines(running: system.System, correlation_id: str) -> list[dict[str, Any]]:
    """What processes said of one id."""
    said = (running.folder / "processes.log").read_text().splitlines()
    objects = [line.partition(": ")[2] for line in said if ': {"' in line]
    parsed = [json.loads(line) for line in objects]
    return [line for line in parsed if line.get("correlation_id") == correlation_id]


def await_line(running: system.System, correlation_id: str, event: str) -> dict[str, Any]:
    def found() -> list[dict[str, Any]]:
        return [line for line in lines(running, correlation_id) if line["event"] == event]

    running.wait(found, within=120)
    (line,) = found()
    return line


def await_trace(running: system.System, collector: Collector, trace_id: str) -> dict[str, Span]:
    """Return the spans of a trace by name, once its event was delivered."""

    def found() -> dict[str, Span]:
        return {span.name: span for span in collector.trace(trace_id)}

    wanted = {"process billing.add_credits", f"deliver {GRANTED}"}
    running.wait(lambda: wanted <= found().keys(), within=120)
    return found()


def billing(running: system.System, *words: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-m", "worker", *words],
        cwd=settings.ROOT,
        env={**os.environ, **running.environment},
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_a_producers_id_and_span_come_out_at_the_subscriber(
    running: system.System, receiver: Receiver, collector: Collector
) -> None:
    subscribe(running, receiver, "acme")

    sent = running.producer._app.send_task(
        "billing.add_credits",
        kwargs=grant("acme"),
        queue=Queue.billing.value,
        headers={origin.CORRELATION: "request-42", origin.TRACEPARENT: SPAN},
    )

    finished = await_line(running, "request-42", "task.finished")
    assert (finished["task"], finished["task_id"]) == ("billing.add_credits", sent.id)
    assert (finished["outcome"], finished["tenant_id"]) == ("success", "acme")
    assert await_line(running, "request-42", "ledger.entry")["task_id"] == sent.id
    relayed = await_line(running, "request-42", "event.relayed")
    attempted = await_line(running, "request-42", "delivery.attempted")
    (request,) = receiver.requests
    for line in (relayed, attempted):
        assert line["event_id"] == request.headers["webhook-id"]
        assert (line["topic"], line["tenant_id"]) == ("billing.credits_granted", "acme")
        assert line["task"] == "billing.deliver_webhooks"
    assert relayed["endpoints"] == 1
    assert (attempted["outcome"], attempted["state"]) == ("delivered", "delivered")
    assert (attempted["attempt"], attempted["status"]) == (1, 200)
    assert request.headers["traceparent"].startswith("00-0af7651916cd43dd8448eb211c80319c-")
    shown = billing(running, "delivery", "show", str(attempted["delivery_id"]))
    assert "request-42" in shown
    assert "0af7651916cd43dd8448eb211c80319c" in shown

    trace = await_trace(running, collector, "0af7651916cd43dd8448eb211c80319c")
    processed, delivered = trace["process billing.add_credits"], trace[f"deliver {GRANTED}"]
    assert processed.parent_id == "b7ad6b7169203331"
    assert processed.attributes["correlation_id"] == "request-42"
    assert processed.attributes["messaging.message.id"] == sent.id
    assert delivered.parent_id == processed.span_id
    assert delivered.attributes["http.response.status_code"] == 200
    assert delivered.attributes["event_id"] == request.headers["webhook-id"]
    assert request.headers["traceparent"] == delivered.traceparent
    asked = [span for span in trace.values() if span.parent_id == processed.span_id]
    statements = [span for span in asked if "db.query.text" in span.attributes]
    assert {"claiming.find_answer_of_today", "ending.write"} <= {span.name for span in statements}
    assert {span.service for span in trace.values()} == {"billing"}
    # Values stand beside a statement, and in no span.
    said = b"".join(collector.bodies)
    for private in (
        "grant of acme",
        "endpoint of acme",
        receiver.url,
        request.headers["webhook-signature"],
        request.body.decode(),
    ):
        assert private.encode() not in said
    assert b"whsec_" not in said


def test_who_gives_none_finds_everything_by_the_messages_id(
    running: system.System, receiver: Receiver
) -> None:
    subscribe(running, receiver, "globex")

    sent = running.producer.send("billing.add_credits", grant("globex"))

    assert await_line(running, sent, "task.finished")["tenant_id"] == "globex"
    attempted = await_line(running, sent, "delivery.attempted")
    assert attempted["tenant_id"] == "globex"


def test_an_operators_command_gives_an_id_as_well_and_begins_a_trace(
    running: system.System, receiver: Receiver, collector: Collector
) -> None:
    subscribe(running, receiver, "initech")

    billing(
        running, "--correlation", "ticket-7", "call", "billing.add_credits",
        json.dumps(grant("initech")),
    )  # fmt: skip

    assert await_line(running, "ticket-7", "task.finished")["tenant_id"] == "initech"
    assert await_line(running, "ticket-7", "delivery.attempted")["outcome"] == "delivered"
    (request,) = receiver.requests
    trace = await_trace(running, collector, request.headers["traceparent"].split("-")[1])
    sent, processed = trace["send billing.add_credits"], trace["process billing.add_credits"]
    assert sent.parent_id == ""
    assert processed.parent_id == sent.span_id
    assert trace[f"deliver {GRANTED}"].parent_id == processed.span_id


def test_a_call_that_killed_its_worker_is_told_of_under_its_id(
    running: system.System, tmp_path: Path
) -> None:
    sent = running.producer._app.send_task(
        "billing.test_die",
        kwargs={"diary": str(tmp_path / "diary")},
        queue=Queue.billing.value,
        headers={origin.CORRELATION: "request-13"},
    )

    lost = await_line(running, "request-13", "task.finished")
    assert (lost["outcome"], lost["task_id"]) == ("lost", sent.id)
    assert await_line(running, "request-13", "task.rejected")["code"] == "worker.lost"
