"""The fault table, as far as one HTTP attempt goes: a hostile peer and the outcome expected."""

import gzip
import random
import re
import threading
import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from tests.integration.webhooks.conftest import DEADLINE, MakeSender, SendTo, a_request
from tests.integration.webhooks.peers import (
    Peer,
    Wire,
    answer,
    answering,
    answering_once,
    closed_port,
)
from webhooks import adapter
from webhooks.adapter import EXCERPT_BYTES
from webhooks.final_response import HEAD_BYTES
from webhooks.transport import Outcome

Script = Callable[[Peer, Wire], None]


def then(play: Callable[[Wire], None]) -> Script:
    """Read the request, then `play`."""

    def script(peer: Peer, wire: Wire) -> None:
        peer.read_request(wire)
        play(wire)

    return script


# --- slow peers


def never_answers(wire: Wire) -> None:
    wire.wait()


def drips_the_status_line(wire: Wire) -> None:
    wire.drip(b"HTTP/1.1 200 " + b"O" * 1000, every=0.02)


def drips_headers(wire: Wire) -> None:
    wire.send(b"HTTP/1.1 200 OK\r\n")
    wire.drip(b"X-Slow: " + b"y" * 1000, every=0.02)


def sends_headers_without_end(wire: Wire) -> None:
    wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n")
    wire.wait()


def continues_slowly_for_ever(wire: Wire) -> None:
    for _ in range(1000):
        wire.drip(b"HTTP/1.1 100 Continue\r\n\r\n", every=0.001)


def continues_quickly_for_ever(wire: Wire) -> None:
    wire.pour(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


def hints_for_ever(wire: Wire) -> None:
    wire.pour(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 100)


@pytest.mark.parametrize(
    "play",
    [
        never_answers,
        drips_the_status_line,
        drips_headers,
        sends_headers_without_end,
        continues_slowly_for_ever,
        continues_quickly_for_ever,
        hints_for_ever,
    ],
)
def test_peer_without_a_complete_head_in_time_is_a_timeout(
    play: Callable[[Wire], None], send_to: SendTo
) -> None:
    with Peer(then(play)) as peer:
        attempt = send_to(peer.url())
    assert (attempt.outcome, attempt.status) == (Outcome.TIMEOUT, None)
    assert attempt.latency_ms < 10_000  # without the watchdog it ends with the peer, after 20 s
    assert attempt.error


def test_peer_that_never_reads_a_large_body_is_a_timeout(send_to: SendTo) -> None:
    def script(_: Peer, wire: Wire) -> None:
        wire.stopped.wait(20)

    with Peer(script) as peer:
        attempt = send_to(peer.url(), body=b"x" * 8 * 1024 * 1024)
    assert attempt.outcome is Outcome.TIMEOUT
    assert "while sending the request" in str(attempt.error)
    assert attempt.latency_ms >= 1000 * DEADLINE


def test_a_200_that_comes_with_the_end_of_a_late_head_is_still_a_timeout(send_to: SendTo) -> None:
    # Shutting the socket ends the headers early, and http.client then reports this very 200.
    with Peer(then(sends_headers_without_end)) as peer:
        attempt = send_to(peer.url())
    assert (attempt.outcome, attempt.status) == (Outcome.TIMEOUT, None)


def test_body_drip_after_a_200_head_is_delivered_with_the_body_cut(send_to: SendTo) -> None:
    def play(wire: Wire) -> None:
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
        wire.drip(b"a" * 5000, every=0.02)

    with Peer(then(play)) as peer:
        attempt = send_to(peer.url())
    assert (attempt.outcome, attempt.status) == (Outcome.DELIVERED, 200)
    assert re.fullmatch("a+", attempt.response_excerpt)


def test_silence_after_a_200_head_is_delivered(send_to: SendTo) -> None:
    def play(wire: Wire) -> None:
        wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        wire.wait()

    with Peer(then(play)) as peer:
        assert send_to(peer.url()).outcome is Outcome.DELIVERED


def test_peer_with_nothing_but_interim_answers_is_not_waited_for(make_sender: MakeSender) -> None:
    def play(wire: Wire) -> None:
        wire.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 65)
        wire.wait()

    sender = make_sender(deadline_seconds=20)
    with Peer(then(play)) as peer:
        attempt = sender.send(a_request(peer.url()))
    assert (attempt.outcome, attempt.status) == (Outcome.TIMEOUT, None)
    assert attempt.error == "64 interim answers and no final one"


