"""What one attempt puts on the wire, where it goes, and whom it trusts."""

import contextlib
import json
import logging
import socket
import ssl
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks

from tests.integration.webhooks.conftest import LOOPBACK, SECRET, MakeSender, SendTo, a_request
from tests.integration.webhooks.peers import Authority, Peer, Wire, answer, answering, closed_port
from webhooks import guard, signing, signing_keys, transport, wire
from webhooks.transport import Outcome
from webhooks.wire import NotWatching

# --- what is sent


def test_request_carries_the_headers_of_the_contract_and_nothing_else(send_to: SendTo) -> None:
    with Peer(answering(answer())) as peer:
        attempt = send_to(peer.url("/in?x=%20"), custom_headers={"Authorization": "Bearer t"})
    assert attempt.outcome is Outcome.DELIVERED
    (received,) = peer.requests
    assert received.head.startswith(b"POST /in?x=%20 HTTP/1.1\r\n")
    headers = dict(received.headers)
    timestamp = headers.pop("webhook-timestamp")
    signature = headers.pop("webhook-signature")
    assert headers == {
        "host": f"127.0.0.1:{peer.port}",
        "authorization": "Bearer t",
        "accept-encoding": "identity",
        "user-agent": "billing-webhooks/1",
        "content-type": "application/json",
        "content-length": "18",
        "webhook-id": "evt_0197",
        "x-event-id": "evt_0197",
        "x-topic": "billing.invoice_finalized",
        "x-attempt": "1",
        "x-payload-version": "1",
    }
    assert signature == signing.sign(
        secrets=[SECRET], message_id="evt_0197", timestamp=int(timestamp), body=received.body
    )


def test_a_trace_goes_on_with_us_whatever_header_the_endpoint_was_made_with(
    send_to: SendTo,
) -> None:
    span = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    theirs = {"Traceparent": "theirs", "TRACESTATE": "theirs", "x-own": "1"}
    with Peer(answering(answer(), answer())) as peer:
        traced = send_to(peer.url("/"), custom_headers=theirs, traceparent=span)
        untraced = send_to(peer.url("/"), custom_headers=theirs)

    assert (traced.outcome, untraced.outcome) == (Outcome.DELIVERED, Outcome.DELIVERED)
    first, second = (dict(one.headers) for one in peer.requests)
    assert (first["traceparent"], first["x-own"]) == (span, "1")
    assert not {"tracestate", "traceparent"} & second.keys()
    assert "tracestate" not in first


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"data":{}}',
        '{"name":"Zoë 🥳 \\ud83e"}'.encode(),
        json.dumps({"pad": "x" * 300 * 1024}).encode(),
    ],
)
def test_any_body_arrives_unchanged_and_verifies_independently(
    body: bytes, make_sender: MakeSender
) -> None:
    sender = make_sender(deadline_seconds=10)
    with Peer(answering(answer())) as peer:
        assert sender.send(a_request(peer.url(), body=body)).outcome is Outcome.DELIVERED
    (received,) = peer.requests
    assert received.body == body
    verified = standardwebhooks.Webhook(SECRET).verify(received.body, received.headers)
    assert verified == json.loads(body)


def test_both_keys_sign_while_one_is_rotated(send_to: SendTo) -> None:
    old, new = signing_keys.new_secret(), signing_keys.new_secret()
    private, public = signing_keys.new_keypair()
    with Peer(answering(answer())) as peer:
        send_to(peer.url(), secrets=(private, new, old))
    (received,) = peer.requests
    for key in (old, new):
        standardwebhooks.Webhook(key).verify(received.body, received.headers)
    signing.verify(
        secrets=[public],
        headers=received.headers,
        body=received.body,
        now=int(received.headers["webhook-timestamp"]),
    )


def test_one_shot_send_works_without_a_sender() -> None:
    with Peer(answering(answer())) as peer:
        attempt = transport.send(a_request(peer.url()), policy=LOOPBACK, deadline_seconds=5)
    assert attempt.outcome is Outcome.DELIVERED


