"""`billing status`: one screen, as text and JSON, again and again, and with servers away."""

import datetime as dt
import io
import json
from decimal import Decimal
from typing import Any

import pytest
from rich.console import Console
from sqlalchemy import Engine

from tasks.endpoints import create_endpoint, disable_endpoint
from tasks.invoice_runs import generate_invoices
from tasks.tenants import set_tenant
from tasks.usage import record_usage
from tests.integration import wallet
from tests.integration.billing_world import fee, make_plan, subscribe
from tests.integration.command import Command
from tests.integration.outbox_world import execute
from tests.processes import free_port
from worker import app, overview
from worker.cli import status_view


@pytest.fixture
def broker(billing: Command, broker_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The test run's Redis, as the broker of the command; nobody waits for workers there."""
    monkeypatch.setenv("BROKER_URL", broker_url)
    for name in ("broker_url", "broker_read_url"):
        monkeypatch.setattr(app.conf, name, broker_url)
    monkeypatch.setattr(overview, "ANSWER_SECONDS", 0.1)
    return broker_url


def test_what_waits_and_what_there_is_is_counted(broker: str, billing: Command) -> None:
    now = dt.datetime.now(dt.UTC)
    wallet.product()
    wallet.grant(10, "g", expires_at=5)  # of a month that is long over
    make_plan(fee("10"))
    subscribe("acme", "2026-02-01", currency="USD", as_of=now)
    generate_invoices(as_of=now)
    create_endpoint(
        url="https://example.com/hook", topics=["billing.*"], tenant_id="acme", idempotency_key="e"
    )
    event: Any = {"tenant_id": "acme", "metric": "api", "idempotency_key": "a"}
    record_usage(**event, amount=Decimal(1), as_of=now)

    ended = billing("status", "--json")

    found = json.loads(ended.out)
    assert (ended.status, found["away"]) == (0, {})
    assert set(found["broker"]["workers"].values()) == {0}
    assert set(found["broker"]["queued"]) == {"usage", "billing", "webhooks"}
    assert found["broker"]["beat_seconds_ago"] is None
    known = found["database"]
    assert known["overview"]["invoices"]["draft"] >= 1
    assert known["overview"]["invoices"]["paid"] == 0
    assert set(known["overview"]["deliveries"]) == {"pending", "sending", "held", "dead"}
    assert known["backlog"]["touched_days"] == 1
    assert known["backlog"]["outbox_pending"] > 0
    assert known["jobs"]["billing.expire_batches"]["waiting"] == 1
    assert "jobs" in {one["subject"] for one in known["findings"]}
    assert found["usage_per_second"] >= 0


def test_a_circuit_is_open_while_somebody_waits_for_its_probe(
    db: Engine, broker: str, billing: Command
) -> None:
    made = []
    for name in ("acme", "bolt"):
        set_tenant(tenant_id=name)
        given: Any = {"tenant_id": name, "idempotency_key": name, "topics": ["billing.*"]}
        made.append(create_endpoint(url=f"https://{name}.example.com/", **given)["endpoint_id"])
    for endpoint_id in made:
        execute(
            db,
            "INSERT INTO endpoint_health (endpoint_id, probe_at) VALUES (:id, now())",
            id=endpoint_id,
        )
    disable_endpoint(endpoint_id=made[1])

    found = json.loads(billing("status", "--json").out)

    assert found["database"]["overview"]["circuits_open"] == 1


def test_a_screen_has_80_columns_and_says_what_is_wrong(
    broker: str, billing: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = billing("status")

    assert said.status == 0
    for word in ("webhooks", "beat was never heard", "0 waiting", "0 draft", "nothing due"):
        assert word in said.out
    assert "warn credit audit: never ran to its end" in said.out
    look = overview.take(app, now=lambda: dt.datetime.now(dt.UTC))
    drawn = io.StringIO()
    Console(width=80, file=drawn).print(status_view.screen(look))
    lines = drawn.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 24


def test_watching_looks_so_often_and_a_rate_needs_two_looks(broker: str, billing: Command) -> None:
    ended = billing("status", "--watch", "--times", "2", "--every", "1", "--json")

    first, second = map(json.loads, ended.out.splitlines())
    assert first["usage_per_second"] is None
    assert second["usage_per_second"] >= 0
    assert second["at"] > first["at"]


def test_ctrl_c_ends_it_without_a_word(
    broker: str, billing: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("worker.cli.status.time.sleep", interrupted)

    ended = billing("status", "--watch")

    assert (ended.status, ended.err) == (0, "")
    assert ended.out.count("billing, ") == 1


def test_a_server_that_is_away_costs_the_other_nothing(
    broker: str, billing: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql://u:hunter2@127.0.0.1:{free_port()}/x")
    found = billing("status")
    assert "the database does not answer" in found.out
    assert "beat was never heard" in found.out
    assert "hunter2" not in found.out + found.err


def test_without_a_broker_the_database_is_told(
    billing: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    for name in ("broker_url", "broker_read_url"):
        monkeypatch.setattr(app.conf, name, nowhere)
    found = json.loads(billing("status", "--json").out)
    assert found["broker"] is None
    assert found["away"]["broker"]
    assert found["database"]["overview"]["invoices"]["draft"] == 0
