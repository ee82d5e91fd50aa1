"""The guard: every spelling of an inside address is refused, and lookups can not be played with."""

import socket
import threading
import time
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from types import SimpleNamespace

import pytest
import requests_hardened.ip_filter
from hypothesis import given, settings
from hypothesis import strategies as st

from webhooks import addresses, guard, lookup, urls
from webhooks.guard import AddressRefused, Policy, UrlRefused

LONGEST_NAME = ".".join(["a" * 62] * 4 + ["b"])  # 253 characters
PUBLIC_V4 = "93.184.216.34"
PUBLIC_V6 = "2606:2800:220:1:248:1893:25c8:1946"

INSIDE = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "169.254.170.2",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a9fe:a9fe",
    "64:ff9b:1:a9fe:a9:fe00::",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2002:808:808::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]


def answers(*texts: str) -> guard.Resolver:
    def answer(host: str, port: int) -> Iterable[str]:
        return texts

    return answer


@pytest.mark.parametrize("text", INSIDE)
def test_inside_address_is_denied_with_a_reason(text: str) -> None:
    assert addresses.deny_reason(text)


@pytest.mark.parametrize(
    "text",
    [
        "1.1.1.1",
        "9.255.255.255",
        "100.63.255.255",
        "100.128.0.1",
        "168.63.129.17",
        "172.32.0.1",
        "223.255.255.255",
        PUBLIC_V6,
        "2001:200::1",
        "2a00:1450:4001:800::200e",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
    ],
)
def test_public_address_is_not_denied(text: str) -> None:
    assert addresses.deny_reason(text) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("::ffff:10.0.0.1", f"private 10.0.0.1 inside {IPv6Address('::ffff:10.0.0.1')}"),
        ("64:ff9b::a9fe:a9fe", "link-local 169.254.169.254 inside 64:ff9b::a9fe:a9fe"),
        ("64:ff9b:1::a9fe:a9fe", "local NAT64 carrying 169.254.169.254"),
        ("2002:a9fe:a9fe::1", "6to4 carrying 169.254.169.254"),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "protocol assignments Teredo of 192.0.2.45"),
        ("::7f00:1", "outside global unicast 2000::/3 carrying 127.0.0.1"),
        ("::1", "loopback"),
    ],
)
def test_reason_names_what_is_wrapped(text: str, reason: str) -> None:
    assert addresses.deny_reason(text) == reason


IPS = st.ip_addresses(v=4) | st.ip_addresses(v=6)
NEAR_EDGES = st.sampled_from(INSIDE).flatmap(
    lambda text: st.integers(-3, 3).map(
        lambda step: _near(ip_address(text.partition("%")[0]), step)
    )
)


def _near(ip: IPv4Address | IPv6Address, step: int) -> IPv4Address | IPv6Address:
    top = (1 << ip.max_prefixlen) - 1
    return type(ip)(min(max(int(ip) + step, 0), top))


@given(ip=IPS | NEAR_EDGES)
@settings(max_examples=300, deadline=None)
def test_whatever_an_independent_filter_denies_is_denied(ip: IPv4Address | IPv6Address) -> None:
    if ip in addresses.NAT64:  # it denies all of NAT64; we look at what is inside
        return
    try:
        requests_hardened.ip_filter.get_ip_address(str(ip), 443, allow_loopback=False)
    except requests_hardened.ip_filter.InvalidIPAddress:
        assert addresses.deny_reason(ip)


