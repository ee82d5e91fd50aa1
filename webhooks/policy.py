"""What an operator allows webhooks beyond https to public addresses."""

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

from webhooks import urls
from webhooks.addresses import Address
from webhooks.urls import UrlRefused


class InvalidPolicy(ValueError):
    """An entry of the private hosts' allow-list that can not be read."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator allows beyond https to public addresses on port 443.

    `allowed_private_hosts` holds host names or addresses (``receiver``, ``receiver:8080``,
    ``[::1]:8080``), trusted wherever they lead, and networks (``127.0.0.0/8``), trusted whatever
    name leads there. An allowed host, or an address in an allowed network, may be on any port
    unless its entry names one. Raises `InvalidPolicy`.

    `own_servers` holds ``host:port`` of our own database, broker and the like: nothing is sent
    there, whatever is allowed besides and by whatever name.
    """

    allow_http: bool = False
    any_port: bool = False
    allowed_private_hosts: frozenset[str] = frozenset()
    own_servers: frozenset[str] = frozenset()
    _networks: tuple[IPv4Network | IPv6Network, ...] = field(init=False, repr=False, compare=False)
    _hosts: frozenset[tuple[str, int | None]] = field(init=False, repr=False, compare=False)
    _own: frozenset[tuple[str, int | None]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        networks = [entry for entry in self.allowed_private_hosts if "/" in entry]
        hosts = self.allowed_private_hosts - set(networks)
        object.__setattr__(self, "_networks", tuple(_network(entry) for entry in networks))
        object.__setattr__(self, "_hosts", frozenset(_host_entry(entry) for entry in hosts))
        object.__setattr__(
            self, "_own", frozenset(_host_entry(entry) for entry in self.own_servers)
        )

    def allows_host(self, host: str, port: int) -> bool:
        """Whether this host is trusted by name."""
        return (host, None) in self._hosts or (host, port) in self._hosts

    @property
    def trusts_networks(self) -> bool:
        """Whether there is a trusted network at all."""
        return bool(self._networks)

    def allows_address(self, address: Address) -> bool:
        """Whether this address lies in a trusted network."""
        return any(address in network for network in self._networks)

    def own_hosts(self, port: int) -> frozenset[str]:
        """Hosts of our own servers on this port."""
        return frozenset(host for host, own_port in self._own if own_port == port)


STRICT: Final = Policy()


def _network(entry: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(entry)
    except ValueError as error:
        raise InvalidPolicy(f"{entry!r} is not a network such as 127.0.0.0/8: {error}") from None


def _host_entry(entry: str) -> tuple[str, int | None]:
    # A bare IPv6 address is full of colons; in a URL, and so with a port, it has brackets.
    bare = f"[{entry}]" if entry.count(":") > 1 and not entry.startswith("[") else entry
    try:
        return urls.split_authority(bare)
    except UrlRefused as error:
        raise InvalidPolicy(f"{entry!r} is not a host or host:port: {error}") from None
