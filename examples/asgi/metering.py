"""ASGI middleware: each request is paid with prepaid credit, by what its answer says was used.

    app = MeteredResponses(app, product_key="TOKENS", tenant=tenant_of, estimate=Decimal(2000))

Before the application runs, the estimate is set aside; when it has answered, what was used is
charged, the rest goes back, and `x-credits-deducted` says how much it was. What was used is what
the application wrote to `scope["metered"].actual`, or else what a JSON answer says at
`actual_path`, or else the estimate. Errors (status 400 and above) cost nothing unless they say what
was used, and server errors never cost anything.

It needs no framework, and this process must know the database (`worker.boot.prepare()`).
"""

import functools
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from decimal import Decimal
from typing import Any

from tasks import blocking, contract, hold
from tasks.hold import Hold
from tasks.metered import Above, HoldEnded, TooLittleCredit

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

DEDUCTED = b"x-credits-deducted"
"""The response header that says what was charged."""

LARGEST_JSON = 1024 * 1024
"""Bytes of a JSON answer that are held back to be read. A larger one is charged its estimate."""

MOST = 10**18
DECIMALS = 12
"""An amount is less than that, and no finer."""

log = logging.getLogger(__name__)


class MeteredResponses:
    """The middleware.

    Args:
        app: what answers.
        product_key: the credit that pays.
        tenant: finds who pays in the scope of a request; None is answered with 401.
        estimate: what to set aside, above 0, or what finds it in the scope; None lets a request
            pass for free.
        actual_path: where a JSON answer says what was used: keys, and places in arrays, with dots.
        ttl_seconds: longer than any request takes. If the process dies, credit comes back then.
        above: what happens if more was used than set aside, as with `metered`.
    """

    def __init__(
        self,
        app: Application,
        *,
        product_key: str,
        tenant: Callable[[Scope], str | None],
        estimate: Decimal | Callable[[Scope], Decimal | None],
        actual_path: str = "usage.total_tokens",
        ttl_seconds: int = 900,
        above: Above = Above.take_available,
    ) -> None:
        self._app = app
        self._tenant = tenant
        self._estimate = estimate
        self._path = actual_path.split(".")
        self._reserve = functools.partial(
            hold.reserve, product_key=product_key, ttl_seconds=ttl_seconds, above=above
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass on what is none."""
        estimate = self._estimate_of(scope)
        if estimate is None:
            await self._app(scope, receive, send)
            return
        tenant_id = self._tenant(scope)
        if tenant_id is None:
            await _refuse(send, 401, {"code": "tenant_missing", "message": "say who you are"})
            return
        try:
            held = await blocking.begin(
                functools.partial(self._reserve, tenant_id, estimate=estimate), undo=Hold.give_up
            )
        except TooLittleCredit as short:
            await _refuse(send, 402, _too_little(short))
            return
        except contract.InvalidMessage:
            await _refuse(send, 400, {"code": "request_invalid", "message": "no such tenant"})
            return
        await self._answer(held, scope, receive, send)

    def _estimate_of(self, scope: Scope) -> Decimal | None:
        if scope["type"] != "http":
            return None
        return self._estimate(scope) if callable(self._estimate) else self._estimate

    async def _answer(self, held: Hold, scope: Scope, receive: Receive, send: Send) -> None:
        response = _Response(held, send, self._path)
        try:
            await self._app({**scope, "metered": held}, receive, response.send)
        except BaseException as error:
            # Also a cancellation, by a server whose client has gone.
            await response.give_up(error)
            raise
        await response.give_up(None)


class _Response:
    """Passes an answer on once it is paid."""

    def __init__(self, held: Hold, send: Send, path: Iterable[str]) -> None:
        self._hold = held
        self._send = send
        self._path = tuple(path)
        self._start: Message | None = None
        self._body = bytearray()
        self._is_settled = False

    async def send(self, message: Message) -> None:
        """Take a message of the application's.

        A JSON answer is held back until it is whole. Anything else goes out as it comes, and is
        paid before its first byte does: who has seen the answer can not leave without paying.
        """
        if self._is_settled:
            await self._send(message)
        elif message["type"] == "http.response.start":
            self._start = message
            if message["status"] >= 400 and not _is_json(message):
                await self._settle(None)
        elif message["type"] == "http.response.body" and self._is_readable():
            self._body += message.get("body", b"")
            more_body = message.get("more_body", False)
            if not more_body or len(self._body) > LARGEST_JSON:
                body = bytes(self._body)
                await self._settle(None if more_body else _find(body, self._path))
                await self._send({**message, "body": body})
        elif self._start is None:
            await self._send(message)  # such as an early hint
        else:
            await self._settle(None)
            await self._send(message)

    async def give_up(self, error: BaseException | None) -> None:
        """Give the credit back unless it was paid: there is no answer, or no whole one."""
        if not self._is_settled:
            self._is_settled = True
            await blocking.finish(functools.partial(self._hold.give_up, error))

    def _is_readable(self) -> bool:
        return self._start is not None and _is_json(self._start)

    async def _settle(self, found: Decimal | None) -> None:
        """Charge, or give back, and let the start of the answer go."""
        assert self._start is not None  # noqa: S101 (there is no body before the start)
        deducted = await blocking.finish(
            functools.partial(_pay, self._hold, self._start["status"], found)
        )
        self._is_settled = True
        headers = [*self._start.get("headers", ()), (DEDUCTED, f"{deducted:f}".encode())]
        await self._send({**self._start, "headers": headers})


def _pay(held: Hold, status: int, found: Decimal | None) -> Decimal:
    """Charge what was used, or give it back; return what was charged."""
    if held.actual is None and found is not None:
        held.actual = found
    if status >= 500 or (status >= 400 and held.actual is None):
        held.release(f"status {status}")
        return Decimal(0)
    try:
        return held.charge()
    except HoldEnded:
        # The work is done; whoever waited so long is not sent away.
        log.exception("an answer was not charged")
        return Decimal(0)


def _is_json(start: Message) -> bool:
    headers = {name.lower(): value for name, value in start.get("headers", ())}
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    is_plain = headers.get(b"content-encoding", b"identity") == b"identity"
    return is_plain and bool(kind == b"application/json" or kind.endswith(b"+json"))


def _find(body: bytes, path: Iterable[str]) -> Decimal | None:
    """Return the amount at a path of a JSON text; None if there is none that can be charged."""
    try:
        value = json.loads(body, parse_float=Decimal, parse_int=Decimal)
        for part in path:
            value = value[int(part)] if isinstance(value, list) else value[part]
        amount = Decimal(value) if isinstance(value, Decimal | str) else Decimal("NaN")
    except (ValueError, ArithmeticError, LookupError, TypeError):
        return None
    return amount if _is_chargeable(amount) else None


def _is_chargeable(amount: Decimal) -> bool:
    exponent = amount.normalize().as_tuple().exponent
    return isinstance(exponent, int) and exponent >= -DECIMALS and 0 <= amount < MOST


def _too_little(short: TooLittleCredit) -> dict[str, str]:
    return {
        "code": short.reason,
        "message": "too little credit for this request",
        "product_key": short.product_key,
        "required": f"{short.estimate:f}",
        "available": f"{short.available:f}",
    }


async def _refuse(send: Send, status: int, error: dict[str, str]) -> None:
    body = json.dumps({"error": error}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
