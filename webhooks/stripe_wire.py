"""How Stripe's API is spoken: forms out, JSON in, amounts in its own minor units, its errors."""

import datetime as dt
import json
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any, Final

from webhooks import diagnosis, retry
from webhooks.caller import Caller, Reply
from webhooks.provider import Answer, Fault, Try, Verdict
from webhooks.retry import Outcome

VERSION: Final = "2024-10-28.acacia"
"""The version of the API that this is written for; the account's own does not matter."""

OURS: Final = {"ISK": 100, "UGX": 100}
"""Units of Stripe's in one of ISO 4217's, where it counts decimals that nobody uses any more."""

THEIRS: Final = {"MGA": 100}
"""Units of ISO 4217's in one of Stripe's, where it counts none."""

THREE_DECIMALS: Final = frozenset({"BHD", "JOD", "KWD", "OMR", "TND"})
"""Of these the last digit must be 0."""

BUSY: Final = frozenset({408, 409, 425, 429})
"""Said of a request that may succeed as it is, later; 409 while another has its key in hand."""

OUR_FAULT: Final = frozenset({401, 403})
"""The key is wrong: so it is for every invoice, and none of them is to blame."""

# Keys, also as Stripe quotes them: with stars.
_KEY = re.compile(r"\b(?:sk|rk|pk|ek|whsec)_[A-Za-z0-9_*]+")

Form = Mapping[str, Any]
Json = dict[str, Any]


class AmountRefused(ValueError):
    """An amount that Stripe can not hold in its minor units."""


def encode(form: Form) -> bytes:
    """Return a form as Stripe reads it: ``lines[0][amount]=5``; None is left out."""
    return urllib.parse.urlencode(list(_flat(form))).encode()


def to_remote(minor: int, currency: str) -> int:
    """Return an amount in Stripe's minor units.

    Raises:
        AmountRefused: it has decimals that Stripe does not count.
    """
    remote, rest = divmod(minor * OURS.get(currency, 1), THEIRS.get(currency, 1))
    rest = rest or (remote % 10 if currency in THREE_DECIMALS else 0)
    if rest:
        raise AmountRefused(
            f"{minor} minor units of {currency} can not be written in Stripe's, which end a digit "
            "or two earlier"
        )
    return remote


def from_remote(remote: int, currency: str) -> int:
    """Return an amount of Stripe's in minor units of ISO 4217."""
    return remote * THEIRS.get(currency, 1) // OURS.get(currency, 1)


class Wire:
    """Requests to one account. Its repr shows no key."""

    def __init__(self, caller: Caller, *, base_url: str, secret_key: str) -> None:
        self._caller = caller
        self._base = base_url.rstrip("/")
        self._secret_key = secret_key

    def get(self, path: str, query: Form | None = None) -> Reply:
        """Ask for something."""
        asked = f"?{encode(query).decode()}" if query else ""
        return self._caller.call("GET", f"{self._base}{path}{asked}", headers=self._headers())

    def post(self, path: str, form: Form, *, key: str) -> Reply:
        """Make or change something, once for each key."""
        headers = {
            **self._headers(),
            "content-type": "application/x-www-form-urlencoded",
            "Idempotency-Key": key,
        }
        return self._caller.call("POST", f"{self._base}{path}", headers=headers, body=encode(form))

    def close(self) -> None:
        """Close the connections."""
        self._caller.close()

    def fault(self, reply: Reply, one: Try) -> Answer:
        """Return what became of a try whose last reply was no success."""
        if reply.status is None:
            blocked = reply.outcome is Outcome.ADDRESS_REFUSED
            return Answer(
                Verdict.blocked if blocked else Verdict.later,
                None,
                reply.latency_ms,
                Fault(f"provider.{reply.outcome}", self._safe(reply.error or "no answer")),
                unwell=True,
            )
        status, said = reply.status, self._said(reply)
        if 200 <= status <= 299:
            fault = Fault("provider.protocol_error", "its answer was cut off or is no JSON object")
            return Answer(Verdict.later, status, reply.latency_ms, fault, unwell=True)
        # A redirection or an interim status is not the API's; its own errors are 4xx.
        is_unwell = status in OUR_FAULT or status == 429 or not 400 <= status <= 499
        passes = is_unwell or status in BUSY
        return Answer(
            Verdict.later if passes else Verdict.refused,
            status,
            reply.latency_ms,
            said,
            retry_after=retry.parse_retry_after(reply.retry_after, now=one.now),
            unwell=is_unwell,
        )

    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self._secret_key}", "Stripe-Version": VERSION}

    def _said(self, reply: Reply) -> Fault:
        """Stripe's own words for an error: its code, and the sentence that comes with it."""
        error = (read(reply) or {}).get("error")
        said = error if isinstance(error, dict) else {}
        code = said.get("code") or said.get("type") or f"status_{reply.status}"
        parts = [f"answered with status {reply.status}", said.get("message"), said.get("param")]
        reason = ": ".join(part for part in parts if isinstance(part, str) and part)
        return Fault(self._safe(f"provider.{code}")[:100], self._safe(reason))

    def _safe(self, text: str) -> str:
        hidden = _KEY.sub("***", text.replace(self._secret_key, "***"))
        return diagnosis.one_line(hidden)


def read(reply: Reply) -> Json | None:
    """Return the JSON object of a reply; None if it is none, or was cut off."""
    try:
        value = json.loads(reply.body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def unix(at: dt.datetime) -> int:
    """Return an instant in whole unix seconds."""
    return int(at.timestamp())


def _flat(value: Any, name: str = "") -> Sequence[tuple[str, str]]:
    if value is None:
        return []
    if isinstance(value, bool):
        return [(name, "true" if value else "false")]
    if isinstance(value, Mapping):
        members = value.items()
    elif isinstance(value, list | tuple):
        members = dict(enumerate(value)).items()
    else:
        return [(name, str(value))]
    return [
        pair
        for key, member in members
        for pair in _flat(member, f"{name}[{key}]" if name else str(key))
    ]
