"""Receive billing webhooks: verify, answer fast, work later, once per id.

WEBHOOK_SECRET=whsec_… python examples/receiver/receiver.py [PORT]
Needs nothing but the package `standardwebhooks`.
"""

import json
import os
import queue
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

webhook = Webhook(os.environ["WEBHOOK_SECRET"])
work: queue.Queue[dict] = queue.Queue()
seen: set[str] = set()  # in production a table with a unique key


class Receiver(BaseHTTPRequestHandler):
    """One delivery: the raw bytes are what was signed, so verify them before parsing."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            event = webhook.verify(body, {k.lower(): v for k, v in self.headers.items()})
        except WebhookVerificationError:
            self.answer(401)
            return
        work.put(event)
        self.answer(204)  # within 15 s, or it is sent again

    def answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """The worker below says what arrived."""


def handle_events() -> None:
    while True:
        event = work.get()
        if event["id"] in seen:  # a retry or a replay of what was handled before
            continue
        seen.add(event["id"])
        print(event["type"], json.dumps(event["data"]), flush=True)


if __name__ == "__main__":
    threading.Thread(target=handle_events, daemon=True).start()
    server = ThreadingHTTPServer(
        ("127.0.0.1", int(sys.argv[1]) if sys.argv[1:] else 8099), Receiver
    )
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