def test_closed_sender_takes_nothing_more(make_sender: MakeSender) -> None:
    sender = make_sender()
    with Peer(answering(answer())) as peer:
        sender.send(a_request(peer.url()))
        sender.close()
        with pytest.raises(NotWatching, match="one per process"):
            sender.send(a_request(peer.url()))


def test_close_ends_the_connections_that_are_kept(make_sender: MakeSender) -> None:
    hung_up = threading.Event()

    def script(peer: Peer, wire: Wire) -> None:
        peer.read_request(wire)
        wire.send(answer())
        if wire.sock.recv(1) == b"":
            hung_up.set()

    sender = make_sender()
    with Peer(script) as peer:
        sender.send(a_request(peer.url()))
        sender.close()

        assert hung_up.wait(10)


def test_close_waits_for_the_attempt_under_way(make_sender: MakeSender) -> None:
    arrived = threading.Event()
    outcomes: list[Outcome] = []

    def script(peer: Peer, wire: Wire) -> None:
        peer.read_request(wire)
        arrived.set()
        wire.stopped.wait(0.2)
        wire.send(answer())

    sender = make_sender(deadline_seconds=10)
    with Peer(script) as peer:
        request = a_request(peer.url())
        sending = threading.Thread(target=lambda: outcomes.append(sender.send(request).outcome))
        sending.start()
        assert arrived.wait(10)
        sender.close()
        sending.join(10)
    assert outcomes == [Outcome.DELIVERED]


@pytest.mark.parametrize("secrets", [(), ("whsec_short",), ("nonsense",)])
def test_without_a_usable_secret_nothing_is_sent(secrets: tuple[str, ...], send_to: SendTo) -> None:
    with Peer(answering(answer())) as peer:
        attempt = send_to(peer.url(), secrets=secrets)
    assert attempt.outcome is Outcome.MISCONFIGURED
    assert peer.connections == 0


def test_refused_custom_header_is_an_outcome_and_nothing_is_sent(send_to: SendTo) -> None:
    with Peer(answering(answer())) as peer:
        attempt = send_to(peer.url(), custom_headers={"X-Bad": "a\r\nHost: evil"})
    assert attempt.outcome is Outcome.MISCONFIGURED
    assert "'X-Bad'" in str(attempt.error)
    assert "evil" not in str(attempt.error)
    assert peer.connections == 0


@pytest.mark.parametrize("topic", ["", "a b", "a\r\nb", "ü", "x" * 201])
def test_topic_that_does_not_fit_a_header_is_refused_at_once(topic: str) -> None:
    with pytest.raises(ValueError, match="visible ASCII"):
        a_request("https://hooks.example.com/", topic=topic)


@pytest.mark.parametrize("seconds", [0, -1, 30.1])
def test_deadline_outside_its_limits_is_refused(seconds: float, make_sender: MakeSender) -> None:
    with pytest.raises(ValueError, match="deadline"):
        make_sender(deadline_seconds=seconds)


def test_request_does_not_show_secrets_or_contents() -> None:
    shown = repr(a_request("https://hooks.example.com/", custom_headers={"Authorization": "tok"}))
    assert "whsec_" not in shown
    assert "12.50" not in shown
    assert "tok" not in shown


