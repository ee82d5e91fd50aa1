"""The ASGI example behind a real server, asked over real sockets."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from models import database
from tasks.catalog import set_product
from tasks.credit_upkeep import audit, expire_reservations
from tasks.credits import add_credits, get_balance
from tests.processes import SECONDS, eventually, free_port, without_ours

pytestmark = pytest.mark.slow

ACME = {"authorization": "Bearer key-of-acme"}


@dataclass(frozen=True, slots=True)
class Answered:
    """A response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def deducted(self) -> str | None:
        """What it says was charged."""
        return self.headers.get("x-credits-deducted")


@dataclass(frozen=True, slots=True)
class Server:
    """A server and its port."""

    process: "subprocess.Popen[bytes]"
    port: int

    def ask(self, path: str, body: str = "", headers: dict[str, str] | None = None) -> Answered:
        """POST, and read the whole answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        try:
            connection.request("POST", path, body, ACME if headers is None else headers)
            response = connection.getresponse()
            return Answered(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    @contextmanager
    def asking(self, path: str) -> Iterator[socket.socket]:
        """POST and leave the connection to the caller, who may go whenever he likes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS) as peer:
            peer.sendall(
                f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n"
                "Authorization: Bearer key-of-acme\r\n\r\n".encode()
            )
            yield peer

    def is_up(self) -> bool:
        """Whether somebody listens."""
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True


@contextmanager
def serving(
    app: str, db: Engine, broker_url: str, checkout: Path, folder: Path
) -> Iterator[Server]:
    """Run an application in uvicorn."""
    port = free_port()
    said = folder / "uvicorn.log"
    with said.open("wb") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "uvicorn", app, "--host", "127.0.0.1"),
                *("--port", str(port), "--lifespan", "on"),
            ],
            cwd=checkout,
            env={
                **without_ours(os.environ),
                "DATABASE_URL": db.url.render_as_string(hide_password=False),
                "BROKER_URL": broker_url,
            },
            stdout=log,
            stderr=log,
        )
    server = Server(process, port)
    try:
        eventually(lambda: server.is_up() or process.poll() is not None)
        assert process.poll() is None, said.read_text()
        yield server
    finally:
        process.kill()
        process.wait(SECONDS)


@pytest.fixture
def tokens(db: Engine) -> None:
    """Acme has 100 tokens."""
    set_product(product_key="TOKENS", name="Tokens", type="quantity")
    add_credits(tenant_id="acme", product_key="TOKENS", amount="100", idempotency_key="g")


@pytest.fixture
def server(
    tokens: None, db: Engine, broker_url: str, checkout: Path, tmp_path: Path
) -> Iterator[Server]:
    """The application of these tests."""
    with serving("tests.acceptance.asgi_app:app", db, broker_url, checkout, tmp_path) as running:
        yield running


def standing() -> tuple[str, str]:
    """Balance and what of it is held."""
    found = get_balance(tenant_id="acme", product_key="TOKENS")
    assert audit()["ok"]
    return found["balance"], found["held"]


def test_the_example_is_paid_by_the_word(
    tokens: None, db: Engine, broker_url: str, checkout: Path, tmp_path: Path
) -> None:
    with serving("examples.asgi.app:app", db, broker_url, checkout, tmp_path) as server:
        answered = server.ask("/complete", "how many words are these")
        nobody = server.ask("/complete", "hello", headers={})
        poor = server.ask("/complete", "hello", headers={"authorization": "Bearer key-of-bolt"})
        free = server.ask("/health", headers={})
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(SECONDS) in (0, -signal.SIGTERM)

    assert (answered.status, answered.deducted) == (200, "5")
    assert json.loads(answered.body) == {"usage": {"total_tokens": 5}}
    assert (nobody.status, code(nobody), nobody.deducted) == (401, "tenant_missing", None)
    assert (poor.status, code(poor), poor.deducted) == (402, "quota_exhausted", None)
    assert (free.status, free.body, free.deducted) == (200, b"well\n", None)
    assert standing() == ("95", "0")


def code(answered: Answered) -> Any:
    return json.loads(answered.body)["error"]["code"]


def test_answers_of_every_kind_go_out_whole_and_are_paid(server: Server) -> None:
    parts, fails, raises = server.ask("/parts"), server.ask("/fails"), server.ask("/raises")
    stream = server.ask("/stream")

    assert (parts.status, parts.deducted, parts.body) == (
        200,
        "7",
        b'{"usage": {"total_tokens": 7}}',
    )
    assert (fails.status, fails.deducted) == (500, "0")
    assert raises.status == 500
    assert (stream.status, stream.deducted, stream.body) == (200, "50", b"data: part\n\n" * 3)
    assert standing() == ("43", "0")


def test_a_client_that_goes_in_mid_stream_has_paid(server: Server) -> None:
    with server.asking("/endless") as peer:
        assert b"x-credits-deducted: 50" in peer.recv(65_536)
        assert standing() == ("50", "0")

    assert server.ask("/parts").deducted == "7"
    eventually(lambda: standing() == ("43", "0"))


def test_a_client_that_goes_before_there_is_an_answer_pays_nothing(server: Server) -> None:
    with server.asking("/hangs"):
        eventually(lambda: standing() == ("100", "50"))

    eventually(lambda: standing() == ("100", "0"))


def test_a_server_that_is_killed_leaves_holds_that_end_by_themselves(server: Server) -> None:
    with server.asking("/hangs"), server.asking("/hangs"):
        eventually(lambda: standing() == ("100", "100"))
        server.process.kill()
        server.process.wait(SECONDS)

    assert standing() == ("100", "100")
    with database.transaction() as session:
        over = session.scalars(text("SELECT max(expires_at) FROM reservations")).one()
    assert expire_reservations(as_of=over)["expired"] == 2
    assert standing() == ("100", "0")
