"""An account of Stripe's invoice API on a real socket: it remembers keys, and can misbehave.

What it does follows https://docs.stripe.com/api: keys are kept with the form and the answer, an
answer of 500 too if it had begun; another form under a known key is refused; a key in hand is a
conflict; searching finds metadata; an invoice goes from draft to open, paid, void, uncollectible.
"""

import contextlib
import itertools
import json
import re
import threading
import time
import urllib.parse
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET_KEY = "sk_test_51TestsOnly0000secret"

Json = dict[str, Any]


@dataclass
class Fault:
    """What is done instead of an answer, once.

    Args:
        does: whether the request is carried out before.
        saves: whether the answer is kept under the key.
        drips: seconds between two bytes of the answer.
    """

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: Json | bytes = field(default_factory=dict)
    does: bool = False
    saves: bool = False
    drips: float = 0.0


HANG_UP = Fault()
DO_AND_HANG_UP = Fault(does=True)


class Refused(Exception):
    """A request that the API does not carry out."""

    def __init__(self, status: int, code: str, message: str, kind: str = "invalid_request_error"):
        super().__init__(message)
        self.status = status
        self.body = {"error": {"type": kind, "code": code, "message": message}}


class Account:
    """The objects there are, and what was asked."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget everything."""
        self.objects: dict[str, Json] = {}
        self.lines: dict[str, list[Json]] = defaultdict(list)
        self.keys: dict[str, tuple[Any, int, Json] | None] = {}
        self.asked: Counter[str] = Counter()
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.faults: dict[str, deque[Fault]] = defaultdict(deque)
        self.always: dict[str, Fault] = {}
        self.skew = 0
        self.pause = 0.0
        self.at_once = self.most_at_once = 0
        self._ids = itertools.count(1)

    def fail(self, what: str, *faults: Fault) -> None:
        """Let the next requests of a kind, such as "finalize", fare so."""
        self.faults[what].extend(faults)

    def of(self, kind: str) -> list[Json]:
        """The objects of a kind, such as "invoice"."""
        return [one for one in self.objects.values() if one["object"] == kind]

    def forget_keys(self) -> None:
        """As after 24 hours."""
        self.keys.clear()

    def carry_out(  # noqa: PLR0911 (one a kind of request)
        self, method: str, path: str, form: dict[str, str]
    ) -> Json:
        """Do what is asked and return the object.

        Raises:
            Refused: it can not be done.
        """
        parts = path.removeprefix("/v1/").split("/")
        match (method, *parts):
            case ("GET", ("customers" | "invoices") as kind, "search"):
                return self._search(kind.removesuffix("s"), form["query"])
            case ("GET", "credit_notes"):
                notes = [n for n in self.of("credit_note") if n["invoice"] == form["invoice"]]
                return {"object": "list", "data": notes}
            case ("GET", "invoices", one, "lines"):
                return {"object": "list", "data": self.lines[self.get(one)["id"]][:1]}
            case ("GET", _, one):
                return self.shown(self.get(one))
            case ("POST", "customers"):
                return self._make("customer", "cus", metadata=metadata(form), name=None)
            case ("POST", "customers", one):
                self.get(one).update(name=form.get("name"), email=form.get("email"))
                return self.get(one)
            case ("POST", "invoices"):
                return self.shown(self._invoice(form))
            case ("POST", "invoices", one, verb):
                getattr(self, f"_{verb}")(self.get(one), form)
                return self.shown(self.get(one))
            case ("POST", "credit_notes"):
                return self._credit(self.get(form["invoice"]), form)
        raise Refused(404, "url_invalid", f"Unrecognized request URL ({method}: {path}).")

    def get(self, one: str) -> Json:
        if one not in self.objects:
            raise Refused(404, "resource_missing", f"No such object: '{one}'")
        return self.objects[one]

    def shown(self, one: Json) -> Json:
        if one["object"] != "invoice":
            return one
        total = sum(line["amount"] for line in self.lines[one["id"]]) + self.skew
        return {**one, "total": total, "amount_due": total - one["credited"]}

    def _make(self, kind: str, prefix: str, **more: Any) -> Json:
        made = {"id": f"{prefix}_{next(self._ids):08d}", "object": kind, **more}
        self.objects[made["id"]] = made
        return made

    def _invoice(self, form: dict[str, str]) -> Json:
        self.get(form["customer"])
        assert form["pending_invoice_items_behavior"] == "exclude"
        if len(form.get("number", "")) > 26:
            raise Refused(400, "parameter_invalid", "a number has at most 26 characters")
        return self._make(
            "invoice",
            "in",
            customer=form["customer"],
            currency=form["currency"],
            status="draft",
            number=form.get("number"),
            auto_advance=form["auto_advance"] == "true",
            metadata=metadata(form),
            credited=0,
            paid_out_of_band=False,
        )

    def _add_lines(self, one: Json, form: dict[str, str]) -> None:
        self._must_be(one, "draft")
        for place in sorted({int(n) for n in re.findall(r"lines\[(\d+)\]", " ".join(form))}):
            line = f"lines[{place}]"
            self.lines[one["id"]].append(
                {
                    "description": form[f"{line}[description]"],
                    "amount": int(form[f"{line}[amount]"]),
                }
            )
        if len(self.lines[one["id"]]) > 250:
            raise Refused(400, "parameter_invalid", "at most 250 lines")

    def _finalize(self, one: Json, form: dict[str, str]) -> None:
        self._must_be(one, "draft")
        if not self.lines[one["id"]]:
            raise Refused(400, "invoice_no_customer_line_items", "Nothing to invoice")
        one["auto_advance"] = form["auto_advance"] == "true"
        one["status"] = "open" if self.shown(one)["total"] else "paid"

    def _void(self, one: Json, _: dict[str, str]) -> None:
        self._must_be(one, "open", "uncollectible")
        one["status"] = "void"

    def _mark_uncollectible(self, one: Json, _: dict[str, str]) -> None:
        self._must_be(one, "open")
        one["status"] = "uncollectible"

    def _pay(self, one: Json, form: dict[str, str]) -> None:
        self._must_be(one, "open", "uncollectible")
        one.update(status="paid", paid_out_of_band=form.get("paid_out_of_band") == "true")

    def _credit(self, one: Json, form: dict[str, str]) -> Json:
        self._must_be(one, "open", "paid")
        amount, outside = int(form["amount"]), int(form.get("out_of_band_amount", 0))
        left = self.shown(one)["amount_due"] if one["status"] == "open" else 0
        if min(amount, left) + outside != amount:
            raise Refused(400, "invalid", "the parts do not sum to the amount")
        one["credited"] += min(amount, left)
        if one["status"] == "open" and self.shown(one)["amount_due"] == 0:
            one["status"] = "paid"
        return self._make(
            "credit_note",
            "cn",
            invoice=one["id"],
            amount=amount,
            out_of_band_amount=outside,
            metadata=metadata(form),
        )

    def _must_be(self, one: Json, *states: str) -> None:
        if one["status"] not in states:
            raise Refused(400, "invoice_not_editable", f"This invoice is {one['status']}.")

    def _search(self, kind: str, query: str) -> Json:
        found = re.fullmatch(r"metadata\['(\w+)'\]:'((?:[^'\\]|\\.)*)'", query)
        if found is None:
            raise Refused(400, "parameter_invalid", f"We were unable to parse your query: {query}")
        name, value = found[1], re.sub(r"\\(.)", r"\1", found[2])
        data = [one for one in self.of(kind) if one["metadata"].get(name) == value]
        return {"object": "search_result", "data": data[:1]}


