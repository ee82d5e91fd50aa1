"""The example receivers against the real sender: verified, kept, answered, handled once."""

import http.client
import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from models import database
from tasks import announce, clock
from tasks.delivery import deliver_webhooks
from tasks.endpoint_secrets import rotate_endpoint_secret
from tasks.replays import replay_delivery
from tests.integration.outbox_world import deliveries, emit, states, subscribe
from tests.processes import eventually, free_port
from webhooks import events, signing, signing_keys

Start = Callable[..., Any]

WITHOUT_PACKAGES = ["-I", "-S"]
"""Of Python: nothing is found but its own library."""


@dataclass(frozen=True, slots=True)
class Program:
    """A receiver that runs; `lines` are what it printed."""

    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def lines(self) -> list[str]:
        """What it handled, without its greeting."""
        return self.log.read_text().split("\n")[1:-1]

    def post(self, body: bytes, headers: dict[str, str]) -> int:
        """The status it answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("POST", "/", body, headers)
            return connection.getresponse().status
        finally:
            connection.close()


@pytest.fixture(params=["python", "python without packages", "node"])
def start(request: pytest.FixtureRequest, checkout: Path, tmp_path: Path) -> Start:
    """Runs one of the receivers with secrets; in a folder without packages, so Node has none."""
    folder = checkout / "examples" / "receiver"
    if request.param == "node" and shutil.which("node") is None:
        pytest.skip("node is not here")

    @contextmanager
    def run(*secrets: str, port: int) -> Iterator[Program]:
        if request.param == "node":
            shutil.copy(folder / "receiver.mjs", tmp_path)
            command = ["node", "receiver.mjs", str(port)]
        else:
            flags = WITHOUT_PACKAGES if "without" in request.param else []
            command = [sys.executable, *flags, str(folder / "receiver.py"), str(port), "kept.db"]
        log = tmp_path / "receiver.log"
        with log.open("w") as said:
            process = subprocess.Popen(
                command,
                cwd=tmp_path,
                env={"WEBHOOK_SECRET": " ".join(secrets), "PATH": "/usr/bin:/bin"},
                stdout=said,
                stderr=said,
            )
        try:
            eventually(lambda: "listening" in log.read_text() or process.poll() is not None)
            assert process.poll() is None, log.read_text()
            yield Program(port, log)
        finally:
            process.kill()
            process.wait()

    return run


def say(text: str) -> None:
    """Emit an event with a text of ours."""
    with database.transaction() as session:
        announce.announce(
            session,
            events.EndpointDisabled(endpoint_id=UUID(int=1), reason=text),
            tenant_id="acme",
            sequence=1,
            now=clock.now(),
        )


def test_a_receiver_takes_what_is_sent_once_however_often_it_comes(
    db: Engine, start: Start
) -> None:
    port = free_port()
    made = subscribe(f"http://127.0.0.1:{port}/")
    with start(made["secret"], port=port) as program:
        emit(count=3)
        say("größer 🦆 \u2028 <&>")
        deliver_webhooks()
        for row in deliveries(db):
            replay_delivery(delivery_id=row.id, idempotency_key="again")
        deliver_webhooks()
        say("the last")
        deliver_webhooks()
        eventually(lambda: any("the last" in line for line in program.lines()))

        assert states(db) == ["delivered"] * 5
        assert len(program.lines()) == 5
        said = [json.loads(line.partition(" ")[2]) for line in program.lines()]
    assert "größer 🦆 \u2028 <&>" in {one.get("reason") for one in said}


def test_an_event_that_is_too_large_comes_thin_and_verifies(db: Engine, start: Start) -> None:
    port = free_port()
    made = subscribe(f"http://127.0.0.1:{port}/")
    with start(made["secret"], port=port) as program:
        say("ü" * 150_000)
        deliver_webhooks()
        eventually(program.lines)

        assert states(db) == ["delivered"]
        assert len(program.lines()) == 1
    with db.connect() as connection:
        [(body, truncated)] = connection.execute(
            text("SELECT body, truncated FROM outbox_messages")
        ).all()
    event = json.loads(bytes(body))
    assert truncated
    assert event["truncated"] is True
    assert event["data"] == {}
    assert len(bytes(body)) < 1_000


def test_a_receiver_that_is_given_both_secrets_takes_either(db: Engine, start: Start) -> None:
    port = free_port()
    made = subscribe(f"http://127.0.0.1:{port}/")
    rotated = rotate_endpoint_secret(
        endpoint_id=UUID(made["endpoint_id"]), keep_old_seconds=0, idempotency_key="r"
    )
    with start(made["secret"], rotated["secret"], port=port):
        emit()
        deliver_webhooks()

    assert states(db) == ["delivered"]


def test_a_receiver_refuses_what_is_not_genuine(start: Start) -> None:
    secret, other = signing_keys.new_secret(), signing_keys.new_secret()
    body, now = b'{"id": "evt_1", "type": "billing.ping", "data": {}}', int(time.time())

    def signed(key: str, at: int) -> dict[str, str]:
        signature = signing.sign(secrets=[key], message_id="evt_1", timestamp=at, body=body)
        return {
            "webhook-id": "evt_1",
            "webhook-timestamp": str(at),
            "webhook-signature": signature,
        }

    with start(secret, port=free_port()) as program:
        good = signed(secret, now)
        assert program.post(body, signed(other, now)) == 401
        assert program.post(body, signed(secret, now - 3_600)) == 401
        assert program.post(body, signed(secret, now + 3_600)) == 401
        assert program.post(body + b" ", good) == 401
        assert program.post(body, {**good, "webhook-id": "evt_2"}) == 401
        assert program.post(body, {}) == 401
        assert program.post(body, {**good, "webhook-signature": "v1,\u00e9 v2, v1"}) == 401
        assert program.post(body, good) == 204
        assert program.post(body, signed(secret, now)) == 204
        eventually(lambda: program.lines() != [])

        assert program.lines() == ["billing.ping {}"]


def test_what_the_python_receiver_had_kept_when_it_died_is_handled_when_it_is_back(
    checkout: Path, tmp_path: Path
) -> None:
    """It dies between the answer and the work: the row is there, and is not marked."""
    kept = sqlite3.connect(tmp_path / "kept.db")
    kept.execute("CREATE TABLE events (id TEXT PRIMARY KEY, body BLOB, handled_at TEXT)")
    kept.execute('INSERT INTO events VALUES (\'evt_1\', \'{"type": "t", "data": {}}\', NULL)')
    kept.execute("INSERT INTO events VALUES ('evt_0', '{\"type\": \"u\", \"data\": {}}', 'done')")
    kept.commit()
    kept.close()
    program = str(checkout / "examples" / "receiver" / "receiver.py")
    with subprocess.Popen(
        [sys.executable, program, str(free_port()), "kept.db"],
        cwd=tmp_path,
        env={"WEBHOOK_SECRET": signing_keys.new_secret()},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = {process.stdout.readline() for _ in range(2)}
        process.kill()

    assert "t {}\n" in said
