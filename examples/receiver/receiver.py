"""Receive billing webhooks: verify, keep, answer fast, work later, once per id.

WEBHOOK_SECRET=whsec_… python examples/receiver/receiver.py [PORT] [DATABASE]

Needs Python alone; the package `standardwebhooks` verifies if it is there. While a secret is being
rotated give both, with a space between them. DATABASE is an SQLite file: what was taken and not
handled when this program died is handled when it is back.
"""

import base64
import hashlib
import hmac
import json
import os
import sqlite3
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

try:
    from standardwebhooks import Webhook, WebhookVerificationError
except ImportError:
    Webhook = None

SECRETS = os.environ["WEBHOOK_SECRET"].split()
LARGEST = 1_000_000  # bytes; events are smaller than 256 KiB
TOLERANCE = 300  # seconds: an older request may be somebody's who has listened

arrived = threading.Event()


def is_genuine(secret: str, body: bytes, headers: dict[str, str]) -> bool:
    """Whether the holder of the secret sent this, a moment ago."""
    if Webhook is not None:
        try:
            Webhook(secret).verify(body, headers)
        except (WebhookVerificationError, ValueError, TypeError):
            return False  # not genuine, or not even a signature
        return True
    sent_at = headers.get("webhook-timestamp", "")
    if not sent_at.isdecimal() or abs(time.time() - int(sent_at)) > TOLERANCE:
        return False
    content = f"{headers.get('webhook-id')}.{sent_at}.".encode() + body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = "v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
    given = headers.get("webhook-signature", "").split(" ")
    return any(hmac.compare_digest(one.encode(), expected.encode()) for one in given)


def connect() -> sqlite3.Connection:
    """One row an event: its id is the key, so that a retry or a replay is the same row."""
    database = sqlite3.connect(sys.argv[2] if sys.argv[2:] else "received.db", timeout=10)
    database.execute(
        "CREATE TABLE IF NOT EXISTS events (id TEXT PRIMARY KEY, body BLOB, handled_at TEXT)"
    )
    return database


class Receiver(BaseHTTPRequestHandler):
    """One request: the raw bytes are what was signed, so verify them before parsing."""

    protocol_version = "HTTP/1.1"
    timeout = 20

    def do_POST(self) -> None:
        length = self.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > LARGEST:
            self.close_connection = True
            self.answer(413)
            return
        body = self.rfile.read(int(length))
        headers = {name.lower(): value for name, value in self.headers.items()}
        if not any(is_genuine(secret, body, headers) for secret in SECRETS):
            self.answer(401)
            return
        database = connect()
        with database:  # kept before it is answered: from then on it is ours
            database.execute(
                "INSERT OR IGNORE INTO events (id, body) VALUES (?, ?)",
                (headers["webhook-id"], body),
            )
        database.close()
        self.answer(204)  # within 15 s, or it is sent again
        arrived.set()

    def answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """The worker below says what arrived."""


def handle_events() -> None:
    """Work on what was kept, one after another, and mark it: once is enough."""
    database = connect()
    while True:
        arrived.clear()
        waiting = "SELECT id, body FROM events WHERE handled_at IS NULL ORDER BY id"
        for event_id, body in database.execute(waiting).fetchall():
            event = json.loads(body)
            print(event["type"], json.dumps(event["data"]), flush=True)  # the work
            with database:
                database.execute(
                    "UPDATE events SET handled_at = datetime() WHERE id = ?", (event_id,)
                )
        arrived.wait(timeout=60)


if __name__ == "__main__":
    connect().close()
    threading.Thread(target=handle_events, daemon=True).start()
    server = ThreadingHTTPServer(
        ("127.0.0.1", int(sys.argv[1]) if sys.argv[1:] else 8099), Receiver
    )
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
