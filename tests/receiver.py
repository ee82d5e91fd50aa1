"""The far end of a webhook: a real HTTP server on loopback that keeps what it was sent."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson
from standardwebhooks import Webhook

MOST_SECONDS = 12.0
"""How long an answer waits for what it is to wait for: less than a sender does."""


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came. Header names are lower case."""

    headers: Mapping[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """The `webhook-id`."""
        return self.headers["webhook-id"]

    @property
    def event(self) -> dict[str, Any]:
        """The body, parsed."""
        parsed: dict[str, Any] = orjson.loads(self.body)
        return parsed

    def verify(self, secret: str) -> None:
        """Raise unless the signature is good, by somebody else's judgement."""
        Webhook(secret).verify(self.body, dict(self.headers))


@dataclass(frozen=True, slots=True)
class Answer:
    """What to answer, once `until` is set and after `delay` seconds more."""

    status: int = 200
    headers: Mapping[str, str] | None = None
    body: bytes = b""
    delay: float = 0.0
    until: threading.Event | None = None


class Receiver:
    """Answers each request with what `answer` says of the requests so far, this one included."""

    def __init__(self, answer: Callable[[list[Received]], Answer]) -> None:
        self.requests: list[Received] = []
        self.at_once = self.most_at_once = 0
        self._answer = answer
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}
        )
        self._thread.start()

    @property
    def url(self) -> str:
        """Where to send."""
        return f"http://127.0.0.1:{self._server.server_port}/hook"

    @property
    def ids(self) -> list[str]:
        """The `webhook-id` of each request."""
        return [request.id for request in self.requests]

    @property
    def topics(self) -> list[str]:
        """The `X-Topic` of each request."""
        return [request.headers["x-topic"] for request in self.requests]

    def take(self, request: Received) -> Answer:
        """Keep a request and say what to answer."""
        with self._lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            self.requests.append(request)
            answer = self._answer(list(self.requests))
        if answer.until is not None:
            answer.until.wait(MOST_SECONDS)
        time.sleep(answer.delay)
        with self._lock:
            self.at_once -= 1
        return answer

    def close(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def receiver(*answers: Answer) -> Iterator[Receiver]:
    """Run a receiver that gives these answers in turn, the last one from then on; 200 if none."""
    given = answers or (Answer(),)
    opened = Receiver(lambda so_far: given[min(len(so_far), len(given)) - 1])
    try:
        yield opened
    finally:
        opened.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a sender that hangs up is part of the tests."""


def _handler(owner: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = owner.take(Received(headers, body))
            self.send_response(answer.status)
            for name, value in (answer.headers or {}).items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base's name)
            """Say nothing."""

    return Handler
