"""One call of somebody's HTTP API: checked addresses, one deadline, a whole answer or none.

>>> caller = Caller(policy=guard.Policy())        # one per process, made after any fork
>>> reply = caller.call("GET", "https://api.example.com/v1/invoices/in_1", headers={})
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from webhooks import diagnosis, guard
from webhooks.adapter import Post
from webhooks.connections import Connections
from webhooks.retry import Outcome

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


class Caller(Connections):
    """Calls an API. Make one per process, after any fork."""

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
        call = self._begin(target, started)
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

    def _spent(self, started: float) -> int:
        return round((self._clock() - started) * 1000)
