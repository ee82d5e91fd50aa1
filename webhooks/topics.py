"""Which events an endpoint asked for: exact types, prefixes, or all.

models/store/relay.py says `matches` again in SQL; a test keeps them equal.
"""

import difflib
from typing import Final

from webhooks import events

ALL: Final = "*"
CHILDREN: Final = ".*"
COMMON: Final = "billing."


class UnknownTopic(ValueError):
    """A pattern that no event of the catalogue matches."""


def matches(pattern: str, topic: str) -> bool:
    """Whether `pattern` asks for `topic`.

    "*" asks for everything, "billing.*" for what is below "billing." however deep (not for
    "billing" itself, nor for "billingx.y"), anything else for exactly that type.
    """
    if pattern in (ALL, topic):
        return True
    return pattern.endswith(CHILDREN) and topic.startswith(pattern.removesuffix("*"))


def asking_for(topic: str) -> list[str]:
    """Return every pattern that asks for `topic`."""
    parts = topic.split(".")
    prefixes = [".".join(parts[:count]) + CHILDREN for count in range(1, len(parts))]
    return [ALL, topic, *prefixes]


def check(pattern: str) -> None:
    """Raise `UnknownTopic` unless some event of the catalogue matches `pattern`."""
    if not any(matches(pattern, topic) for topic in events.CATALOGUE):
        raise UnknownTopic(
            f"no event is called {pattern[:80]!r}; {_hint(pattern)}`billing schema list` names "
            'all; "*" is every one, "billing.invoice.*" all that begin so'
        )


def _hint(pattern: str) -> str:
    # What all of them begin with makes none of them alike.
    ends = {topic.removeprefix(COMMON): topic for topic in events.CATALOGUE}
    near = difflib.get_close_matches(pattern.removeprefix(COMMON), ends, n=1)
    return f"did you mean {ends[near[0]]!r}? " if near else ""
