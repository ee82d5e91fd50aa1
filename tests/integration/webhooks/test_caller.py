"""Calls of somebody's API: one deadline for head and body, a whole answer, no way inside."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.webhooks.conftest import DEADLINE, LOOPBACK
from tests.integration.webhooks.peers import Authority, Peer, Wire, answer, answering
from webhooks import guard
from webhooks.caller import ANSWER_BYTES, Caller, Reply
from webhooks.retry import Outcome


@pytest.fixture
def caller() -> Iterator[Caller]:
    made = Caller(policy=LOOPBACK, deadline_seconds=DEADLINE)
    yield made
    made.close()


def get(caller: Caller, peer: Peer) -> Reply:
    return caller.call("GET", peer.url("/v1/x?a=1"), headers={"authorization": "Bearer s"})


def test_an_answer_comes_back_whole_with_what_was_asked_by_its_method(caller: Caller) -> None:
    big = b"x" * 300_000
    with Peer(answering(answer(200, big, "Retry-After: 7"), answer(404, b"no"))) as peer:
        first = get(caller, peer)
        second = caller.call("POST", peer.url("/v1/y"), headers={}, body=b"a=1")

    assert (first.outcome, first.status, first.body) == (Outcome.DELIVERED, 200, big)
    assert (first.retry_after, first.error) == ("7", None)
    assert (second.outcome, second.status, second.body) == (Outcome.HTTP_ERROR, 404, b"no")
    assert [request.head.split(b" ")[0] for request in peer.requests] == [b"GET", b"POST"]
    assert peer.requests[0].head.startswith(b"GET /v1/x?a=1 HTTP/1.1")
    assert peer.requests[0].headers["authorization"] == "Bearer s"
    assert peer.requests[1].body == b"a=1"
    assert peer.connections == 1, "it is kept for the next call"


def test_a_body_that_drips_is_cut_off_at_the_deadline(caller: Caller) -> None:
    def drip(peer: Peer, wire: Wire) -> None:
        peer.read_request(wire)
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        wire.drip(b"{" * 1000, every=0.05)

    with Peer(drip) as peer:
        reply = get(caller, peer)

    assert reply.status == 200
    assert 0 < len(reply.body) < 1000
    assert reply.latency_ms < 2000 * DEADLINE


def test_a_head_that_drips_is_no_answer(caller: Caller) -> None:
    def drip(peer: Peer, wire: Wire) -> None:
        peer.read_request(wire)
        wire.drip(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000, every=0.05)

    with Peer(drip) as peer:
        reply = get(caller, peer)

    assert (reply.outcome, reply.status, reply.body) == (Outcome.TIMEOUT, None, b"")


def test_no_more_is_read_than_an_answer_may_have(caller: Caller) -> None:
    def pour(peer: Peer, wire: Wire) -> None:
        peer.read_request(wire)
        wire.send(b"HTTP/1.1 200 OK\r\n\r\n")
        wire.pour(b"z" * 65_536)

    with Peer(pour) as peer:
        assert len(get(caller, peer).body) <= ANSWER_BYTES


def test_a_redirection_is_an_answer_and_nobody_goes_there(caller: Caller) -> None:
    with Peer(answering(answer(200))) as target:
        with Peer(answering(answer(302, b"", f"Location: {target.url()}"))) as peer:
            reply = get(caller, peer)
        assert target.connections == 0

    assert (reply.outcome, reply.status) == (Outcome.HTTP_ERROR, 302)


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/", "https://127.0.0.1/v1", "https://localhost/", "ftp://x/"]
)
def test_an_address_that_is_not_allowed_is_never_called(url: str) -> None:
    caller = Caller(policy=guard.STRICT, deadline_seconds=DEADLINE)
    try:
        reply = caller.call("GET", url, headers={"authorization": "Bearer hunter2"})
    finally:
        caller.close()

    assert (reply.outcome, reply.status) == (Outcome.ADDRESS_REFUSED, None)
    assert "hunter2" not in repr(reply)


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [({}, Outcome.DELIVERED), ({"self_signed": True}, Outcome.TLS_ERROR)],
    ids=["trusted", "self-signed"],
)
def test_it_talks_to_nobody_whose_certificate_it_does_not_trust(
    tmp_path: Path, fault: dict[str, bool], outcome: Outcome
) -> None:
    authority = Authority.make(tmp_path)
    policy = guard.Policy(allowed_private_hosts=frozenset({"localhost"}))
    caller = Caller(policy=policy, deadline_seconds=DEADLINE, ca_file=str(authority.ca_file))
    try:
        with Peer(answering(answer(200)), tls=authority.context(**fault)) as peer:
            reply = caller.call("GET", peer.url(host="localhost"), headers={})
    finally:
        caller.close()

    assert reply.outcome is outcome
    assert (len(peer.requests) == 0) == bool(fault)