def test_body_is_not_waited_for_as_long_as_a_head(
    make_sender: MakeSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "BODY_SECONDS", 0.1)

    def play(wire: Wire) -> None:
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\npart")
        wire.wait()

    sender = make_sender(deadline_seconds=20)
    started = time.monotonic()
    with Peer(then(play)) as peer:
        attempt = sender.send(a_request(peer.url()))
    assert (attempt.outcome, attempt.response_excerpt) == (Outcome.DELIVERED, "part")
    assert time.monotonic() - started < 10  # with the head's deadline it is 20


# --- bodies


@pytest.mark.parametrize(
    "framing", ["Content-Length: 99999999999", "Connection: close", "Transfer-Encoding: chunked"]
)
@pytest.mark.parametrize("status", [200, 500])
def test_of_an_endless_body_16_kib_are_read(framing: str, status: int, send_to: SendTo) -> None:
    def play(wire: Wire) -> None:
        wire.send(f"HTTP/1.1 {status} X\r\n{framing}\r\n\r\n".encode())
        piece = b"z" * 4096
        wire.pour(b"1000\r\n" + piece + b"\r\n" if "chunked" in framing else piece)

    with Peer(then(play)) as peer:
        attempt = send_to(peer.url())
    assert attempt.status == status
    assert attempt.response_excerpt == "z" * EXCERPT_BYTES


