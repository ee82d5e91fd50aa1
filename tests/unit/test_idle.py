"""Connections between attempts: whose they are, how long and how many are kept."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from webhooks import guard, idle
from webhooks.idle import Idle
from webhooks.wire import PlainConnection

POLICY = guard.Policy(allow_http=True, any_port=True)


class Peers:
    """The far ends of connections: open until the test ends."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.last: socket.socket

    def connection(self, target: guard.Target) -> PlainConnection:
        ours, self.last = (self._stack.enter_context(one) for one in socket.socketpair())
        made = PlainConnection(target.host, target.port)
        made.sock = ours
        return made


@pytest.fixture
def peers() -> Iterator[Peers]:
    with ExitStack() as stack:
        yield Peers(stack)


def target(url: str = "http://one.example/") -> guard.Target:
    return guard.check_url(url, policy=POLICY)


def test_the_newest_is_taken_first_and_none_twice(peers: Peers) -> None:
    kept = Idle()
    old, new = peers.connection(target()), peers.connection(target())
    kept.keep(target(), old, now=0)
    kept.keep(target(), new, now=1)

    assert kept.take(target("http://one.example/other"), now=2) is new
    assert kept.take(target(), now=2) is old
    assert kept.take(target(), now=2) is None


@pytest.mark.parametrize(
    "url", ["http://two.example/", "http://one.example:8080/", "https://one.example:80/"]
)
def test_another_hosts_port_or_scheme_has_none(url: str, peers: Peers) -> None:
    kept = Idle()
    kept.keep(target(), peers.connection(target()), now=0)

    assert kept.take(target(url), now=0) is None


def test_one_that_was_not_used_for_half_a_minute_is_closed(peers: Peers) -> None:
    kept = Idle()
    old, young = peers.connection(target()), peers.connection(target())
    kept.keep(target(), old, now=0)
    kept.keep(target(), young, now=0.5)

    assert kept.take(target(), now=30) is young
    assert old.sock is None
    assert kept.take(target(), now=30) is None


def test_of_too_many_the_oldest_is_closed(peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "IDLE_MAX", 3)
    kept = Idle()
    opened = [peers.connection(target(f"http://h{number}.example/")) for number in range(4)]
    for number, connection in enumerate(opened):
        kept.keep(target(f"http://h{number}.example/"), connection, now=number)

    assert [one.sock is None for one in opened] == [True, False, False, False]
    assert kept.take(target("http://h0.example/"), now=4) is None


def test_one_whose_peer_hung_up_or_spoke_out_of_turn_is_passed_over(peers: Peers) -> None:
    kept = Idle()
    good = peers.connection(target())
    kept.keep(target(), good, now=0)
    speaks = peers.connection(target())
    peers.last.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    kept.keep(target(), speaks, now=1)
    gone = peers.connection(target())
    peers.last.close()
    kept.keep(target(), gone, now=2)

    assert kept.take(target(), now=3) is good
    assert (speaks.sock, gone.sock) == (None, None)


def test_once_closed_none_is_kept(peers: Peers) -> None:
    kept = Idle()
    before, after = peers.connection(target()), peers.connection(target())
    kept.keep(target(), before, now=0)

    kept.close()
    kept.keep(target(), after, now=1)

    assert (before.sock, after.sock) == (None, None)
    assert kept.take(target(), now=2) is None