@given(inner=st.ip_addresses(v=4))
def test_wrapping_never_makes_an_address_allowed(inner: IPv4Address) -> None:
    number = int(inner)
    wrapped = {
        "mapped": IPv6Address((0xFFFF << 32) | number),
        "nat64": IPv6Address((0x64FF9B << 96) | number),
        "compatible": IPv6Address(number),
        "local nat64": IPv6Address((0x64FF9B0001 << 80) | number),
        "6to4": IPv6Address((0x2002 << 112) | (number << 80)),
        "teredo": IPv6Address((0x20010000 << 96) | (number ^ 0xFFFFFFFF)),
    }
    for kind, ip in wrapped.items():
        if addresses.deny_reason(inner) or kind not in ("mapped", "nat64"):
            assert addresses.deny_reason(ip), kind
        else:
            assert addresses.deny_reason(ip) is None, kind


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("https://hooks.example.com", "https://hooks.example.com/"),
        ("HTTPS://Hooks.Example.COM:443/A?b=c", "https://hooks.example.com/A?b=c"),
        ("https://hooks.example.com./x", "https://hooks.example.com/x"),
        ("https://hooks.example.com:/x", "https://hooks.example.com/x"),
        ("https://hooks.example.com?x=1", "https://hooks.example.com/?x=1"),
        ("https://bücher.example/ü?q=ß", "https://xn--bcher-kva.example/%C3%BC?q=%C3%9F"),
        ("https://my_hooks.example.com/%2F", "https://my_hooks.example.com/%2F"),
        ("https://bu\u0308cher.example/", "https://xn--bcher-kva.example/"),
        (f"https://{LONGEST_NAME}/", f"https://{LONGEST_NAME}/"),
        (f"https://{PUBLIC_V4}/", f"https://{PUBLIC_V4}/"),
        (f"https://[{PUBLIC_V6.upper()}]/", f"https://[{PUBLIC_V6}]/"),
    ],
)
def test_good_url_is_taken_in_its_normal_spelling(url: str, normal: str) -> None:
    target = guard.check_url(url)
    assert target.url == normal
    assert guard.check_url(normal) == target


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks.example.com",
        "//hooks.example.com/",
        "http://hooks.example.com/",
        "ftp://hooks.example.com/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://",
        "https:///path",
        "https://.",
        "https://a..b/",
        "https://hooks.example.com../",
        "https://user@hooks.example.com/",
        "https://user:password@hooks.example.com/",
        "https://hooks.example.com@10.0.0.1/",
        "https://hooks.example.com:8443/",
        "https://hooks.example.com:0/",
        "https://hooks.example.com:65536/",
        "https://hooks.example.com:443443/",
        "https://hooks.example.com:٤٤٣/",
        f"https://a{LONGEST_NAME}/",
        "https://hooks.example.com/#fragment",
        "https://hooks.example.com/a b",
        "https://hooks.example.com/\r\nX-Evil: 1",
        "https://hooks.example.com/\x00",
        "https://hooks.example.com/\x7f",
        "https://hooks.example.com\\@10.0.0.1/",
        " https://hooks.example.com/",
        "https://hooks.example.com\t/",
        "https://hooks.example.com/\ud800",
        "https://-x.example.com/",
        "https://ho%6fks.example.com/",
        "https://" + "a" * 64 + ".example.com/",
        "https://" + "a." * 127 + "com/",
        "https://℀.example.com/",
        "https://x\u200dy.example.com/",
        "https://hooks.example.com/" + "x" * 2023,
        "https://[::1",
        "https://::1/",
        "https://[hooks.example.com]/",
        f"https://[{PUBLIC_V6}%25eth0]/",
        f"https://[{PUBLIC_V6}%eth0]/",
        f"https://[{PUBLIC_V6}]x/",
        f"https://{PUBLIC_V4}./",
        "https://hooks.example.0x/",
    ],
)
def test_bad_url_is_refused(url: str) -> None:
    with pytest.raises(UrlRefused) as caught:
        guard.check_url(url)
    assert "password" not in str(caught.value).replace("user or password", "")


def test_url_of_2048_characters_is_taken() -> None:
    url = "https://hooks.example.com/" + "x" * 2022
    assert len(url) == 2048
    assert guard.check_url(url).url == url


@pytest.mark.parametrize("text", INSIDE)
def test_inside_address_is_refused_as_a_url_and_as_an_answer(text: str) -> None:
    host = f"[{text}]" if ":" in text else text
    with pytest.raises(UrlRefused):
        guard.check_url(f"https://{host}/")
    target = guard.check_url("https://hooks.example.com/")
    with pytest.raises(AddressRefused, match="not a public address"):
        guard.resolve(target, resolver=answers(text))


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "0x7f000001",
        "0X7F.0.0.1",
        "017700000001",
        "0177.0.0.1",
        "127.1",
        "127.0.1",
        "0",
        "0x",
        "127.0.0.1.",
        "127.0.0.01",
        "127.0.0.1.1",
        "256.256.256.256",
        "4294967296",
        "2852039166",
        "0xa9fea9fe",
        "169.254.43518",
        "\uff11\uff12\uff17.\uff10.\uff10.\uff11",  # full-width digits
        "127。0。0。1",
        "①②⑦.⓪.⓪.①",
        "1.2.3.4.5",
        "foo.127",
        "127.0.0.0x1",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:127.0.0.1]",
        "[0000::0001]",
        "localhost",
        "LOCALHOST.",
        "foo.localhost",
        "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
        "metadata",
        "metadata.google.internal",
        "printer.local",
        "router.home.arpa",
        "home.arpa",
        "wiki.intranet",
        "nas.localdomain",
    ],
)
def test_odd_spellings_and_inner_names_are_refused(host: str) -> None:
    with pytest.raises(UrlRefused):
        guard.check_url(f"https://{host}/")