def test_nothing_is_logged_about_what_is_sent_or_answered(
    send_to: SendTo, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with Peer(answering(b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n")) as peer:
        send_to(peer.url("/token-in-the-path"))
    assert not caplog.records


# --- what the environment and the peer can not change


def test_proxies_netrc_and_ca_variables_are_ignored(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make_sender: MakeSender
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login user password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    key_log = tmp_path / "keys"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("SSLKEYLOGFILE", str(key_log))
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "missing.pem"))
    authority = Authority.make(tmp_path)
    with (
        Peer(answering(answer())) as proxy,
        Peer(answering(answer())) as plain,
        Peer(answering(answer()), tls=authority.context()) as secure,
    ):
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url(""))
        sender = make_sender(ca_file=str(authority.ca_file), policy=TLS, resolver=at("127.0.0.1"))
        for peer, url in ((plain, plain.url()), (secure, secure.url(host="localhost"))):
            assert sender.send(a_request(url)).outcome is Outcome.DELIVERED
            assert "authorization" not in peer.requests[0].headers
    assert proxy.connections == 0
    assert not key_log.exists()


def test_cookies_are_never_sent_back(send_to: SendTo) -> None:
    with Peer(answering(answer(200, b"ok", "Set-Cookie: session=1; Path=/"))) as peer:
        for _ in range(2):
            send_to(peer.url())
    assert peer.connections == 1
    assert all("cookie" not in request.headers for request in peer.requests)


# --- where it goes


def at(*addresses: str) -> guard.Resolver:
    def resolve(host: str, port: int) -> Iterable[str]:
        return addresses

    return resolve


NAMES = guard.Policy(
    allow_http=True, any_port=True, allowed_private_hosts=frozenset({"127.0.0.0/30"})
)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "https://127.0.0.1/",
        "https://2130706433/",
        "https://[::ffff:169.254.169.254]/",
        "https://169.254.169.254/latest/meta-data/",
        "https://localhost/",
        "https://user:pw@hooks.example.com/",
        "gopher://hooks.example.com/",
        "https://hooks.example.com/" + "x" * 3000,
    ],
)
def test_url_that_is_refused_at_creation_is_refused_at_sending(
    url: str, make_sender: MakeSender
) -> None:
    sender = make_sender(policy=guard.STRICT)
    attempt = sender.send(a_request(url))
    assert (attempt.outcome, attempt.status) == (Outcome.ADDRESS_REFUSED, None)


@pytest.mark.parametrize(
    "addresses", [("127.0.0.1",), ("1.1.1.1", "10.0.0.1"), ("64:ff9b::a9fe:a9fe",), ("::1",)]
)
def test_name_that_leads_inside_even_partly_is_refused(
    addresses: tuple[str, ...], make_sender: MakeSender
) -> None:
    sender = make_sender(policy=guard.STRICT, resolver=at(*addresses))
    attempt = sender.send(a_request("https://hooks.example.com/"))
    assert attempt.outcome is Outcome.ADDRESS_REFUSED
    assert "hooks.example.com leads to" in str(attempt.error)


def test_rebinding_name_is_looked_up_once_and_the_checked_address_is_used(
    make_sender: MakeSender,
) -> None:
    """The first answer is allowed, the second would lead to a forbidden 127.0.0.9."""
    asked: list[str] = []

    def rebind(host: str, port: int) -> Iterable[str]:
        asked.append(host)
        return ["127.0.0.1" if len(asked) == 1 else "127.0.0.9"]

    sender = make_sender(policy=NAMES, resolver=rebind)
    with Peer(answering(answer())) as peer:
        attempt = sender.send(a_request(peer.url(host="rebinding.example")))
    assert attempt.outcome is Outcome.DELIVERED
    assert asked == ["rebinding.example."]
    assert peer.requests[0].headers["host"] == f"rebinding.example:{peer.port}"


def test_each_new_connection_is_checked_again(make_sender: MakeSender) -> None:
    answers = [["127.0.0.1"], ["10.0.0.1"]]

    def rebind(host: str, port: int) -> Iterable[str]:
        return answers.pop(0)

    sender = make_sender(policy=NAMES, resolver=rebind)
    with Peer(answering(answer(200, b"", "Connection: close"))) as peer:
        request = a_request(peer.url(host="rebinding.example"))
        assert sender.send(request).outcome is Outcome.DELIVERED
        assert sender.send(request).outcome is Outcome.ADDRESS_REFUSED
    assert peer.connections == 1


def test_next_address_is_tried_when_the_first_is_dead(make_sender: MakeSender) -> None:
    with Peer(answering(answer())) as peer:  # on 127.0.0.1 alone
        sender = make_sender(policy=NAMES, resolver=at("127.0.0.2", "127.0.0.3", "127.0.0.1"))
        attempt = sender.send(a_request(peer.url(host="many.example")))
    assert attempt.outcome is Outcome.DELIVERED


def test_when_every_address_is_dead_it_is_one_connection_error(make_sender: MakeSender) -> None:
    with closed_port() as port:
        sender = make_sender(policy=NAMES, resolver=at("127.0.0.2", "127.0.0.1"))
        attempt = sender.send(a_request(f"http://many.example:{port}/"))
    assert attempt.outcome is Outcome.CONNECTION_ERROR


