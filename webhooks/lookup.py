"""Name lookups that end: on threads of their own, at most 3 s long, a bounded number at once."""

import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_address
from typing import Final

from webhooks.addresses import Address

LOOKUP_SECONDS: Final = 3.0
LOOKUPS_AT_ONCE: Final = 64
"""getaddrinfo can not be interrupted: threads stuck in it are bounded, further lookups fail."""

Resolver = Callable[[str, int], Iterable[str]]
"""Name and port to the texts of its addresses; raises OSError when there are none."""


class NameNotResolved(OSError):
    """A host name without an answer: unknown, broken, or not answered in time."""


def look_up(
    resolver: Resolver, host: str, port: int, *, seconds: float = LOOKUP_SECONDS
) -> Sequence[Address]:
    """Every address of `host`, at least one, in the resolver's order.

    Waits `seconds` at most, also for its turn. Raises `NameNotResolved`.
    """
    until = time.monotonic() + seconds
    if not _turns.acquire(timeout=max(seconds, 0)):
        raise NameNotResolved(f"{host}: too many lookups are waiting for an answer")
    lookup = _Lookup(resolver, host, port)
    try:
        lookup.start()
    except RuntimeError as error:  # the machine has no thread left
        _turns.release()
        raise NameNotResolved(f"{host}: {error}") from error
    lookup.join(max(until - time.monotonic(), 0))
    return lookup.answer()


def system_resolver(host: str, port: int) -> Iterable[str]:
    """The machine's own resolver."""
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [str(sockaddr[0]) for *_, sockaddr in answers]


_turns = threading.BoundedSemaphore(LOOKUPS_AT_ONCE)


class _Lookup(threading.Thread):
    """One lookup on a thread of its own: the caller can stop waiting, the lookup can not stop."""

    def __init__(self, resolver: Resolver, host: str, port: int) -> None:
        super().__init__(name="webhook-lookup", daemon=True)
        self._resolver, self._host, self._port = resolver, host, port
        self._found: list[Address] | None = None
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            texts = dict.fromkeys(self._resolver(self._host, self._port))
            self._found = [ip_address(text) for text in texts]
        except (OSError, ValueError) as error:  # gaierror; names the codec refuses
            self._error = error
        finally:
            _turns.release()

    def answer(self) -> Sequence[Address]:
        if self._error is not None:
            raise NameNotResolved(f"{self._host} has no address: {self._error}")
        if self._found is None:
            raise NameNotResolved(f"{self._host}: no answer in time from the name servers")
        if not self._found:
            raise NameNotResolved(f"{self._host} has no address")
        return self._found
