"""Senders that may reach loopback, and the attempts they make."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import pytest

from webhooks import guard, signing_keys
from webhooks.transport import Attempt, Request, Sender

LOOPBACK = guard.Policy(allow_http=True, allowed_private_hosts=frozenset({"127.0.0.0/8"}))
DEADLINE = 0.6
SECRET = signing_keys.new_secret()

SendTo = Callable[..., Attempt]


class MakeSender(Protocol):
    def __call__(self, **overrides: Any) -> Sender: ...


def a_request(url: str, **overrides: Any) -> Request:
    request = Request(
        url=url,
        message_id="evt_0197",
        topic="billing.invoice_finalized",
        attempt_number=1,
        payload_version=1,
        timestamp=int(time.time()),
        body=b'{"amount":"12.50"}',
        secrets=(SECRET,),
    )
    return dataclasses.replace(request, **overrides)


@pytest.fixture
def make_sender() -> Iterator[MakeSender]:
    made: list[Sender] = []

    def make(**overrides: Any) -> Sender:
        settings: dict[str, Any] = {"policy": LOOPBACK, "deadline_seconds": DEADLINE} | overrides
        made.append(Sender(**settings))
        return made[-1]

    yield make
    for sender in made:
        sender.close()


@pytest.fixture
def send_to(make_sender: MakeSender) -> SendTo:
    """Make one attempt to a URL; the sender is the same for a whole test."""
    sender = make_sender()

    def send(url: str, **overrides: Any) -> Attempt:
        return sender.send(a_request(url, **overrides))

    return send
