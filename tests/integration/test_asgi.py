"""The middleware of examples/asgi, message by message: what is charged, and what goes out."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, text

from examples.asgi import metering
from examples.asgi.metering import Message, MeteredResponses, Scope
from models import database
from tasks.catalog import set_product
from tasks.credit_upkeep import audit, expire_reservations
from tasks.credits import add_credits, get_balance

Answer = Callable[[Scope, Any, Callable[[Message], Awaitable[None]]], Awaitable[None]]

JSON = [(b"content-type", b"application/json; charset=utf-8")]
TEXT = [(b"content-type", b"text/event-stream")]


@pytest.fixture(autouse=True)
def tokens(db: Engine) -> None:
    """Acme has 100 tokens."""
    set_product(product_key="TOKENS", name="Tokens", type="quantity")
    add_credits(tenant_id="acme", product_key="TOKENS", amount="100", idempotency_key="g")


def standing() -> tuple[str, str]:
    """Balance and what of it is held."""
    found = get_balance(tenant_id="acme", product_key="TOKENS")
    assert audit()["ok"]
    return found["balance"], found["held"]


def metered(answer: Answer, **more: Any) -> MeteredResponses:
    arguments = {"tenant": lambda scope: scope["who"], "estimate": Decimal(50), **more}
    return MeteredResponses(answer, product_key="TOKENS", **arguments)


def start(status: int = 200, headers: Any = JSON) -> Message:
    return {"type": "http.response.start", "status": status, "headers": headers}


def body(content: Any = b"", *, more: bool = False) -> Message:
    written = content if isinstance(content, bytes) else json.dumps(content).encode()
    return {"type": "http.response.body", "body": written, "more_body": more}


def answering(*messages: Message) -> Answer:
    async def answer(scope: Scope, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    return answer


def ask(app: Any, *, who: str | None = "acme", kind: str = "http") -> list[Message]:
    """Send one request and return what comes out."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    asyncio.run(app({"type": kind, "who": who}, receive, send))
    return sent


def deducted(sent: list[Message]) -> str | None:
    headers = dict(sent[0]["headers"])
    found = headers.get(metering.DEDUCTED)
    return None if found is None else found.decode()


def content(sent: list[Message]) -> bytes:
    """The body; the last message, and no other, says that it is whole."""
    assert [bool(message.get("more_body")) for message in sent[1:]][-1:] == [False]
    assert all(message["more_body"] for message in sent[1:-1])
    return b"".join(message["body"] for message in sent[1:])


USED = {"usage": {"total_tokens": 12}}


@pytest.mark.parametrize(
    ("messages", "charge"),
    [
        ([start(), body(USED)], "12"),
        ([start(), body(b'{"usage": {"total_', more=True), body(b'tokens": 12.50}}')], "12.5"),
        ([start(), body({"usage": {"total_tokens": "7.25"}})], "7.25"),
        ([start(headers=[(b"Content-Type", b"application/problem+json")]), body(USED)], "12"),
        ([start(), body({"usage": {"total_tokens": 0}})], "0"),
        # More than was set aside, as far as there is any.
        ([start(), body({"usage": {"total_tokens": 70}})], "70"),
        ([start(), body({"usage": {"total_tokens": 130}})], "100"),
        ([start(), body({"usage": {"total_tokens": 123_456_789_012_345_678}})], "100"),
        # An answer that does not say is charged its estimate.
        ([start(), body({})], "50"),
        ([start(), body({"usage": None})], "50"),
        ([start(), body({"usage": {"total_tokens": -3}})], "50"),
        ([start(), body(b'{"usage": {"total_tokens": 1e400}}')], "50"),
        ([start(), body(b'{"usage": {"total_tokens": 1e-13}}')], "50"),
        ([start(), body(b'{"usage": {"total_tokens": NaN}}')], "50"),
        ([start(), body({"usage": {"total_tokens": True}})], "50"),
        ([start(), body(b"no json")], "50"),
        ([start(), body(b"")], "50"),
        ([start(204, headers=[]), body(b"")], "50"),
        ([start(headers=[*JSON, (b"content-encoding", b"gzip")]), body(b"\x1f\x8b")], "50"),
        ([start(headers=TEXT), body(b"one", more=True), body(b"two")], "50"),
        # Errors cost nothing unless they say so, those of the server never.
        ([start(404, headers=TEXT), body(b"no")], "0"),
        ([start(422), body({"detail": "no"})], "0"),
        ([start(429), body(USED)], "12"),
        ([start(500), body(USED)], "0"),
        ([start(503, headers=TEXT), body(b"a", more=True), body(b"b")], "0"),
    ],
)
def test_an_answer_is_charged_by_what_it_says(messages: list[Message], charge: str) -> None:
    sent = ask(metered(answering(*messages)))

    assert deducted(sent) == charge
    assert sent[0]["status"] == messages[0]["status"]
    assert sent[0]["headers"][:-1] == messages[0]["headers"]
    assert content(sent) == b"".join(message["body"] for message in messages[1:])
    assert Decimal(standing()[0]) == 100 - Decimal(charge)
    assert standing()[1] == "0"


def test_a_path_leads_through_objects_and_arrays() -> None:
    app = metered(
        answering(start(), body({"items": [{}, {"cost": {"units": 9}}]})),
        actual_path="items.1.cost.units",
    )

    assert deducted(ask(app)) == "9"


def test_the_application_may_say_itself_what_was_used() -> None:
    async def answer(scope: Scope, receive: Any, send: Any) -> None:
        scope["metered"].actual = 33
        await answering(start(headers=TEXT), body(b"x"))(scope, receive, send)

    assert deducted(ask(metered(answer))) == "33"


