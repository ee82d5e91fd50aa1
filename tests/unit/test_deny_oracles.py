"""Two independent filters as oracles: what either denies we deny, in every family and spelling.

`ssrfguard` has the registries of IANA as a table and looks inside what wraps an IPv4 address;
`requests-hardened` asks `ipaddress` and has a list of its own. Where they and we differ the network
is named below with the reason, and each name must be needed.
"""

import itertools
import logging
import socket
import string
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_network
from urllib.parse import urlsplit

import pytest
import requests
import ssrfguard
from hypothesis import given, settings
from hypothesis import strategies as st
from requests_hardened import ip_filter
from ssrfguard import DEFAULT_DENIED

from webhooks import addresses, guard
from webhooks.addresses import Address

PUBLIC_V4 = "93.184.216.34"
EIGHTS = int(IPv4Address("8.8.8.8"))

SSRFGUARD = ssrfguard.Policy(allowed_schemes=frozenset({"https"}), allowed_ports=frozenset({443}))


def ssrfguard_denies(ip: Address) -> bool:
    return DEFAULT_DENIED.classify(ip).blocked


def hardened_denies(ip: Address) -> bool:
    try:
        ip_filter.get_ip_address(str(ip), 443, allow_loopback=False)
    except ip_filter.InvalidIPAddress:
        return True
    return False


@pytest.fixture(scope="module", autouse=True)
def both_families() -> Iterator[None]:
    """Whatever this machine's network has, addresses of both families are asked about."""
    logging.getLogger("requests_hardened.ip_filter").disabled = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ip_filter, "allowed_gai_family", lambda: socket.AF_UNSPEC)
        yield


ORACLES: dict[str, Callable[[Address], bool]] = {
    "ssrfguard": ssrfguard_denies,
    "requests-hardened": hardened_denies,
}

THEY_DENY: dict[str, dict[str, str]] = {
    "ssrfguard": {},
    "requests-hardened": {
        "64:ff9b::/96": "in a network without IPv4 every public receiver is found behind NAT64; we "
        "judge the address inside, as ssrfguard does",
    },
}
"""Networks in which an oracle denies what we allow."""

OUTSIDE = "no address is given to anybody outside 2000::/3 yet: what answers there is local"

WE_DENY: dict[str, dict[str, str]] = {
    "ssrfguard": {
        "168.63.129.16/32": "a platform service on every virtual machine of one cloud",
        "192.0.0.8/30": "services of the network one is in: port control, relays",
        "::/96": "retired since 2006; no public receiver has such an address",
        "2001::/23": "protocols, relays and Teredo: no receiver of webhooks, and Teredo's second "
        "half is whatever its client says",
        "2002::/16": "6to4 is retired, and its relays were anybody's",
        "::/3": OUTSIDE,
        "4000::/2": OUTSIDE,
        "8000::/1": OUTSIDE,
    },
    "requests-hardened": {
        "168.63.129.16/32": "as above",
        "::/96": "it takes what is inside for public without a look",
        "2001::/23": "as above: a part of it, in newer releases of Python",
        "::/3": OUTSIDE,
        "4000::/2": OUTSIDE,
        "8000::/1": OUTSIDE,
    },
}
"""Networks in which we deny what an oracle allows."""


