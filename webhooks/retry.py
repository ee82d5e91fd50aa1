"""When a delivery is tried again: pure policy, numbers and names without a clock or a network."""

import email.utils
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum, unique
from typing import Final, assert_never

SCHEDULE: Final = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=14),
    timedelta(hours=20),
    timedelta(hours=24),
)
"""Wait after the first, second, … failed attempt: 75 h 35 min in all, then the delivery is dead."""

MAX_ATTEMPTS: Final = len(SCHEDULE) + 1
JITTER: Final = 0.2
"""Waits are stretched by up to this part, never shortened, so that a herd comes back spread out."""
RETRY_AFTER_MAX: Final = timedelta(hours=24)
LOOK_AGAIN_AFTER: Final = timedelta(hours=1)
"""How often a refused address is looked at again: its owner may have mended the name."""

_SECONDS = re.compile(r"[0-9]{1,4000}")
# The three date forms of RFC 9110, 5.6.7: what `email.utils` reads besides is not an HTTP date.
_HTTP_DATE = re.compile(
    r"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT"
    r"|[A-Z][a-z]{5,8}, [0-9]{2}-[A-Z][a-z]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT"
    r"|[A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2} [0-9]{4}"
)


@unique
class Outcome(StrEnum):
    """How one HTTP attempt ended."""

    DELIVERED = "delivered"
    """A complete 2xx head arrived in time."""
    HTTP_ERROR = "http_error"
    """A complete head with another status arrived in time."""
    GONE = "gone"
    """410: the receiver asks never to be called again."""
    TIMEOUT = "timeout"
    """No complete head within the deadline."""
    CONNECTION_ERROR = "connection_error"
    """Refused, reset, unreachable, or closed before a complete head."""
    TLS_ERROR = "tls_error"
    """The handshake failed: certificate, host name or protocol version."""
    DNS_ERROR = "dns_error"
    """The name has no address, or no answer came within the limit."""
    PROTOCOL_ERROR = "protocol_error"
    """What came back is not HTTP/1.1 within our limits."""
    ADDRESS_REFUSED = "address_refused"
    """The guard forbids the URL or an address behind it; nothing was sent."""
    MISCONFIGURED = "misconfigured"
    """The endpoint's own secrets or headers can not be sent; nothing was sent."""

    @classmethod
    def failures(cls) -> frozenset["Outcome"]:
        """Outcomes that say the endpoint is unwell: they count for its circuit and disable rule."""
        return frozenset(cls) - {cls.DELIVERED} - cls.unsent()

    @classmethod
    def unsent(cls) -> frozenset["Outcome"]:
        """Outcomes that spend no attempt: nothing left this machine."""
        return frozenset({cls.ADDRESS_REFUSED, cls.MISCONFIGURED})


@dataclass(frozen=True, slots=True)
class Success:
    """Delivered; nothing more to do."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again after `delay`; hold the *whole endpoint* for `hold`, if the receiver asked."""

    delay: timedelta
    hold: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Disable:
    """Disable the endpoint; its deliveries are held and can be replayed."""


@dataclass(frozen=True, slots=True)
class Dead:
    """The attempts are spent; an operator decides. `hold` is for the endpoint's other rows."""

    hold: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Blocked:
    """Not sendable as the endpoint is; look again after `look_again`, spending no attempt."""

    look_again: timedelta = LOOK_AGAIN_AFTER


Decision = Success | Retry | Disable | Dead | Blocked


def classify(status: int) -> Outcome:
    """The outcome of a complete answer with this status code."""
    if 200 <= status <= 299:
        return Outcome.DELIVERED
    return Outcome.GONE if status == 410 else Outcome.HTTP_ERROR


def decide(
    outcome: Outcome, *, attempt_number: int, retry_after: timedelta | None, random: float
) -> Decision:
    """What becomes of a delivery after its attempt `attempt_number` (1 is the first).

    `retry_after` is the receiver's wish as `parse_retry_after` read it; `random` in [0, 1) is
    drawn by the caller.
    """
    match outcome:
        case Outcome.DELIVERED:
            return Success()
        case Outcome.GONE:
            return Disable()
        case Outcome.ADDRESS_REFUSED | Outcome.MISCONFIGURED:
            return Blocked()
        case (
            Outcome.HTTP_ERROR
            | Outcome.TIMEOUT
            | Outcome.CONNECTION_ERROR
            | Outcome.TLS_ERROR
            | Outcome.DNS_ERROR
            | Outcome.PROTOCOL_ERROR
        ):
            hold = None if retry_after is None else min(retry_after, RETRY_AFTER_MAX)
            delay = next_delay(attempt_number, retry_after=hold, random=random)
            return Dead(hold) if delay is None else Retry(delay, hold)
        case never:
            assert_never(never)


def next_delay(
    attempt_number: int, *, retry_after: timedelta | None, random: float
) -> timedelta | None:
    """Wait after failed attempt `attempt_number`, or None when there is no further attempt.

    max(step, Retry-After up to 24 h) stretched by 1.0 to 1.2. Raises ValueError when
    `attempt_number` is below 1 or `random` outside [0, 1).
    """
    if attempt_number < 1:
        raise ValueError(f"attempt number {attempt_number} is not 1 or more")
    if not 0 <= random < 1:
        raise ValueError(f"random {random} is not in [0, 1)")
    if attempt_number >= MAX_ATTEMPTS:
        return None
    step = SCHEDULE[attempt_number - 1]
    if retry_after is not None:
        step = max(step, min(retry_after, RETRY_AFTER_MAX))
    return step * (1 + JITTER * random)


def parse_retry_after(value: str | None, *, now: datetime) -> timedelta | None:
    """Read a ``Retry-After`` header: whole seconds or an HTTP date, at most 24 h; else None.

    A repeated header arrives joined by a comma and is neither, so it is ignored: the field is
    defined once (RFC 9110, 10.2.3), and of two answers we can not tell the receiver's own.
    Zero, the past and junk are None: the schedule's own step holds.
    """
    text = "" if value is None else value.strip(" \t")
    if _SECONDS.fullmatch(text):
        # More than five digits are past the cap however they go on.
        wait = RETRY_AFTER_MAX if len(text.lstrip("0")) > 5 else timedelta(seconds=int(text))
    elif _HTTP_DATE.fullmatch(text):
        wait = _until(text, now)
    else:
        return None
    return min(wait, RETRY_AFTER_MAX) if wait > timedelta(0) else None


def _until(text: str, now: datetime) -> timedelta:
    try:
        at = email.utils.parsedate_to_datetime(text)
        # The asctime form names no zone; HTTP dates are UTC in every form.
        return (at if at.tzinfo else at.replace(tzinfo=UTC)) - now
    except ValueError:
        return timedelta(0)
