"""What the operator decided, handed in by the process at its start."""

import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path

from models.rules.trial import Peppers
from webhooks.guard import Policy
from webhooks.keyring import Keyring


@dataclass(frozen=True, slots=True)
class Retention:
    """How usage leaves the database.

    Args:
        after: how long ago a month must have ended.
        folder: where files are written; it must be there, and outlive the database.
        keys_remembered: how long the keys of purged events are kept, so that an event which is sent
            again is told from a new one.
        even_uninvoiced: whether usage may leave that no final invoice charged for.
    """

    after: dt.timedelta
    folder: Path
    keys_remembered: dt.timedelta = dt.timedelta(days=400)
    even_uninvoiced: bool = False


@dataclass(frozen=True, slots=True)
class WebhookRetention:
    """How long what was told is kept; what is still owed is kept however old it is.

    Args:
        attempts: each HTTP try.
        events: an event with its body and deliveries, from when it happened.
        dead: a delivery that spent its attempts, from when it died; at least 30 days.
    """

    attempts: dt.timedelta = dt.timedelta(days=30)
    events: dt.timedelta = dt.timedelta(days=90)
    dead: dt.timedelta = dt.timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Provider:
    """Who is told of numbered invoices. Its repr shows no key.

    Args:
        name: which API it has; "stripe".
        secret_key: opens the account.
        base_url: where its API is.
        collects: whether it may charge customers for what is final there.
        timeout: deadline of one request, 1 to 30 s.
    """

    name: str
    secret_key: str = field(repr=False)
    base_url: str
    collects: bool = False
    timeout: dt.timedelta = dt.timedelta(seconds=15)


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
        retention: how usage leaves the database; None for never.
        paper_font: a TrueType font with letters that those of PDFs lack; None for none.
        webhook_retention: how long events, deliveries and attempts are kept.
        provider: who is told of numbered invoices; None for nobody.
        trial_peppers: what identities that had a trial are hashed with; without them there are no
            trials.
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
    retention: Retention | None = None
    webhook_retention: WebhookRetention = field(default_factory=WebhookRetention)
    kick: bool = True
    paper_font: Path | None = None
    provider: Provider | None = None
    trial_peppers: Peppers | None = None


_current = Config()


def use(config: Config) -> None:
    """Make `config` what this process's tasks obey."""
    global _current  # noqa: PLW0603 (the process has one configuration)
    _current = config


def current() -> Config:
    """Return what this process's tasks obey."""
    return _current