def metadata(form: dict[str, str]) -> dict[str, str]:
    found = ((re.fullmatch(r"metadata\[(\w+)\]", name), value) for name, value in form.items())
    return {match[1]: value for match, value in found if match}


class Handler(BaseHTTPRequestHandler):
    """Answers requests of an account, the socket's end of it."""

    protocol_version = "HTTP/1.1"
    account: Account

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the library's name)
        """Say nothing."""

    def _serve(self) -> None:
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
        form = dict(urllib.parse.parse_qsl(body or query, keep_blank_values=True))
        account, what = self.account, path.rsplit("/", 1)[-1]
        with account.lock:
            account.at_once += 1
            account.most_at_once = max(account.most_at_once, account.at_once)
        time.sleep(account.pause)
        with account.lock:
            kind = "one" if re.fullmatch(r"(in|cus)_\d+", what) else what
            account.asked[f"{self.command} {kind}"] += 1
            account.seen.append((self.command, path, dict(self.headers.items())))
            queued = account.faults[what]
            fault = queued.popleft() if queued else account.always.get(what)
            status, answer = self._answer(path, form, fault)
            account.at_once -= 1
        if fault is not None and fault.status == 0 and not fault.drips:
            self.close_connection = True
            return
        headers = fault.headers if fault is not None else {}
        self._send(status, answer, headers, fault.drips if fault is not None else 0.0)

    def _answer(self, path: str, form: dict[str, str], fault: Fault | None) -> tuple[int, Any]:
        if self.headers.get("Authorization") != f"Bearer {SECRET_KEY}":
            given = self.headers.get("Authorization", "").removeprefix("Bearer ")
            error = {"type": "invalid_request_error", "message": f"Invalid API Key: {given}"}
            return 401, {"error": error}
        key = self.headers.get("Idempotency-Key")
        asked = (path, sorted(form.items()))
        known = self.account.keys.get(key or "")
        if known is not None:
            if known[0] != asked:
                message = "Keys for idempotent requests can only be used with the same parameters"
                return 400, {"error": {"type": "idempotency_error", "message": message}}
            return known[1], known[2]
        if fault is not None and not fault.does and not fault.drips:
            if key and fault.saves:
                self.account.keys[key] = (asked, fault.status, fault.body)  # type: ignore[assignment]
            return fault.status, fault.body
        try:
            status, answer = 200, self.account.carry_out(self.command, path, form)
        except Refused as refused:
            status, answer = refused.status, refused.body
        # Values of now: what is answered under a key stays as it was.
        answer = json.loads(json.dumps(answer))
        if key:
            self.account.keys[key] = (asked, status, answer)
        return (
            (fault.status, fault.body) if fault is not None and fault.status else (status, answer)
        )

    def _send(self, status: int, answer: Any, headers: dict[str, str], drips: float) -> None:
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        with contextlib.suppress(OSError):
            self.send_response(status)
            for name, value in {
                **headers,
                "Connection": "close",
                "Content-Length": str(len(body)),
            }.items():
                self.send_header(name, value)
            self.end_headers()
            if not drips:
                self.wfile.write(body)
                return
            for byte in body:
                self.wfile.write(bytes([byte]))
                time.sleep(drips)


class Server(ThreadingHTTPServer):
    """Listens for one account."""

    daemon_threads = True
    allow_reuse_address = True


@dataclass
class Stripe:
    """An account, and where it listens. It can be taken away and come back with all it knew."""

    account: Account
    port: int = 0
    _server: Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        handler = type("Bound", (Handler,), {"account": self.account})
        self._server = Server(("127.0.0.1", self.port), handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


@contextlib.contextmanager
def stripe() -> Iterator[Stripe]:
    """Run one for a test."""
    running = Stripe(Account())
    running.start()
    try:
        yield running
    finally:
        running.stop()
