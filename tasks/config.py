"""What the operator decided, handed in by the process at its start."""

import datetime as dt
from dataclasses import dataclass, field

from webhooks.guard import Policy
from webhooks.keyring import Keyring


@dataclass(frozen=True, slots=True)
class Config:
    """Settings the tasks obey.

    Args:
        furthest_future: how far ahead of our clock a usage event may be.
        invoice_grace: how long after its period's end an invoice stays a draft.
        allocate_ahead: how long before a period begins its credit is granted, valid from then on.
        address_policy: which addresses webhooks may be sent to.
        keyring: master keys that seal endpoint secrets; without one no endpoint can be created and
            deliveries wait.
        send_timeout: deadline of one webhook attempt, 1 to 30 s.
        stream_url: the Redis whose stream of usage events is drained; None for none.
        kick: whether a commit that wrote events rings the sender at once, or leaves it to beat.
    """

    furthest_future: dt.timedelta = dt.timedelta(hours=1)
    invoice_grace: dt.timedelta = dt.timedelta(hours=24)
    allocate_ahead: dt.timedelta = dt.timedelta(hours=1)
    address_policy: Policy = field(default_factory=Policy)
    keyring: Keyring | None = None
    send_timeout: dt.timedelta = dt.timedelta(seconds=15)
    # It may hold a password.
    stream_url: str | None = field(default=None, repr=False)
    kick: bool = True


_current = Config()


def use(config: Config) -> None:
    """Make `config` what this process's tasks obey."""
    global _current  # noqa: PLW0603 (the process has one configuration)
    _current = config


def current() -> Config:
    """Return what this process's tasks obey."""
    return _current
