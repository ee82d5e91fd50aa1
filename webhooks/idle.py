"""Connections that are kept open for the next request to the same peer."""

import threading
from collections import OrderedDict, defaultdict
from typing import Final

from webhooks import guard
from webhooks.wire import Connection

IDLE_SECONDS: Final = 30.0
IDLE_MAX: Final = 256
"""Open connections kept between attempts, over all hosts."""


class Idle:
    """Open connections between attempts: newest first out, oldest closed when there are many."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_age: OrderedDict[Connection, _Key] = OrderedDict()
        self._by_host: defaultdict[_Key, list[Connection]] = defaultdict(list)
        self._closed = False

    def take(self, target: guard.Target, *, now: float) -> Connection | None:
        """A connection to this host that is still open, if there is one."""
        with self._lock:
            self._drop_old(now)
            while connections := self._by_host.get(key_of(target)):
                connection = connections[-1]
                self._remove(connection)
                # Readable between answers means closed, or speaking out of turn.
                if connection.is_connected:
                    return connection
                connection.close()
        return None

    def keep(self, target: guard.Target, connection: Connection, *, now: float) -> None:
        """Keep an open connection, or close it when this is closed."""
        with self._lock:
            if self._closed:
                connection.close()
                return
            connection.idle_since = now
            self._by_age[connection] = key_of(target)
            self._by_host[key_of(target)].append(connection)
            self._drop_old(now)

    def close(self) -> None:
        """Close every connection, and each that is handed in later."""
        with self._lock:
            self._closed = True
            while self._by_age:
                self._drop(next(iter(self._by_age)))

    def _drop_old(self, now: float) -> None:
        while self._by_age:
            oldest = next(iter(self._by_age))
            if len(self._by_age) <= IDLE_MAX and now - oldest.idle_since < IDLE_SECONDS:
                return
            self._drop(oldest)

    def _drop(self, connection: Connection) -> None:
        self._remove(connection)
        connection.close()

    def _remove(self, connection: Connection) -> None:
        key = self._by_age.pop(connection)
        self._by_host[key].remove(connection)
        if not self._by_host[key]:
            del self._by_host[key]


_Key = tuple[str, str, int]


def key_of(target: guard.Target) -> _Key:
    return target.scheme, target.host, target.port