def test_addresses_that_do_not_answer_are_not_waited_for_until_the_deadline(
    make_sender: MakeSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "CONNECT_SECONDS", 0.4)
    sender = make_sender(policy=NAMES, resolver=at("127.0.0.1", "127.0.0.2"), deadline_seconds=20)
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("0.0.0.0", 0), backlog=0))
        port = full.getsockname()[1]
        for _ in range(4):  # it accepts nobody: whoever comes after these is not even refused
            caller = stack.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(("127.0.0.1", port))
        attempt = sender.send(a_request(f"http://silent.example:{port}/"))
    assert attempt.outcome in {Outcome.CONNECTION_ERROR, Outcome.TIMEOUT}
    assert attempt.latency_ms < 10_000  # with the attempt's deadline it is 20 s


def test_next_address_is_tried_when_the_first_says_nothing(
    make_sender: MakeSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "CONNECT_SECONDS", 1.0)
    sender = make_sender(policy=NAMES, resolver=at("127.0.0.2", "127.0.0.1"), deadline_seconds=20)
    with Peer(answering(answer())) as peer, contextlib.ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.2", peer.port), backlog=0))
        for _ in range(4):
            caller = stack.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(silent.getsockname())
        attempt = sender.send(a_request(f"http://silent.example:{peer.port}/"))
    assert attempt.outcome is Outcome.DELIVERED


def test_unknown_name_is_a_dns_error(make_sender: MakeSender) -> None:
    def unknown(host: str, port: int) -> Iterable[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    attempt = make_sender(resolver=unknown).send(a_request("https://nowhere.example/"))
    assert attempt.outcome is Outcome.DNS_ERROR
    assert "nowhere.example" in str(attempt.error)


def test_hanging_name_servers_are_a_dns_error_in_time(make_sender: MakeSender) -> None:
    release = threading.Event()

    def hang(host: str, port: int) -> Iterable[str]:
        release.wait(10)
        return []

    try:
        attempt = make_sender(resolver=hang).send(a_request("https://slow.example/"))
        assert not release.is_set()
    finally:
        release.set()
    assert attempt.outcome is Outcome.DNS_ERROR


# --- TLS

TLS = guard.Policy(
    allow_http=True,
    any_port=True,
    allowed_private_hosts=frozenset({"127.0.0.0/8", "localhost"}),
)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def send_tls(authority: Authority, make_sender: MakeSender) -> SendTo:
    sender = make_sender(
        policy=TLS, ca_file=str(authority.ca_file), resolver=at("127.0.0.1"), deadline_seconds=2
    )

    def send(url: str) -> transport.Attempt:
        return sender.send(a_request(url))

    return send


def test_tls_names_the_urls_host_and_keeps_the_connection(
    authority: Authority, send_tls: SendTo
) -> None:
    names: list[str | None] = []
    context = authority.context("hooks.example.com")
    context.sni_callback = lambda _sock, name, _context: names.append(name)
    with Peer(answering(answer()), tls=context) as peer:
        for _ in range(3):
            attempt = send_tls(peer.url(host="hooks.example.com"))
            assert attempt.outcome is Outcome.DELIVERED
    assert names == ["hooks.example.com"]
    assert peer.requests[0].headers["host"] == f"hooks.example.com:{peer.port}"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"self_signed": True}, "self-signed certificate"),
        ({"expired": True}, "certificate has expired"),
        ({"host": "other.example.com"}, "Hostname mismatch"),
        ({"alternative_name": False}, "Hostname mismatch"),
    ],
)
def test_certificate_that_proves_nothing_is_a_tls_error(
    fault: dict[str, Any], message: str, authority: Authority, send_tls: SendTo
) -> None:
    with Peer(answering(answer()), tls=authority.context(**fault)) as peer:
        attempt = send_tls(peer.url(host="localhost"))
    assert attempt.outcome is Outcome.TLS_ERROR
    assert message in str(attempt.error)
    assert not peer.requests


