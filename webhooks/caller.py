"""One call of somebody's HTTP API: checked addresses, one deadline, a whole answer or none.

>>> caller = Caller(policy=guard.Policy())        # one per process, made after any fork
>>> reply = caller.call("GET", "https://api.example.com/v1/invoices/in_1", headers={})
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from webhooks import diagnosis, guard
from webhooks.adapter import Adapter, Post
from webhooks.retry import Outcome
from webhooks.wire import Call, Watchdog

DEADLINE_SECONDS_MAX: Final = 30.0
ANSWER_BYTES: Final = 1 << 20
"""The most that is read of an answer: an invoice of 250 lines is a quarter of that."""
USER_AGENT: Final = "billing-sync/1"


@dataclass(frozen=True, slots=True)
class Reply:
    """How a call ended. `status` is None unless a complete head arrived in time.

    Args:
        error: what went wrong on the way; None if an answer came, whatever it says.
        retry_after: the header, as it came.
    """

    outcome: Outcome
    status: int | None
    latency_ms: int
    body: bytes = field(repr=False, default=b"")
    retry_after: str | None = None
    error: str | None = None


class Caller:
    """Calls an API and keeps connections open between calls; usable from several threads.

    `ca_file` is a PEM file of trusted authorities instead of the public ones. Make one per
    process, after any fork: connections and threads do not survive it.
    """

    def __init__(
        self,
        *,
        policy: guard.Policy = guard.STRICT,
        deadline_seconds: float = DEADLINE_SECONDS_MAX,
        ca_file: str | None = None,
        resolver: guard.Resolver | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 0 < deadline_seconds <= DEADLINE_SECONDS_MAX:
            raise ValueError(f"deadline {deadline_seconds} s is not in (0, {DEADLINE_SECONDS_MAX}]")
        # It would log each malformed header a peer sends, with the URL.
        logging.getLogger("urllib3").setLevel(logging.ERROR)
        self._policy = policy
        self._deadline_seconds = deadline_seconds
        self._resolver = resolver
        self._clock = clock
        self._watchdog = Watchdog(clock)
        self._adapter = Adapter(self._watchdog, ca_file=ca_file)

    def call(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes = b""
    ) -> Reply:
        """Make one call, head and body within the deadline. Nothing a peer does is raised.

        Raises:
            NotWatching: it is closed, or was made before a fork.
        """
        started = self._clock()
        try:
            target = guard.check_url(url, policy=self._policy)
        except guard.UrlRefused as error:
            reason = diagnosis.one_line(str(error))
            return Reply(Outcome.ADDRESS_REFUSED, None, 0, error=reason)
        sent = {
            "accept-encoding": "identity",
            "user-agent": USER_AGENT,
            **headers,
            "content-length": str(len(body)),
            "host": target.authority,
        }
        deadline = started + self._deadline_seconds
        call = Call(target, self._policy, self._resolver, self._clock, started, deadline)
        post = Post(
            call,
            sent,
            body,
            method=method,
            most_bytes=ANSWER_BYTES,
            body_seconds=self._deadline_seconds,
        )
        try:
            response = self._adapter.send(post)
        except diagnosis.PEER_ERRORS as error:
            outcome, reason = diagnosis.diagnose(error, call)
            return Reply(outcome, None, self._spent(started), error=diagnosis.one_line(reason))
        is_success = 200 <= response.status_code <= 299
        return Reply(
            outcome=Outcome.DELIVERED if is_success else Outcome.HTTP_ERROR,
            status=response.status_code,
            latency_ms=self._spent(started),
            body=response.content or b"",
            retry_after=response.headers.get("retry-after"),
        )

    def close(self) -> None:
        """Take no further call, wait for those under way, close the connections."""
        self._watchdog.close()
        self._adapter.close()

    def _spent(self, started: float) -> int:
        return round((self._clock() - started) * 1000)
