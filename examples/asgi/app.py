"""An ASGI application whose answers are paid with prepaid credit.

DATABASE_URL=… BROKER_URL=… uvicorn examples.asgi.app:app

With `billing up` running both addresses are found. Let the tenant acme have credit of the product
TOKENS (billing.set_product, billing.add_credits), and ask:

curl -i -H 'authorization: Bearer key-of-acme' -d 'how many words are these' localhost:8000/complete
"""

import json
from decimal import Decimal

from examples.asgi.metering import MeteredResponses, Receive, Scope, Send
from worker import boot

TENANTS = {b"Bearer key-of-acme": "acme", b"Bearer key-of-bolt": "bolt"}
"""Whose key it is. Yours come from where you keep them."""


def tenant_of(scope: Scope) -> str | None:
    """Return who pays for a request; None for nobody we know."""
    return TENANTS.get(dict(scope["headers"]).get(b"authorization", b""))


def estimate_of(scope: Scope) -> Decimal | None:
    """Return what to set aside; None for what is free."""
    return None if scope["path"] == "/health" else Decimal(50)


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with as many tokens as the request has words."""
    if scope["type"] == "lifespan":
        await prepare(receive, send)
        return
    words = (await read(receive)).split()
    if scope["path"] == "/complete":
        usage = {"total_tokens": len(words)}
        text, kind = json.dumps({"usage": usage}).encode(), b"application/json"
    else:
        text, kind = b"well\n", b"text/plain"
    headers = [(b"content-type", kind), (b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


async def prepare(receive: Receive, send: Send) -> None:
    """Wire this process when it starts, and say that it may end when it is told to."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            boot.prepare()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def read(receive: Receive) -> bytes:
    """Return a request's whole body."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


app = MeteredResponses(
    answer,
    product_key="TOKENS",
    tenant=tenant_of,
    estimate=estimate_of,
    actual_path="usage.total_tokens",
)
