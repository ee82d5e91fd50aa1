"""The demo's subscriber: an HTTP server of its own that believes nothing it is sent.

Run as a process. It verifies each delivery with the `standardwebhooks` package, which shares no
code with the sender, and deduplicates by `webhook-id`. It speaks with the demo over its standard
input and output, one JSON object a line:

    out  {"port": 41234}
    in   {"path": "/acme", "secret": "whsec_…"}       a new endpoint's secret
    in   {"path": "/acme", "busy": 30}                turn some of its next 30 requests away
    in   {"report": true}
    out  {"requests": 10, "verified": 10, "turned_away": 0, "repeated": 0, "refused": 0,
          "strangers": 0, "deliveries": 10, "topics": {…}}
    in   {"list": true}
    out  {"received": [["/acme", "evt_…"], …]}

`turned_away` counts genuine requests that were answered with 503, as by a service that restarts:
each is expected again. `strangers` counts events of one tenant that came to another's path; the
operator's path gets all.

It ends when its standard input closes.
"""

import json
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError

LARGEST_BODY = 1024 * 1024
"""Bytes. Far above what the sender sends."""

COUNTS = ("requests", "verified", "turned_away", "repeated", "refused", "strangers")

TURNED_AWAY = 5
"""Of the requests to a busy path every so manyth is turned away: too few for a pause."""

OPERATOR = "/operator"
"""The path of the endpoint that is sent every tenant's events."""


class Books:
    """What has arrived, under one lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._verifiers: dict[str, Webhook] = {}
        self._seen: set[tuple[str, str]] = set()
        self._busy: Counter[str] = Counter()
        self._turned_away: set[tuple[str, str]] = set()
        self._counts: Counter[str] = Counter()
        self._topics: Counter[str] = Counter()

    def trust(self, path: str, secret: str) -> None:
        """Expect deliveries at `path` to be signed with `secret`."""
        with self._lock:
            self._verifiers[path] = Webhook(secret)

    def be_busy(self, path: str, requests: int) -> None:
        """Turn some of the next requests to `path` away."""
        with self._lock:
            self._busy[path] = requests

    def receive(self, path: str, headers: dict[str, str], body: bytes) -> int:
        """Verify and count one delivery; return the status to answer it with."""
        with self._lock:
            verifier = self._verifiers.get(path)
        genuine = verifier is not None and _verifies(verifier, body, headers)
        with self._lock:
            self._counts["requests"] += 1
            if not genuine:
                self._counts["refused"] += 1
                return 401
            self._counts["verified"] += 1
            if self._is_turned_away(path, headers["webhook-id"]):
                self._counts["turned_away"] += 1
                return 503
            delivery = (path, headers["webhook-id"])
            if delivery in self._seen:
                self._counts["repeated"] += 1
            else:
                self._seen.add(delivery)
                self._note(path, json.loads(body))
        return 204

    def report(self) -> dict[str, Any]:
        """Return what has arrived so far."""
        with self._lock:
            counts = {name: self._counts[name] for name in COUNTS}
            topics = dict(sorted(self._topics.items()))
            return {**counts, "deliveries": len(self._seen), "topics": topics}

    def received(self) -> dict[str, Any]:
        """Return the path and id of each delivery that was genuine."""
        with self._lock:
            return {"received": sorted(self._seen)}

    def _is_turned_away(self, path: str, message_id: str) -> bool:
        # Nothing is turned away twice: the second wait is one of minutes.
        if not self._busy[path] or (path, message_id) in self._turned_away:
            return False
        self._busy[path] -= 1
        if self._busy[path] % TURNED_AWAY:
            return False
        self._turned_away.add((path, message_id))
        return True

    def _note(self, path: str, event: dict[str, Any]) -> None:
        self._topics[event["type"]] += 1
        if path not in {OPERATOR, f"/{event['tenant_id']}"}:
            self._counts["strangers"] += 1


def _verifies(verifier: Webhook, body: bytes, headers: dict[str, str]) -> bool:
    try:
        verifier.verify(body, headers)
    except WebhookVerificationError:
        return False
    return True


def _handler(books: Books) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers.get("content-length", "0"))
            if length > LARGEST_BODY:
                self.send_error(413)
                return
            body = self.rfile.read(length)
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.send_response(books.receive(self.path, headers, body))
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing: the report says it."""

    return Handler


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # connections that wait while this machine does something else


def main() -> None:
    """Serve on a free loopback port until standard input closes."""
    books = Books()
    server = _Server(("127.0.0.1", 0), _handler(books))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    _say({"port": server.server_port})
    for line in sys.stdin:
        message = json.loads(line)
        if "secret" in message:
            books.trust(message["path"], message["secret"])
            _say({"trusted": message["path"]})
        elif "busy" in message:
            books.be_busy(message["path"], message["busy"])
            _say({"busy": message["path"]})
        elif "list" in message:
            _say(books.received())
        else:
            _say(books.report())
    server.shutdown()


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
