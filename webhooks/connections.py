"""What whoever speaks HTTP shares: guarded addresses, one deadline, open connections."""

import logging
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from webhooks import guard
from webhooks.adapter import Adapter
from webhooks.wire import Call, Watchdog

DEADLINE_SECONDS: Final = 15.0
DEADLINE_SECONDS_MAX: Final = 30.0


class Connections:
    """Makes calls and keeps connections open between them; usable from several threads.

    `ca_file` is a PEM file of trusted authorities instead of the public ones. Make one per
    process, after any fork: connections and threads do not survive it.
    """

    def __init__(
        self,
        *,
        policy: guard.Policy = guard.STRICT,
        deadline_seconds: float = DEADLINE_SECONDS,
        ca_file: str | None = None,
        resolver: guard.Resolver | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 0 < deadline_seconds <= DEADLINE_SECONDS_MAX:
            raise ValueError(f"deadline {deadline_seconds} s is not in (0, {DEADLINE_SECONDS_MAX}]")
        # It would log each malformed header a peer sends, with the URL, which may hold a token.
        logging.getLogger("urllib3").setLevel(logging.ERROR)
        self._policy = policy
        self._deadline_seconds = deadline_seconds
        self._resolver = resolver
        self._clock = clock
        self._watchdog = Watchdog(clock)
        self._adapter = Adapter(self._watchdog, ca_file=ca_file)

    def close(self) -> None:
        """Take no further call, wait for those under way, close the connections."""
        self._watchdog.close()
        self._adapter.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _begin(self, target: guard.Target, started: float) -> Call:
        """Return a call that has what is left of the deadline since `started`."""
        deadline = started + self._deadline_seconds
        return Call(target, self._policy, self._resolver, self._clock, started, deadline)