def test_a_long_answer_is_not_held_back_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metering, "LARGEST_JSON", 10)
    parts = [body(b'{"usage": ', more=True), body(b'{"total_tokens"', more=True), body(b": 1}}")]

    sent = ask(metered(answering(start(), *parts)))

    assert deducted(sent) == "50"
    assert content(sent) == b'{"usage": {"total_tokens": 1}}'


def test_nothing_goes_out_before_it_is_paid() -> None:
    seen: list[tuple[str, ...]] = []

    async def answer(scope: Scope, receive: Any, send: Any) -> None:
        await send(start(headers=TEXT))
        seen.append(("start", *standing()))
        await send(body(b"one", more=True))
        seen.append(("first byte", *standing()))
        await send(body(b"two"))

    ask(metered(answer))

    assert seen == [("start", "100", "50"), ("first byte", "50", "0")]


def test_who_is_nobody_is_told_so() -> None:
    sent = ask(metered(answering(start(), body(USED))), who=None)

    assert sent[0]["status"] == 401
    assert json.loads(content(sent))["error"]["code"] == "tenant_missing"
    assert dict(sent[0]["headers"])[b"www-authenticate"] == b"Bearer"
    assert standing() == ("100", "0")


@pytest.mark.parametrize(
    ("who", "code", "available"),
    [("acme", "insufficient_funds", "100"), ("bolt", "quota_exhausted", "0")],
)
def test_who_has_too_little_is_told_so_for_programs(who: str, code: str, available: str) -> None:
    async def never(scope: Scope, receive: Any, send: Any) -> None:
        pytest.fail("it ran")

    sent = ask(metered(never, estimate=lambda _: Decimal("100.5")), who=who)

    assert sent[0]["status"] == 402
    assert json.loads(content(sent)) == {
        "error": {
            "code": code,
            "message": "too little credit for this request",
            "product_key": "TOKENS",
            "required": "100.5",
            "available": available,
        }
    }
    assert standing() == ("100", "0")


def test_a_name_that_can_be_no_tenants_is_refused() -> None:
    sent = ask(metered(answering(start(), body(USED))), who="x" * 65)

    assert (sent[0]["status"], json.loads(content(sent))["error"]["code"]) == (
        400,
        "request_invalid",
    )


def test_what_is_free_or_no_request_is_passed_on() -> None:
    messages = [start(), body(USED)]
    free = metered(answering(*messages), estimate=lambda _: None)

    assert ask(free, who=None) == messages
    assert ask(metered(answering(*messages)), kind="websocket") == messages
    assert standing() == ("100", "0")


def test_an_application_that_raises_costs_nothing() -> None:
    async def early(scope: Scope, receive: Any, send: Any) -> None:
        await send(start())
        await send(body(b'{"usage": ', more=True))
        raise ZeroDivisionError

    async def silent(scope: Scope, receive: Any, send: Any) -> None:
        return

    with pytest.raises(ZeroDivisionError):
        ask(metered(early))
    assert ask(metered(silent)) == []

    assert standing() == ("100", "0")
    assert reasons() == ["failed: ZeroDivisionError", "not used"]


def test_an_application_that_raises_in_mid_stream_is_paid() -> None:
    """Whoever has seen a part has used it."""

    async def late(scope: Scope, receive: Any, send: Any) -> None:
        await send(start(headers=TEXT))
        await send(body(b"nearly all", more=True))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ask(metered(late))

    assert standing() == ("50", "0")


@pytest.mark.parametrize("moment", ["working", "streaming"])
def test_a_client_that_goes_pays_for_what_it_was_sent(moment: str) -> None:
    """A server cancels the application, or raises where it sends."""

    async def main() -> None:
        began = asyncio.Event()

        async def answer(scope: Scope, receive: Any, send: Any) -> None:
            if moment == "streaming":
                await send(start(headers=TEXT))
                await send(body(b"a part", more=True))
            began.set()
            await asyncio.Event().wait()

        async def ignore(message: Message) -> None:
            return

        app: Any = metered(answer)
        asking = asyncio.create_task(app({"type": "http", "who": "acme"}, None, ignore))
        await began.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(main())

    assert standing() == ("50" if moment == "streaming" else "100", "0")


def test_a_server_that_can_not_send_does_not_undo_the_charge() -> None:
    async def gone(message: Message) -> None:
        raise OSError("the client is gone")

    app: Any = metered(answering(start(), body(USED)))
    with pytest.raises(OSError, match="gone"):
        asyncio.run(app({"type": "http", "who": "acme"}, None, gone))

    assert standing() == ("88", "0")


def test_an_answer_that_took_longer_than_its_hold_goes_out_uncharged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def slow(scope: Scope, receive: Any, send: Any) -> None:
        expire_reservations(as_of=scope["metered"].expires_at)
        await answering(start(), body(USED))(scope, receive, send)

    sent = ask(metered(slow))

    assert (sent[0]["status"], deducted(sent)) == (200, "0")
    assert "an answer was not charged" in caplog.text
    assert standing() == ("100", "0")


def test_requests_at_once_are_each_paid() -> None:
    async def main() -> list[int]:
        async def one() -> int:
            sent: list[Message] = []

            async def send(message: Message) -> None:
                sent.append(message)

            app: Any = metered(answering(start(), body(USED)), estimate=Decimal(12))
            await app({"type": "http", "who": "acme"}, None, send)
            status: int = sent[0]["status"]
            return status

        return await asyncio.gather(*(one() for _ in range(10)))

    statuses = asyncio.run(main())

    assert sorted(statuses) == [200] * 8 + [402] * 2
    assert standing() == ("4", "0")


def reasons() -> list[str]:
    with database.transaction() as session:
        return list(session.scalars(text("SELECT release_reason FROM reservations ORDER BY id")))