def test_endless_redirect_body_is_not_buffered(send_to: SendTo) -> None:
    def play(wire: Wire) -> None:
        wire.send(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n")
        wire.pour(b"z" * 65536)

    with Peer(then(play)) as peer:
        send_to(peer.url())
        tracemalloc.start()
        try:
            attempt = send_to(peer.url())
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert (attempt.outcome, attempt.status) == (Outcome.HTTP_ERROR, 302)
    assert peak < 2 * 1024 * 1024


def test_gzip_bomb_is_not_decoded(send_to: SendTo) -> None:
    bomb = gzip.compress(bytes(50 * 1024 * 1024))
    with Peer(answering(answer(200, bomb, "Content-Encoding: gzip"))) as peer:
        attempt = send_to(peer.url())
    assert attempt.outcome is Outcome.DELIVERED
    assert len(attempt.response_excerpt.encode()) <= EXCERPT_BYTES


def test_excerpt_is_text_a_database_and_a_terminal_can_take(send_to: SendTo) -> None:
    body = "a\0b\x1b[31m\x9b\u202ec\r\nü🥳".encode() + b"\xff"
    with Peer(answering(answer(500, body))) as peer:
        assert send_to(peer.url()).response_excerpt == "ab[31mc\nü🥳\ufffd"


def test_excerpt_of_broken_text_stays_within_its_bytes(send_to: SendTo) -> None:
    with Peer(answering(answer(500, b"\xff" * EXCERPT_BYTES))) as peer:
        excerpt = send_to(peer.url()).response_excerpt
    assert EXCERPT_BYTES - 3 < len(excerpt.encode()) <= EXCERPT_BYTES


# --- statuses


@pytest.mark.parametrize(
    "interim",
    [
        b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 20,
    ],
)
def test_interim_answers_are_skipped(interim: bytes, send_to: SendTo) -> None:
    with Peer(answering(interim + answer(204, b""))) as peer:
        attempt = send_to(peer.url())
    assert (attempt.outcome, attempt.status) == (Outcome.DELIVERED, 204)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_is_delivered(status: int, send_to: SendTo) -> None:
    with Peer(answering(answer(status, b""))) as peer:
        attempt = send_to(peer.url())
    assert (attempt.outcome, attempt.status, attempt.error) == (Outcome.DELIVERED, status, None)


@pytest.mark.parametrize("status", [101, 199, 300, 304, 400, 404, 429, 500, 503, 600, 999])
def test_any_other_status_is_an_http_error(status: int, send_to: SendTo) -> None:
    with Peer(answering(answer(status, b""))) as peer:
        attempt = send_to(peer.url())
    assert (attempt.outcome, attempt.status) == (Outcome.HTTP_ERROR, status)
    assert attempt.error == f"answered with status {status}"


def test_410_is_gone(send_to: SendTo) -> None:
    with Peer(answering(answer(410))) as peer:
        assert send_to(peer.url()).outcome is Outcome.GONE


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_an_error_and_its_target_is_never_contacted(
    status: int, send_to: SendTo
) -> None:
    with Peer(answering(answer())) as target:
        for location in (target.url(), "http://169.254.169.254/latest/", "http://[", "\xff\xfe"):
            with Peer(answering(answer(status, b"", f"Location: {location}"))) as peer:
                attempt = send_to(peer.url())
            assert (attempt.outcome, attempt.status) == (Outcome.HTTP_ERROR, status)
    assert target.connections == 0


# --- connections


def test_closed_port_is_a_connection_error(send_to: SendTo) -> None:
    with closed_port() as port:
        attempt = send_to(f"http://127.0.0.1:{port}/")
    assert attempt.outcome is Outcome.CONNECTION_ERROR
    assert "connecting: ConnectionRefusedError" in str(attempt.error)


@pytest.mark.parametrize("read_first", [True, False])
@pytest.mark.parametrize("rudely", [True, False])
def test_close_or_reset_before_a_byte_is_a_connection_error(
    read_first: bool, rudely: bool, send_to: SendTo
) -> None:
    def script(peer: Peer, wire: Wire) -> None:
        if read_first:
            peer.read_request(wire)
        if rudely:
            wire.reset()

    with Peer(script) as peer:
        attempt = send_to(peer.url())
    assert (attempt.outcome, attempt.status) == (Outcome.CONNECTION_ERROR, None)
    assert peer.connections == 1


def test_head_cut_by_a_close_is_no_success(send_to: SendTo) -> None:
    with Peer(answering_once(b"HTTP/1.1 2")) as peer:
        assert send_to(peer.url()).outcome is Outcome.PROTOCOL_ERROR


def test_answer_given_before_the_body_was_read_counts(send_to: SendTo) -> None:
    def script(peer: Peer, wire: Wire) -> None:
        wire.sock.recv(100)
        wire.send(answer(413, b"too large"))

    with Peer(script) as peer:
        attempt = send_to(peer.url(), body=b"x" * 4 * 1024 * 1024)
    assert (attempt.outcome, attempt.status) == (Outcome.HTTP_ERROR, 413)


def test_connection_is_kept_for_the_next_attempt(send_to: SendTo) -> None:
    with Peer(answering(answer(200), answer(500), answer(204, b""), answer(302))) as peer:
        for _ in range(6):
            send_to(peer.url())
    assert (len(peer.requests), peer.connections) == (6, 1)


def test_chunked_answer_read_to_its_end_keeps_the_connection(send_to: SendTo) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    with Peer(answering(chunked)) as peer:
        assert send_to(peer.url()).response_excerpt == "ok"
        assert send_to(peer.url()).response_excerpt == "ok"
    assert peer.connections == 1


@pytest.mark.parametrize(
    "first", [answer(200, b"x" * 20_000), answer(200, b"ok", "Connection: close"), answer(101, b"")]
)
def test_connection_that_is_not_clean_is_not_kept(first: bytes, send_to: SendTo) -> None:
    with Peer(answering(first, answer())) as peer:
        send_to(peer.url())
        assert send_to(peer.url()).outcome is Outcome.DELIVERED
    assert peer.connections == 2


def test_connection_with_an_unfinished_body_is_not_kept(send_to: SendTo) -> None:
    def play(wire: Wire) -> None:
        wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4000\r\n" + b"z" * 0x4000)
        wire.wait()

    with Peer(then(play)) as peer:
        for _ in range(2):
            assert send_to(peer.url()).outcome is Outcome.DELIVERED
    assert peer.connections == 2


def test_answer_sent_out_of_turn_is_not_taken_for_the_next_ones(send_to: SendTo) -> None:
    first_is_read, second_is_there = threading.Event(), threading.Event()

    def play(wire: Wire) -> None:
        wire.send(answer(500))
        first_is_read.wait(20)
        wire.send(answer(200))
        second_is_there.set()
        wire.wait()

    with Peer(then(play)) as peer:
        assert send_to(peer.url()).status == 500
        first_is_read.set()
        assert second_is_there.wait(20)
        first_is_read.clear()
        assert send_to(peer.url()).status == 500
        first_is_read.set()


def test_stale_connection_is_replaced_once_within_the_same_attempt(send_to: SendTo) -> None:
    """The peer closes only when the second request is there, so no check beforehand can see it."""

    def script(peer: Peer, wire: Wire) -> None:
        peer.read_request(wire)
        wire.send(answer())
        peer.read_request(wire)

    with Peer(script) as peer:
        assert send_to(peer.url()).outcome is Outcome.DELIVERED
        assert send_to(peer.url()).outcome is Outcome.DELIVERED
    assert peer.connections == 2
    assert len(peer.requests) == 3


def test_peer_that_hangs_up_on_the_fresh_connection_too_is_an_error(send_to: SendTo) -> None:
    def script(peer: Peer, wire: Wire) -> None:
        if peer.connections == 1:
            peer.read_request(wire)
            wire.send(answer())
        peer.read_request(wire)

    with Peer(script) as peer:
        assert send_to(peer.url()).outcome is Outcome.DELIVERED
        assert send_to(peer.url()).outcome is Outcome.CONNECTION_ERROR
    assert peer.connections == 2


def test_reused_connection_that_goes_silent_is_a_timeout_and_not_tried_again(
    send_to: SendTo,
) -> None:
    def script(peer: Peer, wire: Wire) -> None:
        peer.read_request(wire)
        wire.send(answer())
        peer.read_request(wire)
        wire.wait()

    with Peer(script) as peer:
        assert send_to(peer.url()).outcome is Outcome.DELIVERED
        assert send_to(peer.url()).outcome is Outcome.TIMEOUT
    assert peer.connections == 1


def test_reused_connection_that_never_comes_to_the_point_is_not_tried_again(
    make_sender: MakeSender,
) -> None:
    def script(peer: Peer, wire: Wire) -> None:
        peer.read_request(wire)
        wire.send(answer())
        peer.read_request(wire)
        continues_quickly_for_ever(wire)

    sender = make_sender(deadline_seconds=20)
    with Peer(script) as peer:
        assert sender.send(a_request(peer.url())).outcome is Outcome.DELIVERED
        assert sender.send(a_request(peer.url())).outcome is Outcome.TIMEOUT
    assert peer.connections == 1


def test_one_sender_serves_many_threads(make_sender: MakeSender) -> None:
    sender = make_sender(deadline_seconds=10)
    outcomes: list[Outcome] = []
    with Peer(answering(answer())) as peer:
        request = a_request(peer.url())

        def work() -> None:
            outcomes.extend(sender.send(request).outcome for _ in range(10))

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert outcomes == [Outcome.DELIVERED] * 80
    assert peer.connections <= 8


def test_slow_peers_in_many_threads_all_end(make_sender: MakeSender) -> None:
    sender = make_sender()
    outcomes: list[Outcome] = []
    with Peer(then(drips_headers)) as peer:
        request = a_request(peer.url())
        threads = [
            threading.Thread(target=lambda: outcomes.append(sender.send(request).outcome))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert outcomes == [Outcome.TIMEOUT] * 8


# --- nonsense


@pytest.mark.parametrize(
    "nonsense",
    [
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"\x1b[2J\x1b[31mSSH " + b"x" * 400 + b"\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" * 5,
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 99 OK\r\n\r\n",
        b"HTTP/1.1 1000 OK\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"\r\n\r\n\r\n",
        b"<html>hello</html>",
        b"HTTP/1.1 200 " + b"O" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nok",
    ],
)
def test_what_is_not_http_is_an_outcome_and_not_an_exception(
    nonsense: bytes, send_to: SendTo
) -> None:
    with Peer(answering_once(nonsense)) as peer:
        attempt = send_to(peer.url())
    assert (attempt.outcome, attempt.status) == (Outcome.PROTOCOL_ERROR, None)
    assert attempt.error
    assert attempt.error.isprintable()
    assert len(attempt.error) <= 300


@pytest.mark.parametrize(
    "odd",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 70_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n3\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n: nameless\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n folded: first\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-\xff\xfe: \xff\x00\xfe\r\nContent-Type: \xff;;=\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: multipart/mixed; boundary=\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: message/rfc822\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nSet-Cookie: \xff=\x00; expires=never; max-age=x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nLocation: http://[::1\r\n\r\n",
        b"HTTP/1.0 200\r\n\r\n",
        b"HTTP/1.1 200 \xff\xfe\r\n\r\n",
    ],
)
def test_complete_2xx_head_is_a_delivery_whatever_else_is_wrong(
    odd: bytes, send_to: SendTo
) -> None:
    with Peer(answering_once(odd)) as peer:
        attempt = send_to(peer.url())
    assert (attempt.outcome, attempt.status) == (Outcome.DELIVERED, 200)


def test_random_answers_never_raise(send_to: SendTo) -> None:
    rng = random.Random(20260301)
    pieces = [
        b"HTTP/1.1 ", b"200 OK", b"\r\n", b"\n", b"\r", b"Content-Length: ", b"0", b"7", b"-1",
        b"Transfer-Encoding: chunked", b"Location: ", b"http://[", b"\xff\xfe", b"\x00", b": ",
        b"Set-Cookie: a=b", b"5\r\nhello\r\n", b"0\r\n\r\n", b"Content-Type: ", b"Retry-After: ",
    ]  # fmt: skip

    def script(peer: Peer, wire: Wire) -> None:
        peer.read_request(wire)
        wire.send(b"HTTP/1.1 200 OK\r\n" * rng.randint(0, 1))
        wire.send(b"".join(rng.choices(pieces, k=rng.randint(1, 25))))

    with Peer(script) as peer:
        outcomes = {send_to(peer.url()).outcome for _ in range(150)}
    assert {Outcome.DELIVERED, Outcome.PROTOCOL_ERROR} <= outcomes


def a_head(of: int, *, before: bytes = b"") -> bytes:
    """A head of so many bytes, interim answers before it included, in lines of up to 60,000."""
    first, last = before + b"HTTP/1.1 200 OK\r\n", b"Content-Length: 0\r\n\r\n"
    left, lines = of - len(first) - len(last), []
    while left:
        size = left if left <= 60_000 else min(left - 10, 60_000)
        lines.append(b"X: " + b"y" * (size - 5) + b"\r\n")
        left -= size
    return first + b"".join(lines) + last


INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </" + b"z" * 5_000 + b">\r\n\r\n"


@pytest.mark.parametrize("before", [b"", INTERIM, INTERIM * 5])
def test_a_head_is_read_up_to_its_limit_and_no_further(before: bytes, send_to: SendTo) -> None:
    with Peer(answering_once(a_head(HEAD_BYTES, before=before))) as peer:
        assert send_to(peer.url()).outcome is Outcome.DELIVERED
    with Peer(answering_once(a_head(HEAD_BYTES + 1, before=before))) as peer:
        attempt = send_to(peer.url())
    assert (attempt.outcome, attempt.status) == (Outcome.PROTOCOL_ERROR, None)
    assert attempt.error == (
        f"not an HTTP/1.1 answer: HeadTooLong: a head of more than {HEAD_BYTES} bytes"
    )


def test_hostile_heads_do_not_grow_memory(send_to: SendTo) -> None:
    head = b"HTTP/1.1 200 OK\r\n" + (b"X: " + b"y" * 60_000 + b"\r\n") * 1000 + b"\r\n"
    with Peer(answering_once(head)) as peer:
        send_to(peer.url())
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            for _ in range(5):
                assert send_to(peer.url()).outcome is Outcome.PROTOCOL_ERROR
            after, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert after - before < 1024 * 1024
    # What is read, its copies while it is parsed, and the peer's part in this process.
    assert peak - before < 8 * HEAD_BYTES


# --- Retry-After

SENT_AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
IN_AN_HOUR = format_datetime(SENT_AT + timedelta(hours=1), usegmt=True)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        (["Retry-After: 3600"], timedelta(hours=1)),
        ([f"Retry-After: {IN_AN_HOUR}"], timedelta(hours=1)),
        (["Retry-After: 1000000000"], timedelta(hours=24)),
        (["Retry-After: 1e9"], None),
        (["Retry-After: -5"], None),
        (["Retry-After: \xff"], None),
        (["Retry-After: 5", "Retry-After: 3600"], None),
        ([f"Retry-After: {IN_AN_HOUR}", f"Retry-After: {IN_AN_HOUR}"], None),
        ([], None),
    ],
)
def test_retry_after_is_read_from_the_answer(
    headers: list[str], wait: timedelta | None, send_to: SendTo
) -> None:
    with Peer(answering(answer(503, b"", *headers))) as peer:
        attempt = send_to(peer.url(), timestamp=int(SENT_AT.timestamp()))
    assert (attempt.outcome, attempt.retry_after) == (Outcome.HTTP_ERROR, wait)
