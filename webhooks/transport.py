"""One HTTP attempt: a signed POST, and what became of it. Nothing a peer does escapes as an error.

>>> sender = Sender(policy=guard.Policy())        # one per process, made after any fork
>>> attempt = sender.send(request)                # from any thread
>>> attempt.outcome is Outcome.DELIVERED
"""

import functools
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import requests

from webhooks import diagnosis, guard, retry, signing, signing_keys
from webhooks.adapter import Post
from webhooks.connections import DEADLINE_SECONDS, Connections
from webhooks.headers import TRACE_HEADERS, HeaderRefused, check_headers
from webhooks.retry import Outcome
from webhooks.wire import Call

__all__ = [
    "Attempt",
    "HeaderRefused",
    "Outcome",
    "Request",
    "Sender",
    "check_headers",
    "send",
]

USER_AGENT: Final = "billing-webhooks/1"

_OWNER_ERRORS: Final = (HeaderRefused, signing_keys.InvalidSecret, signing.NothingToSignWith)

_TOPIC = re.compile(r"[!-~]{1,200}")


@dataclass(frozen=True, slots=True)
class Request:
    """One attempt to be made. Its repr shows neither secrets nor contents.

    Raises ValueError for a topic that is not 1 to 200 visible ASCII characters.
    """

    url: str
    message_id: str
    topic: str
    attempt_number: int
    """1 is the first."""
    payload_version: int | str
    timestamp: int
    """The time of this attempt in whole unix seconds; it is signed."""
    body: bytes = field(repr=False)
    """The bytes that are signed and sent, as they are."""
    secrets: Sequence[str] = field(repr=False)
    """The endpoint's live ``whsec_`` and ``whsk_`` keys."""
    custom_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    traceparent: str | None = None
    """The span that this attempt is, for a subscriber that goes on with the trace."""

    def __post_init__(self) -> None:
        if not _TOPIC.fullmatch(self.topic):
            raise ValueError(f"topic {self.topic[:64]!r} is not 1 to 200 visible ASCII characters")


@dataclass(frozen=True, slots=True)
class Attempt:
    """How one attempt ended."""

    outcome: Outcome
    status: int | None
    """The final status code, when a complete head arrived in time."""
    latency_ms: int
    """Until the head was complete, or until the attempt failed."""
    response_excerpt: str
    """The beginning of the body as printable text, at most 16 KiB of UTF-8."""
    retry_after: timedelta | None
    error: str | None
    """What went wrong, for the endpoint's owner: no secret, no content of ours."""


class Sender(Connections):
    """Sends attempts. Make one per process, after any fork."""

    def send(self, request: Request) -> Attempt:
        """Make one attempt. Returns within the deadline, at the latest a tenth of a second after.

        Raises nothing for what a peer does, nor for an endpoint whose URL, secrets or headers
        can not be used: all of that is an outcome. Raises `wire.NotWatching`, a mistake of the
        caller's, on a sender that is closed or was made before a fork.
        """
        started = self._clock()
        try:
            headers = _headers(request)
            target = _checked(request.url, self._policy)
        except _OWNER_ERRORS as error:
            return _unsent(Outcome.MISCONFIGURED, error)
        except guard.UrlRefused as error:
            return _unsent(Outcome.ADDRESS_REFUSED, error)
        headers["host"] = target.authority
        call = self._begin(target, started)
        try:
            response = self._adapter.send(Post(call, headers, request.body))
        except diagnosis.PEER_ERRORS as error:
            return _failed(error, call)
        return _answered(response, request)


def send(
    request: Request,
    *,
    policy: guard.Policy = guard.STRICT,
    deadline_seconds: float = DEADLINE_SECONDS,
    ca_file: str | None = None,
    resolver: guard.Resolver | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Attempt:
    """Make one attempt on a connection of its own; see `Sender.send`."""
    with Sender(
        policy=policy,
        deadline_seconds=deadline_seconds,
        ca_file=ca_file,
        resolver=resolver,
        clock=clock,
    ) as sender:
        return sender.send(request)


@functools.lru_cache(maxsize=4096)
def _checked(url: str, policy: guard.Policy) -> guard.Target:
    # The same few URLs come again and again; what is cached is their shape, never a lookup.
    return guard.check_url(url, policy=policy)


def _headers(request: Request) -> dict[str, str]:
    custom = {
        name: value
        for name, value in request.custom_headers.items()
        if name.lower() not in TRACE_HEADERS
    }
    check_headers(custom)
    traced = {} if request.traceparent is None else {"traceparent": request.traceparent}
    return (
        custom
        | traced
        | {
            "accept-encoding": "identity",
            "user-agent": USER_AGENT,
            "content-type": "application/json",
            "content-length": str(len(request.body)),
            signing.ID_HEADER: request.message_id,
            signing.TIMESTAMP_HEADER: str(request.timestamp),
            signing.SIGNATURE_HEADER: signing.sign(
                secrets=request.secrets,
                message_id=request.message_id,
                timestamp=request.timestamp,
                body=request.body,
            ),
            "X-Event-Id": request.message_id,
            "X-Topic": request.topic,
            "X-Attempt": str(request.attempt_number),
            "X-Payload-Version": str(request.payload_version),
        }
    )


def _answered(response: requests.Response, request: Request) -> Attempt:
    status = response.status_code
    outcome = retry.classify(status)
    retry_after = retry.parse_retry_after(
        response.headers.get("retry-after"), now=datetime.fromtimestamp(request.timestamp, UTC)
    )
    return Attempt(
        outcome=outcome,
        status=status,
        latency_ms=_milliseconds(response.elapsed.total_seconds()),
        response_excerpt=diagnosis.printable(response.content),
        retry_after=retry_after,
        error=None if outcome is Outcome.DELIVERED else f"answered with status {status}",
    )


def _failed(error: Exception, call: Call) -> Attempt:
    outcome, reason = diagnosis.diagnose(error, call)
    return Attempt(
        outcome=outcome,
        status=None,
        latency_ms=_milliseconds(call.clock() - call.started),
        response_excerpt="",
        retry_after=None,
        error=diagnosis.one_line(reason),
    )


def _unsent(outcome: Outcome, error: Exception) -> Attempt:
    return Attempt(outcome, None, 0, "", None, diagnosis.one_line(str(error)))


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
