"""One connection to a checked address under one deadline.

The timeouts of the HTTP stack bound each read, not the whole: a peer that sends a byte now and
then holds it for ever. So every call has one wall-clock deadline: each step gets what is left of
it, and a watchdog shuts the socket of a call that is past it.
"""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum, unique
from ipaddress import IPv6Address
from typing import Final

from urllib3 import HTTPResponse
from urllib3.connection import HTTPConnection, HTTPSConnection

from webhooks import guard
from webhooks.final_response import FinalResponse

CONNECT_SECONDS: Final = 5.0
"""For all addresses of a host together; each gets an equal share of what is left."""
TICK_SECONDS: Final = 0.05
"""How late the watchdog may be. Polling costs less than waking it for each of many short calls."""


class DeadlinePassed(TimeoutError):
    """The call's time is over."""


class NotWatching(RuntimeError):
    """A call was begun on a sender that can not end it."""


@unique
class Phase(StrEnum):
    """How far a call came, in words that complete "stopped while …"."""

    RESOLVE = "looking up the name"
    CONNECT = "connecting"
    TLS = "shaking hands"
    SEND = "sending the request"
    ANSWER = "waiting for the answer"


@dataclass(slots=True, eq=False)
class Call:
    """One attempt's way over the wire: where to, until when, how far it came."""

    target: guard.Target
    policy: guard.Policy
    resolver: guard.Resolver | None
    clock: Callable[[], float]
    started: float
    deadline: float
    phase: Phase = Phase.RESOLVE
    shut_at: float = field(init=False)
    """When the watchdog shuts the socket: the deadline, or sooner once the head is in."""
    shut: bool = field(init=False, default=False)
    _socket: socket.socket | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.shut_at = self.deadline

    def remaining(self) -> float:
        """Seconds left, more than 0. Raises `DeadlinePassed` when there are none."""
        seconds = self.deadline - self.clock()
        if self.shut or seconds <= 0:
            raise DeadlinePassed
        return seconds

    def check_in_time(self) -> None:
        """Raise `DeadlinePassed` when the call is late, whatever it has got."""
        if self.is_late():
            raise DeadlinePassed

    def is_late(self) -> bool:
        """Whether the deadline passed: whatever came in afterwards does not count."""
        return self.shut or self.clock() >= self.deadline

    def hold(self, sock: socket.socket) -> None:
        """Name the socket the watchdog may shut.

        It may have come between two sockets: ask `remaining` after this, and not before.
        """
        self._socket = sock

    def cut_off(self) -> None:
        """End the call from outside: blocked reads and writes return at once."""
        self.shut = True
        if self._socket is not None:
            _shut(self._socket)


class Watchdog:
    """A thread that cuts off calls past their time; it sleeps while there are none."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._calls: set[Call] = set()
        self._busy = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="webhook-watchdog", daemon=True)
        self._thread.start()

    def add(self, call: Call) -> None:
        """Watch a call until `discard`. Raises `NotWatching` when nobody would."""
        self._calls.add(call)
        if self._closed.is_set() or not self._thread.is_alive():
            self._calls.discard(call)
            raise NotWatching(
                "the sender is closed, or was made before a fork: make one per process"
            )
        if not self._busy.is_set():
            self._busy.set()

    def discard(self, call: Call) -> None:
        """The call ended: its socket may go to another."""
        self._calls.discard(call)

    def close(self) -> None:
        """Take no further call, and stop once those under way have ended, by their deadline."""
        self._closed.set()
        self._busy.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._closed.is_set():
            self._busy.wait()
            while self._calls:
                time.sleep(TICK_SECONDS)
                self._cut_off_late_calls()
            self._busy.clear()
            # A call added, or a close, before the clear did not set the flag for good.
            if self._calls or self._closed.is_set():
                self._busy.set()

    def _cut_off_late_calls(self) -> None:
        now = self._clock()
        for call in list(self._calls):
            if call.shut_at <= now:
                self._calls.discard(call)
                call.cut_off()


class _Checked(HTTPConnection):
    """What both kinds of connection share."""

    response_class = FinalResponse
    call: Call
    idle_since: float

    def exchange(
        self, call: Call, *, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> HTTPResponse:
        """Send a request once and read the head of its answer, connecting if need be."""
        self.call = call
        if self.sock is None:
            self.timeout = call.remaining()
            self.connect()
        call.hold(self.sock)
        self.timeout = call.remaining()
        call.phase = Phase.SEND
        # A peer may answer and close before it has read everything: the answer still counts.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
            self.request(
                method,
                path,
                body=body,
                headers=headers,
                preload_content=False,
                decode_content=False,
                enforce_content_length=False,
            )
        self.timeout = call.remaining()
        call.phase = Phase.ANSWER
        return self.getresponse()

    def _new_conn(self) -> socket.socket:
        sock = _dial(self.call)
        self.call.hold(sock)
        self.call.phase = Phase.TLS  # plain HTTP goes on to SEND at once
        # The handshake takes this as the limit for all of it.
        sock.settimeout(self.call.remaining())
        return sock


class PlainConnection(_Checked):
    """http:// to a checked address."""


class TlsConnection(_Checked, HTTPSConnection):
    """https:// to a checked address, verified and named by the URL's host."""


Connection = PlainConnection | TlsConnection


def _dial(call: Call) -> socket.socket:
    """Resolve and connect: the addresses connected to are the ones that were checked."""
    call.phase = Phase.RESOLVE
    found = guard.resolve(
        call.target,
        policy=call.policy,
        resolver=call.resolver,
        deadline=call.deadline,
        clock=call.clock,
    )
    call.phase = Phase.CONNECT
    until = min(call.deadline, call.clock() + CONNECT_SECONDS)
    failure: OSError = DeadlinePassed()
    for tried, address in enumerate(found):
        share = (until - call.clock()) / (len(found) - tried)
        if share <= 0:
            break
        try:
            return _connect(address, call.target.port, share)
        except OSError as error:
            failure = error
    raise failure


def _connect(address: guard.Address, port: int, seconds: float) -> socket.socket:
    family = socket.AF_INET6 if isinstance(address, IPv6Address) else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(seconds)
        sock.connect((str(address), port))
    except BaseException:
        sock.close()
        raise
    return sock


def _shut(sock: socket.socket) -> None:
    # Not SSLSocket's own shutdown: it drops the TLS state under the thread that is reading.
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