def test_refusal_of_an_odd_spelling_says_what_it_means() -> None:
    with pytest.raises(UrlRefused, match=r"'0x8\.0x8\.2056' is a number .* write 8\.8\.8\.8"):
        guard.check_url("https://0x8.0x8.2056/")


@given(url=st.text(max_size=60) | st.from_regex(urls._URL, fullmatch=True))
@settings(deadline=None)
def test_any_text_is_a_target_or_a_refusal(url: str) -> None:
    try:
        target = guard.check_url(url, policy=Policy(allow_http=True, any_port=True))
    except UrlRefused:
        return
    assert target.path.startswith("/")
    assert target.url.isascii()


LOOPBACK = Policy(allow_http=True, allowed_private_hosts=frozenset({"127.0.0.0/8", "[::1]:8080"}))
NAMED = Policy(allowed_private_hosts=frozenset({"Receiver", "relay.internal:8443", "10.0.0.7"}))


@pytest.mark.parametrize(
    ("policy", "url"),
    [
        (Policy(allow_http=True), "http://hooks.example.com/"),
        (Policy(any_port=True), "https://hooks.example.com:8443/"),
        (LOOPBACK, "http://127.0.0.1:5000/"),
        (LOOPBACK, "https://[::1]:8080/"),
        (LOOPBACK, "http://localhost/"),
        (NAMED, "https://receiver:9000/"),
        (NAMED, "https://relay.internal:8443/"),
        (NAMED, "https://10.0.0.7:1234/"),
    ],
)
def test_operator_opens_exactly_what_is_listed(policy: Policy, url: str) -> None:
    assert guard.check_url(url, policy=policy).url == url


@pytest.mark.parametrize(
    ("policy", "url"),
    [
        (LOOPBACK, "http://10.0.0.1/"),
        (LOOPBACK, "https://[::1]/"),
        (LOOPBACK, "http://hooks.example.com:8080/"),
        (LOOPBACK, "https://[::ffff:127.0.0.1]/"),
        (NAMED, "https://receiver2/"),
        (NAMED, "https://relay.internal/"),
        (NAMED, "http://receiver/"),
        (NAMED, "https://10.0.0.8/"),
        (Policy(any_port=True), "https://127.0.0.1:8443/"),
    ],
)
def test_operator_opens_nothing_beside(policy: Policy, url: str) -> None:
    with pytest.raises(UrlRefused):
        guard.check_url(url, policy=policy)


@pytest.mark.parametrize(
    "entry", ["127.0.0.1/8", "10.0.0.0/33", "a b", "h:65536", "h:0", "u@h", ""]
)
def test_unreadable_allow_list_entry_is_named(entry: str) -> None:
    with pytest.raises(guard.InvalidPolicy, match="is not a"):
        Policy(allowed_private_hosts=frozenset({entry}))


def test_trusted_host_may_lead_inside_and_trusted_network_from_any_name() -> None:
    receiver = guard.check_url("https://receiver/", policy=NAMED)
    assert guard.resolve(receiver, policy=NAMED, resolver=answers("172.18.0.5"))
    hooks = guard.check_url("https://hooks.example.com/", policy=LOOPBACK)
    assert guard.resolve(hooks, policy=LOOPBACK, resolver=answers("127.0.0.1"))
    with pytest.raises(AddressRefused):
        guard.resolve(hooks, policy=LOOPBACK, resolver=answers("127.0.0.1", "10.0.0.1"))


TARGET = guard.check_url("https://hooks.example.com/")


@pytest.mark.parametrize("inside", ["10.0.0.1", "::1", "64:ff9b::a9fe:a9fe"])
@pytest.mark.parametrize("place", [0, 1, 5])
def test_one_inside_answer_among_public_ones_refuses_all(inside: str, place: int) -> None:
    texts = ["1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4", "1.1.1.5"]
    texts.insert(place, inside)
    with pytest.raises(AddressRefused) as caught:
        guard.resolve(TARGET, resolver=answers(*texts))
    assert str(caught.value.address) == inside


def test_at_most_four_addresses_of_both_families_by_turns() -> None:
    v6 = [f"2606:4700::{n}" for n in range(1, 6)]
    found = guard.resolve(TARGET, resolver=answers(*v6, "1.1.1.1", "1.1.1.2"))
    assert [str(ip) for ip in found] == [v6[0], "1.1.1.1", v6[1], "1.1.1.2"]


