"""Placeholder until the guard lands on this branch."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Policy:
    """Which addresses webhooks may be sent to."""

    allow_http: bool = False
    allowed_private_hosts: frozenset[str] = frozenset()
