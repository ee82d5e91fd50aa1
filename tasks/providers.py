"""This process's provider of invoices, with its open connections."""

import os
import threading

from tasks import config
from webhooks.caller import Caller
from webhooks.provider import Provider
from webhooks.stripe_invoices import StripeInvoices

_provider: Provider | None = None
_provider_of: tuple[int, config.Config] | None = None
_lock = threading.Lock()


def current() -> Provider | None:
    """Return who is told of invoices; None for nobody. Never one from before a fork."""
    global _provider, _provider_of
    wanted = (os.getpid(), config.current())
    with _lock:
        if _provider_of != wanted:
            _close()
            _provider, _provider_of = _made(wanted[1]), wanted
        return _provider


def close() -> None:
    """Close this process's connections to the provider. The next run opens new ones."""
    with _lock:
        _close()


def _close() -> None:
    global _provider, _provider_of  # noqa: PLW0603 (one provider a process)
    # One inherited through a fork belongs to the parent: forget it, do not close it.
    if _provider is not None and _provider_of is not None and _provider_of[0] == os.getpid():
        _provider.close()
    _provider = _provider_of = None


def _made(chosen: config.Config) -> Provider | None:
    told = chosen.provider
    if told is None:
        return None
    caller = Caller(policy=chosen.address_policy, deadline_seconds=told.timeout.total_seconds())
    # The settings know no other name.
    return StripeInvoices(
        caller, secret_key=told.secret_key, base_url=told.base_url, collects=told.collects
    )
