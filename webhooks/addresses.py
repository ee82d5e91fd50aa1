"""Which IP addresses a webhook may be sent to: the deny list, seen through every wrapping.

`ipaddress.is_global` is not this filter: it is true for 64:ff9b::a9fe:a9fe (the metadata service
behind NAT64) and for 168.63.129.16. Sources: the IANA special-purpose registries for IPv4 and
IPv6, and the addresses cloud providers answer on inside.
"""

from collections.abc import Iterable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
)
from typing import Final

Address = IPv4Address | IPv6Address

DENIED_V4: Final = tuple(
    (IPv4Network(network), why)
    for network, why in (
        ("0.0.0.0/8", "this network"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by a carrier"),
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "cloud platform"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "protocol assignments"),
        ("192.0.2.0/24", "documentation"),
        ("192.88.99.0/24", "6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
)
DENIED_V6: Final = tuple(
    (IPv6Network(network), why)
    for network, why in (
        ("2001::/23", "protocol assignments"),
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4"),
        ("3fff::/20", "documentation"),
    )
)
GLOBAL_UNICAST: Final = IPv6Network("2000::/3")

NAT64: Final = IPv6Network("64:ff9b::/96")
# The network's own NAT64 prefix (RFC 8215): where the IPv4 address sits depends on its local
# length, so what it leads to can not be known from here.
LOCAL_NAT64: Final = IPv6Network("64:ff9b:1::/48")
COMPATIBLE: Final = IPv6Network("::/96")


def deny_reason(address: Address | str) -> str | None:
    """Why nothing is sent to this address, or None when it is a public one.

    An IPv4 address inside an IPv6 one is judged as itself where a network really leads there
    (mapped, NAT64); the retired and the ambiguous wrappings (``::/96``, 6to4, Teredo, local
    NAT64) are denied whatever is inside, with what is inside in the reason. Raises ValueError for
    a text that is not an address.
    """
    ip = ip_address(address) if isinstance(address, str) else address
    if isinstance(ip, IPv4Address):
        return _first(ip, DENIED_V4)
    inner = _translated(ip)
    if inner is not None:
        reason = deny_reason(inner)
        return reason and f"{reason} {inner} inside {ip}"
    reason = _deny_v6(ip)
    return reason and reason + _carrying(ip)


def _deny_v6(ip: IPv6Address) -> str | None:
    if ip == IPv6Address("::1"):
        return "loopback"
    if ip in LOCAL_NAT64:
        return "local NAT64"
    # A zone (fe80::1%eth0) is no part of the number that is compared.
    if ip not in GLOBAL_UNICAST:
        return "outside global unicast 2000::/3"
    return _first(ip, DENIED_V6)


def _translated(ip: IPv6Address) -> IPv4Address | None:
    if ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    return _low_bits(ip) if ip in NAT64 else None


def _carrying(ip: IPv6Address) -> str:
    if ip.sixtofour is not None:
        return f" carrying {ip.sixtofour}"
    if ip.teredo is not None:
        return f" Teredo of {ip.teredo[1]}"
    if ip in LOCAL_NAT64 or (ip in COMPATIBLE and int(ip) > 1):
        return f" carrying {_low_bits(ip)}"
    return ""


def _low_bits(ip: IPv6Address) -> IPv4Address:
    return IPv4Address(int(ip) & 0xFFFF_FFFF)


def _first(ip: Address, denied: Iterable[tuple[IPv4Network | IPv6Network, str]]) -> str | None:
    return next((why for network, why in denied if ip in network), None)