def edges() -> Iterator[Address]:
    """At and beside both ends of every network that anybody has an opinion on, and its middle."""
    networks = {
        *(network for network, _ in addresses.DENIED_V4),
        *(network for network, _ in addresses.DENIED_V6),
        *(block.network for block in DEFAULT_DENIED.blocks),
        *ip_filter.EXTRA_BLOCKED_NET_RANGES,
        *map(ip_network, itertools.chain(*THEY_DENY.values(), *WE_DENY.values())),
        addresses.GLOBAL_UNICAST,
        addresses.LOCAL_NAT64,
    }
    for network in networks:
        first, last = int(network[0]), int(network[-1])
        for number in (first - 1, first, first + 1, (first + last) // 2, last - 1, last, last + 1):
            if 0 <= number < 1 << network.max_prefixlen:
                yield type(network[0])(number)


def wrapped(ip: IPv4Address) -> dict[str, IPv6Address]:
    """An IPv4 address in everything that carries one."""
    number, v6 = int(ip), IPv6Address
    return {
        "mapped": v6((0xFFFF << 32) | number),
        "translated": v6((0xFFFF << 48) | number),
        "compatible": v6(number),
        "NAT64": v6((0x64FF9B << 96) | number),
        "local NAT64": v6((0x64FF9B0001 << 80) | number),
        "local NAT64 of 48": v6(
            (0x64FF9B0001 << 80) | (number >> 16 << 64) | (number & 0xFFFF) << 40
        ),
        "6to4": v6((0x2002 << 112) | (number << 80)),
        "Teredo server": v6((0x20010000 << 96) | (number << 64) | (EIGHTS ^ 0xFFFFFFFF)),
        "Teredo client": v6((0x20010000 << 96) | (EIGHTS << 64) | (number ^ 0xFFFFFFFF)),
        "ISATAP": v6((0xFE80 << 112) | (0x5EFE << 32) | number),
    }


def everything() -> list[Address]:
    """Of every family, and of IPv4 also in every wrapping."""
    found: set[Address] = {*edges()}
    found |= {IPv4Address(first << 24 | 0x010203) for first in range(256)}
    found |= {IPv6Address(first << 112 | 1) for first in range(0, 1 << 16, 64)}
    inner = [ip for ip in found if isinstance(ip, IPv4Address)]
    return [*found, *(six for ip in inner for six in wrapped(ip).values())]


def is_in(ip: Address, networks: dict[str, str]) -> bool:
    return any(ip in ip_network(network) for network in networks)


@pytest.mark.parametrize("oracle", ORACLES)
def test_the_deny_list_is_an_oracles_but_for_networks_that_are_named(oracle: str) -> None:
    we_allow, we_deny = set(), set()
    for ip in everything():
        ours, theirs = addresses.deny_reason(ip) is not None, ORACLES[oracle](ip)
        if theirs and not ours:
            we_allow.add(ip)
        elif ours and not theirs:
            we_deny.add(ip)

    assert {ip for ip in we_allow if not is_in(ip, THEY_DENY[oracle])} == set()
    assert {ip for ip in we_deny if not is_in(ip, WE_DENY[oracle])} == set()
    for network in THEY_DENY[oracle]:
        assert any(ip in ip_network(network) for ip in we_allow), f"{network} is no difference"
    for network in WE_DENY["ssrfguard"] if oracle == "ssrfguard" else ():
        # The other asks `ipaddress`, which knows another list in each release of Python.
        assert any(ip in ip_network(network) for ip in we_deny), f"{network} is no difference"


@given(ip=st.ip_addresses(v=4) | st.ip_addresses(v=6) | st.ip_addresses(network="2000::/3"))
@settings(max_examples=200, deadline=None)
def test_what_we_allow_both_allow(ip: Address) -> None:
    if addresses.deny_reason(ip) is None:
        assert not ssrfguard_denies(ip)
        assert not hardened_denies(ip) or ip in addresses.NAT64


def test_of_nat64_we_allow_what_is_public_inside() -> None:
    for ip in (ip for ip in edges() if isinstance(ip, IPv4Address)):
        inside = addresses.deny_reason(ip)
        assert (addresses.deny_reason(wrapped(ip)["NAT64"]) is None) is (inside is None)


INNER_V4 = ("127.0.0.1", "10.1.2.3", "169.254.169.254", "192.168.0.1", "100.100.100.200", "0.0.0.0")
INNER_V6 = ("::1", "::", "fe80::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "fec0::1")


FULL_WIDTH = "".join(chr(0xFF10 + digit) for digit in range(10))
CIRCLED = "\u24ea" + "".join(chr(0x2460 + digit) for digit in range(9))


def spellings(text: str) -> Iterator[str]:
    """What some program or other takes for the IPv4 address."""
    a, b, c, d = (int(part) for part in text.split("."))
    number = int(IPv4Address(text))
    for odd, even in itertools.product(FORMS, repeat=2):
        yield f"{odd(a)}.{even(b)}.{odd(c)}.{even(d)}"
    for form in FORMS:
        yield form(number)
        yield f"{form(a)}.{form(number & 0xFFFFFF)}"
        yield f"{form(a)}.{form(b)}.{form(number & 0xFFFF)}"
    yield from (f"{text}.", f"{text}..", f".{text}")
    yield from (text.replace(".", dot) for dot in "\u3002\uff0e\uff61")
    for digits in (FULL_WIDTH, CIRCLED):
        yield text.translate(dict(zip(map(ord, string.digits), digits, strict=True)))
    yield from (f"{a}%2e{b}%2e{c}%2e{d}", f"%{ord(text[0]):x}{text[1:]}", f"{text}%00")
    for six in wrapped(IPv4Address(text)).values():
        yield f"[{six}]"
        yield f"[{six.exploded}]"
    yield from (f"[::ffff:{text}]", f"[::{text}]", f"[64:ff9b::{text}]", f"[0:0:0:0:0:FFFF:{text}]")
    yield from (f"[{text}]", f"me@{text}", f"{PUBLIC_V4}@{text}", f"{text}#@example.com")
    yield from (f"example.com\\@{text}", f"{text}\\@example.com", f"{text}:443@example.com")


def oct8(number: int) -> str:
    return f"0{number:o}"


def wide_hex(number: int) -> str:
    return f"0x{number:08x}"


def upper_hex(number: int) -> str:
    return f"0X{number:X}"


def padded(number: int) -> str:
    return f"{number:04d}"


FORMS: list[Callable[[int], str]] = [str, hex, oct8, wide_hex, upper_hex, padded]


def spellings_v6(text: str) -> Iterator[str]:
    """The same of IPv6, with zones as several programs write them."""
    six = IPv6Address(text)
    for host in {text, text.upper(), six.exploded, six.exploded.upper(), str(six)}:
        yield f"[{host}]"
        yield from (f"[{host}%eth0]", f"[{host}%25eth0]", f"[{host}%1]", f"[{host}]:443")
        yield from (f"me@[{host}]", host, f"[{host}", f"[[{host}]]", f"[{host}/64]", f"[{host}].")


def all_spellings() -> list[str]:
    return [
        *(host for text in INNER_V4 for host in spellings(text)),
        *(host for text in INNER_V6 for host in spellings_v6(text)),
    ]


def is_refused(url: str) -> bool:
    try:
        guard.check_url(url)
    except guard.UrlRefused:
        return True
    return False


def ssrfguard_refuses(url: str) -> bool:
    try:
        SSRFGUARD.check_url(url)
    except ssrfguard.SSRFGuardError:
        return True
    return False


def hardened_refuses(url: str) -> bool:
    """What it makes of the host that `requests` reads; a name it would have to look up is none."""
    try:
        host = urlsplit(requests.Request("POST", url).prepare().url or "").hostname or ""
    except (requests.RequestException, ValueError, UnicodeError):
        return True
    if not is_number(host):
        return False
    try:
        ip_filter.filter_host(host, 443, allow_loopback=False)
    except requests.RequestException:
        return True
    return False


def is_number(host: str) -> bool:
    try:
        socket.getaddrinfo(host, 443, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return False
    return True


def test_every_spelling_of_an_inner_address_is_refused() -> None:
    hosts = all_spellings()
    assert len(hosts) > 500
    assert [host for host in hosts if not is_refused(f"https://{host}/")] == []


URLS = [
    *(f"https://{host}/" for host in all_spellings()),
    *(f"https://{host}/" for host in spellings(PUBLIC_V4)),
    *(f"https://{host}/" for host in spellings_v6("2606:4700::1")),
    *(
        f"{scheme}://{host}{port}/{rest}"
        for scheme in ("https", "HTTPS", "http", "ftp", "file")
        for host in (
            "hooks.example.com",
            "HOOKS.Example.com.",
            "xn--bcher-kva.example",
            "bücher.example",
            "faß.example",
            "\u24d7ooks.example.com",
            "hooks\u3002example\u3002com",
            "my_hooks.example.com",
            "-a.example",
            "a..example",
            "user@hooks.example.com",
            "user:pw@hooks.example.com",
            "hooks.example.com%2f.example.org",
            "%68ooks.example.com",
        )
        for port in ("", ":443", ":", ":80", ":0", ":65536", ":x")
        for rest in ("", "a?b=c", "%2e%2e/", "\\", "a b", "#f")
    ),
]

THEY_REFUSE: dict[str, dict[str, str]] = {
    "ssrfguard": {
        "my_hooks.": "no host should have an underscore, and many have: it leads nowhere else",
    },
    "requests-hardened": {
        "[64:ff9b::": THEY_DENY["requests-hardened"]["64:ff9b::/96"],
        "[0064:ff9b:": THEY_DENY["requests-hardened"]["64:ff9b::/96"],
    },
}
"""What stands in URLs that an oracle refuses and we take, with the reason."""


@pytest.mark.parametrize(
    ("oracle", "refuses"),
    [("ssrfguard", ssrfguard_refuses), ("requests-hardened", hardened_refuses)],
)
def test_what_we_take_as_a_url_an_oracle_takes(oracle: str, refuses: Callable[[str], bool]) -> None:
    taken = [url for url in URLS if not is_refused(url)]
    assert len(taken) > 50
    refused = [url for url in taken if refuses(url)]
    named = THEY_REFUSE[oracle]
    assert [url for url in refused if not any(part in url for part in named)] == []
    for part in named:
        assert any(part in url for url in refused), f"{part} is no difference"


OTHER_NAMES = {"faß.example": "fass.example"}
"""Names that its rules of 2003 and ours of 2008 write differently; we connect to what we stored."""


def test_an_oracle_and_we_mean_the_same_host() -> None:
    meant = 0
    for url in URLS:
        if is_refused(url) or ssrfguard_refuses(url):
            continue
        theirs = SSRFGUARD.check_url(url)
        ours = guard.check_url(url)
        if any(name in url for name in OTHER_NAMES):
            assert theirs.host in OTHER_NAMES.values()
        else:
            assert (theirs.address or theirs.host.rstrip(".")) == (ours.address or ours.host), url
            meant += 1
    assert meant > 50
