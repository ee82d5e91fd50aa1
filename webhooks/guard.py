"""Where a webhook may go: the URL's shape, the name's lookup, and every address behind it.

A tenant chooses the URL and we stand inside the network, so a URL is guilty until shown to lead
outside. It is checked when an endpoint is created, when it is changed and at every connect; the
address that was checked is the address that is connected to.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from itertools import chain, zip_longest
from typing import Final

from webhooks import addresses, lookup, urls
from webhooks.addresses import Address
from webhooks.lookup import NameNotResolved, Resolver
from webhooks.ourselves import OwnServerRefused, leads_to_us
from webhooks.policy import STRICT, InvalidPolicy, Policy
from webhooks.urls import UrlRefused

__all__ = [
    "STRICT",
    "Address",
    "AddressRefused",
    "InvalidPolicy",
    "NameNotResolved",
    "OwnServerRefused",
    "Policy",
    "Resolver",
    "Target",
    "UrlRefused",
    "check_url",
    "resolve",
]

ADDRESSES_MAX: Final = 4
_INNER_NAMES: Final = (
    ".localhost",
    ".local",
    ".localdomain",
    ".internal",
    ".intranet",
    ".home.arpa",
)


class AddressRefused(UrlRefused):
    """A URL that leads to an address no webhook is sent to."""

    def __init__(self, host: str, address: Address | None, reason: str) -> None:
        self.host, self.address, self.reason = host, address, reason
        where = "" if address is None or str(address) == host else f" leads to {address}, which"
        super().__init__(
            f"{host}{where} is not a public address: {reason}; only an operator may allow it"
        )


@dataclass(frozen=True, slots=True)
class Target:
    """A checked URL, taken apart. `host` is ASCII, lower case, without brackets or last dot."""

    scheme: str
    host: str
    port: int
    path: str
    """Path and query as sent in the request line; begins with a slash."""
    address: Address | None = None
    """Set when the host is an address."""

    @property
    def authority(self) -> str:
        """The Host header: brackets for IPv6, the port when it is not the scheme's own."""
        host = f"[{self.host}]" if isinstance(self.address, IPv6Address) else self.host
        return host if self.port == urls.DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL in its one normal spelling."""
        return f"{self.scheme}://{self.authority}{self.path}"


def check_url(url: str, *, policy: Policy = STRICT) -> Target:
    """Take apart a URL that a webhook may be sent to; no lookup is made.

    Raises `UrlRefused` for what is not ``https://host/path`` of at most 2,048 characters (no
    user, no fragment, no odd spelling of an address), `AddressRefused` for an address or a name
    that is known to be inside, `OwnServerRefused` for a server of ours.
    """
    scheme, host, port, path = urls.split(url)
    if scheme == "http" and not policy.allow_http:
        raise UrlRefused("the URL's scheme is 'http'; only https is taken")
    target = Target(scheme, host, port, path, _literal(host))
    if host in policy.own_hosts(port):
        raise OwnServerRefused(host, port)
    _check_port(target, policy)
    _check_inside(target, policy)
    return target


def resolve(
    target: Target,
    *,
    policy: Policy = STRICT,
    resolver: Resolver | None = None,
    deadline: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[Address, ...]:
    """Look the host up once: 1 to 4 addresses, each of them checked, both families among them.

    Takes 3 s at most, or until `deadline` on `clock` when that is sooner. Raises `AddressRefused`
    when *any* answer is denied, so that a name can not lead us inside on one try in two,
    `OwnServerRefused` when one is a server of ours, and `NameNotResolved` when there is no answer.
    """
    if target.address is not None:
        found: Sequence[Address] = (target.address,)
    else:
        seconds = lookup.LOOKUP_SECONDS if deadline is None else deadline - clock()
        found = lookup.look_up(
            resolver or lookup.system_resolver,
            _query_name(target, policy),
            target.port,
            seconds=min(seconds, lookup.LOOKUP_SECONDS),
        )
    for address in found:
        _check_address(target, address, policy)
    # Only an address on the very port of a server of ours makes anybody look further.
    if leads_to_us(policy.own_hosts(target.port), found, port=target.port):
        raise OwnServerRefused(target.host, target.port)
    return _both_families(found)[:ADDRESSES_MAX]


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _check_port(target: Target, policy: Policy) -> None:
    trusted = policy.allows_host(target.host, target.port) or (
        target.address is not None and policy.allows_address(target.address)
    )
    if target.port != urls.DEFAULT_PORTS[target.scheme] and not policy.any_port and not trusted:
        raise UrlRefused(
            f"port {target.port} is not taken; {target.scheme} goes to port "
            f"{urls.DEFAULT_PORTS[target.scheme]}"
        )


def _query_name(target: Target, policy: Policy) -> str:
    """The name to ask for: with a last dot, which keeps resolv.conf's search list out.

    Else "api.team" might be answered as "api.team.svc.cluster.local". A host the operator named
    may well be such a short name, and is asked for as it is.
    """
    plain = "." not in target.host or policy.allows_host(target.host, target.port)
    return target.host if plain else f"{target.host}."


def _check_inside(target: Target, policy: Policy) -> None:
    if target.address is not None:
        _check_address(target, target.address, policy)
        return
    # Where networks are trusted, only the lookup can tell whether the name leads into one.
    if policy.allows_host(target.host, target.port) or policy.trusts_networks:
        return
    if "." not in target.host or f".{target.host}".endswith(_INNER_NAMES):
        raise AddressRefused(target.host, None, "a name of inner networks")


def _check_address(target: Target, address: Address, policy: Policy) -> None:
    reason = addresses.deny_reason(address)
    if reason is None or policy.allows_address(address):
        return
    if not policy.allows_host(target.host, target.port):
        raise AddressRefused(target.host, address, reason)


def _both_families(found: Sequence[Address]) -> tuple[Address, ...]:
    """The same order of preference, the families by turns: a dead IPv6 route must not use all."""
    first = [ip for ip in found if ip.version == found[0].version]
    other = [ip for ip in found if ip.version != found[0].version]
    by_turns = chain.from_iterable(zip_longest(first, other))
    return tuple(ip for ip in by_turns if ip is not None)
