"""An application for a real ASGI server: answers whole, in parts, late, wrong, or not at all."""

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

from examples.asgi import app as example
from examples.asgi.metering import MeteredResponses, Receive, Scope, Send

JSON = [(b"content-type", b"application/json")]
TEXT = [(b"content-type", b"text/event-stream")]
USED = b'{"usage": {"total_tokens": 7}}'
PART = b"data: part\n\n"


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """Do what the path says."""
    if scope["type"] == "lifespan":
        await example.prepare(receive, send)
        return
    await example.read(receive)
    await ANSWERS[scope["path"]](receive, send)


async def parts(_: Receive, send: Send) -> None:
    """JSON in two parts."""
    await _start(send, 200, JSON)
    await _body(send, USED[:15], more=True)
    await _body(send, USED[15:])


async def fails(_: Receive, send: Send) -> None:
    """A server error that says what was used."""
    await _start(send, 500, JSON)
    await _body(send, USED)


async def raises(_: Receive, __: Send) -> None:
    """No answer."""
    raise ZeroDivisionError


async def stream(_: Receive, send: Send) -> None:
    """Three parts of no JSON."""
    await _start(send, 200, TEXT)
    for _part in range(3):
        await _body(send, PART, more=True)
    await _body(send, b"")


async def endless(receive: Receive, send: Send) -> None:
    """Parts until the client goes."""
    await _start(send, 200, TEXT)
    while not await _is_gone(receive):
        await _body(send, PART, more=True)


async def hangs(receive: Receive, _: Send) -> None:
    """Nothing until the client goes, nor then."""
    while (await receive())["type"] != "http.disconnect":
        pass


ANSWERS: dict[str, Callable[[Receive, Send], Awaitable[None]]] = {
    f"/{each.__name__}": each for each in (parts, fails, raises, stream, endless, hangs)
}


async def _start(send: Send, status: int, headers: Any) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _body(send: Send, content: bytes, *, more: bool = False) -> None:
    await send({"type": "http.response.body", "body": content, "more_body": more})


async def _is_gone(receive: Receive) -> bool:
    try:
        async with asyncio.timeout(0.01):
            return bool((await receive())["type"] == "http.disconnect")
    except TimeoutError:
        return False


app = MeteredResponses(
    answer,
    product_key="TOKENS",
    tenant=example.tenant_of,
    estimate=Decimal(50),
)
