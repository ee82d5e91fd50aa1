"""Our own servers: a webhook to our database, broker or Flower would be us attacking ourselves."""

from collections.abc import Iterable, Sequence
from ipaddress import ip_address

from webhooks import addresses, lookup
from webhooks.addresses import Address
from webhooks.lookup import NameNotResolved, Resolver
from webhooks.urls import UrlRefused

LOOKUP_SECONDS = 1.0
"""For the name of one of our own servers, which is near."""


class OwnServerRefused(UrlRefused):
    """A URL that leads to one of our own servers."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"{host}:{port} is one of our own servers; no webhook is sent there")


def leads_to_us(
    own_hosts: Iterable[str],
    found: Sequence[Address],
    *,
    port: int,
    resolver: Resolver = lookup.system_resolver,
) -> bool:
    """Whether one of these addresses is that of a server of ours.

    A server on loopback is met at every loopback address. The name of one is looked up, at most
    1 s; if there is no answer, every address of an inner network is taken for it.

    Args:
        own_hosts: names and addresses of our servers on this port.
    """
    return any(_is_at(host, found, port, resolver) for host in own_hosts)


def _is_at(host: str, found: Sequence[Address], port: int, resolver: Resolver) -> bool:
    try:
        ours: Sequence[Address] = (ip_address(host),)
    except ValueError:
        try:
            ours = lookup.look_up(resolver, host, port, seconds=LOOKUP_SECONDS)
        except NameNotResolved:
            return any(addresses.deny_reason(address) is not None for address in found)
    loopback = any(address.is_loopback for address in ours)
    return any(address in ours or (loopback and address.is_loopback) for address in found)