def test_repeated_answers_count_once() -> None:
    assert len(guard.resolve(TARGET, resolver=answers("1.1.1.1", "1.1.1.1"))) == 1


def test_address_in_the_url_needs_no_lookup() -> None:
    def never(host: str, port: int) -> Iterable[str]:
        raise AssertionError(host)

    target = guard.check_url(f"https://{PUBLIC_V4}/")
    assert guard.resolve(target, resolver=never) == (IPv4Address(PUBLIC_V4),)


def test_public_name_is_asked_for_absolutely_and_trusted_name_as_it_is() -> None:
    asked: list[str] = []

    def note(host: str, port: int) -> Iterable[str]:
        asked.append(host)
        return [PUBLIC_V4]

    guard.resolve(TARGET, resolver=note)
    guard.resolve(guard.check_url("https://receiver/", policy=NAMED), policy=NAMED, resolver=note)
    assert asked == ["hooks.example.com.", "receiver"]


@pytest.mark.parametrize(
    "error",
    [
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        TimeoutError(),
        UnicodeError("label too long"),
    ],
)
def test_failed_lookup_is_one_kind_of_error(error: Exception) -> None:
    def fail(host: str, port: int) -> Iterable[str]:
        raise error

    with pytest.raises(guard.NameNotResolved, match=r"hooks\.example\.com"):
        guard.resolve(TARGET, resolver=fail)


def test_empty_and_unreadable_answers_are_no_answer() -> None:
    for resolver in (answers(), answers("not an address")):
        with pytest.raises(guard.NameNotResolved):
            guard.resolve(TARGET, resolver=resolver)


def test_reserved_name_has_no_address_by_the_machines_own_resolver() -> None:
    with pytest.raises(guard.NameNotResolved):
        guard.resolve(guard.check_url("https://nowhere.invalid/"))


def test_hanging_lookups_end_for_the_caller_and_can_not_pile_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    release = threading.Event()
    monkeypatch.setattr(lookup, "_turns", threading.BoundedSemaphore(2))

    def hang(host: str, port: int) -> Iterable[str]:
        release.wait(10)
        return [PUBLIC_V4]

    def resolve() -> None:
        guard.resolve(TARGET, resolver=hang, deadline=time.monotonic() + 0.05)

    try:
        for message in ("no answer in time", "no answer in time", "too many lookups"):
            with pytest.raises(guard.NameNotResolved, match=message):
                resolve()
        stuck = [t for t in threading.enumerate() if t.name == "webhook-lookup"]
        assert len(stuck) == 2
    finally:
        release.set()
    for thread in stuck:
        thread.join(5)
    assert guard.resolve(TARGET, resolver=answers(PUBLIC_V4))


def test_waiting_for_its_turn_is_part_of_a_lookups_time(monkeypatch: pytest.MonkeyPatch) -> None:
    turns, clock, asked = threading.BoundedSemaphore(1), [100.0], threading.Event()

    class Turns:
        """One that is got at the last moment."""

        def acquire(self, timeout: float) -> bool:
            clock[0] += timeout
            return turns.acquire()

        def release(self) -> None:
            turns.release()

    def slow(host: str, port: int) -> Iterable[str]:
        asked.wait(2)
        return [PUBLIC_V4]

    monkeypatch.setattr(lookup, "_turns", Turns())
    monkeypatch.setattr(lookup, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    with pytest.raises(guard.NameNotResolved, match="no answer in time"):
        lookup.look_up(slow, "hooks.example.com", 443, seconds=3)
    asked.set()
    assert turns.acquire(timeout=10)


def test_a_lookup_that_no_thread_is_left_for_gives_its_turn_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(lookup, "_turns", threading.BoundedSemaphore(1))
    with monkeypatch.context() as machine:
        machine.setattr(threading.Thread, "start", refuse)
        with pytest.raises(guard.NameNotResolved, match="can't start new thread"):
            guard.resolve(TARGET, resolver=answers(PUBLIC_V4))

    assert guard.resolve(TARGET, resolver=answers(PUBLIC_V4))


def test_lookup_is_never_given_more_than_three_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    given_seconds: list[float] = []

    def spy(resolver: guard.Resolver, host: str, port: int, *, seconds: float) -> list[IPv4Address]:
        given_seconds.append(seconds)
        return [IPv4Address(PUBLIC_V4)]

    monkeypatch.setattr(lookup, "look_up", spy)
    guard.resolve(TARGET)
    guard.resolve(TARGET, deadline=115.0, clock=lambda: 100.0)
    guard.resolve(TARGET, deadline=101.0, clock=lambda: 100.0)
    assert given_seconds == [3.0, 3.0, 1.0]