def test_certificate_of_an_authority_that_is_not_trusted_is_a_tls_error(
    authority: Authority, make_sender: MakeSender
) -> None:
    sender = make_sender(policy=TLS, resolver=at("127.0.0.1"), deadline_seconds=2)
    with Peer(answering(answer()), tls=authority.context()) as peer:
        assert sender.send(a_request(peer.url(host="localhost"))).outcome is Outcome.TLS_ERROR


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_tls_1_0_is_a_tls_error(authority: Authority, send_tls: SendTo) -> None:
    context = authority.context()
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with Peer(answering(answer()), tls=context) as peer:
        assert send_tls(peer.url(host="localhost")).outcome is Outcome.TLS_ERROR


def test_plain_http_behind_https_is_a_tls_error(send_tls: SendTo) -> None:
    def script(peer: Peer, wire: Wire) -> None:
        wire.sock.recv(10)
        wire.send(answer(400))

    with Peer(script) as peer:
        url = peer.url(host="localhost").replace("http:", "https:")
        assert send_tls(url).outcome is Outcome.TLS_ERROR


def test_handshake_that_drips_is_a_timeout(authority: Authority, make_sender: MakeSender) -> None:
    def script(_: Peer, wire: Wire) -> None:
        wire.sock.recv(10)
        # A record header that announces 16 KiB of handshake, and then a byte now and then.
        wire.drip(b"\x16\x03\x03\x40\x00" + b"\x02" * 1000, every=0.02)

    sender = make_sender(policy=TLS, resolver=at("127.0.0.1"))
    with Peer(script) as peer:
        url = peer.url(host="localhost").replace("http:", "https:")
        attempt = sender.send(a_request(url))
    assert attempt.outcome is Outcome.TIMEOUT
    assert "while shaking hands" in str(attempt.error)
    assert attempt.latency_ms < 10_000  # without a limit it ends with the peer, after 20 s


def test_header_drip_under_tls_is_a_timeout(authority: Authority, make_sender: MakeSender) -> None:
    def script(peer: Peer, wire: Wire) -> None:
        peer.read_request(wire)
        wire.drip(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1000, every=0.02)

    sender = make_sender(
        policy=TLS, ca_file=str(authority.ca_file), resolver=at("127.0.0.1"), deadline_seconds=1
    )
    with Peer(script, tls=authority.context()) as peer:
        attempt = sender.send(a_request(peer.url(host="localhost")))
    assert attempt.outcome is Outcome.TIMEOUT
    assert attempt.latency_ms < 10_000


def test_stale_tls_connection_is_replaced_within_the_attempt(
    authority: Authority, send_tls: SendTo
) -> None:
    def script(peer: Peer, wire: Wire) -> None:
        peer.read_request(wire)
        wire.send(answer())
        peer.read_request(wire)

    with Peer(script, tls=authority.context()) as peer:
        for _ in range(2):
            assert send_tls(peer.url(host="localhost")).outcome is Outcome.DELIVERED
    assert peer.connections == 2


def test_hang_up_after_the_handshake_is_a_connection_error(
    authority: Authority, send_tls: SendTo
) -> None:
    def script(peer: Peer, wire: Wire) -> None:
        peer.read_request(wire)

    with Peer(script, tls=authority.context()) as peer:
        assert send_tls(peer.url(host="localhost")).outcome is Outcome.CONNECTION_ERROR


@pytest.mark.parametrize(
    ("said", "outcome"),
    [(answer(413, b"too large"), Outcome.HTTP_ERROR), (b"", Outcome.CONNECTION_ERROR)],
)
def test_of_a_peer_that_closes_before_the_body_was_read_the_answer_counts(
    said: bytes, outcome: Outcome, authority: Authority, make_sender: MakeSender
) -> None:
    def script(_: Peer, wire: Wire) -> None:
        # Else it may wait behind TLS's own first words, and go with the close unsent.
        wire.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire.sock.recv(100)
        wire.send(said)

    sender = make_sender(
        policy=TLS, ca_file=str(authority.ca_file), resolver=at("127.0.0.1"), deadline_seconds=15
    )
    with Peer(script, tls=authority.context()) as peer:
        request = a_request(peer.url(host="localhost"), body=b"x" * 4 * 1024 * 1024)
        assert sender.send(request).outcome is outcome
