"""The transport adapter under `requests`: checked addresses, one deadline, small answers.

A Session would add what a webhook sender must not have: ~/.netrc credentials, proxy variables,
cookies shared between tenants, redirects. So prepared requests are handed to this adapter without
one, which is also the cheapest way to send them.
"""

import contextlib
import functools
import http.client
import io
import ssl
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import requests
import requests.adapters
import requests.utils
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPResponse
from urllib3.exceptions import HTTPError

from webhooks import guard
from webhooks.idle import Idle
from webhooks.wire import Call, Connection, PlainConnection, TlsConnection, Watchdog

EXCERPT_BYTES: Final = 16_384
"""The most that is read of any answer's body, raw: neither decoded nor decompressed."""
BODY_SECONDS: Final = 2.0
"""The most that is waited for a body once the head has decided the outcome."""


class Post(requests.PreparedRequest):
    """A request ready to be sent, and the call it is part of.

    Args:
        method: POST, unless something is only asked for.
        most_bytes, body_seconds: how much is read of the answer's body, and how long it is waited
            for once the head is in; by the deadline at the latest.
    """

    def __init__(
        self,
        call: Call,
        headers: Mapping[str, str],
        body: bytes,
        *,
        method: str = "POST",
        most_bytes: int = EXCERPT_BYTES,
        body_seconds: float = BODY_SECONDS,
    ) -> None:
        super().__init__()
        self.call = call
        self.verb = self.method = method
        self.most_bytes, self.body_seconds = most_bytes, body_seconds
        self.url = call.target.url
        self.headers = CaseInsensitiveDict(headers)
        self.body = self.content = body


class Adapter(requests.adapters.BaseAdapter):
    """Sends `Post` requests and keeps their connections for the next; usable from any thread."""

    def __init__(self, watchdog: Watchdog, *, ca_file: str | None = None) -> None:
        super().__init__()
        self._watchdog = watchdog
        self._ca_file = ca_file
        self._idle = Idle()

    def send(  # noqa: PLR0917 (the signature is BaseAdapter's)
        self,
        request: requests.PreparedRequest,
        stream: bool = False,  # noqa: ARG002
        timeout: Any = None,  # noqa: ARG002
        verify: Any = True,  # noqa: ARG002
        cert: Any = None,  # noqa: ARG002
        proxies: Any = None,  # noqa: ARG002
    ) -> requests.Response:
        """The answer's head and the beginning of its body; time and trust come with the call.

        Raises whatever the connection raises, and `wire.DeadlinePassed` for a head that came late.
        """
        if not isinstance(request, Post):
            raise TypeError(f"{type(request).__name__} is not a Post: it has no checked target")
        self._watchdog.add(request.call)
        try:
            return self._send(request)
        finally:
            self._watchdog.discard(request.call)

    def close(self) -> None:
        """Close the connections between attempts; those under way end with their attempt."""
        self._idle.close()

    def _send(self, post: Post) -> requests.Response:
        call = post.call
        connection, raw = self._head(post)
        try:
            # http.client takes the end of a shut socket for the end of the headers.
            call.check_in_time()
            elapsed = call.clock() - call.started
            body = _read_excerpt(raw, post)
        except BaseException:
            connection.close()
            raise
        self._watchdog.discard(call)  # from here on the connection is not the call's any more
        self._keep(connection, raw, call)
        return _response(post, raw, body, elapsed)

    def _head(self, post: Post) -> tuple[Connection, HTTPResponse]:
        call = post.call
        idle = self._idle.take(call.target, now=call.clock())
        if idle is not None:
            try:
                return idle, _exchange(idle, post)
            except OSError as error:
                if isinstance(error, TimeoutError):
                    raise
                # Peers hang up between requests, and that is no fault: once more, on a new one.
        connection = self._open(call.target)
        return connection, _exchange(connection, post)

    def _open(self, target: guard.Target) -> Connection:
        if target.scheme == "http":
            return PlainConnection(target.host, target.port)
        return TlsConnection(target.host, target.port, ssl_context=_tls_context(self._ca_file))

    def _keep(self, connection: Connection, raw: HTTPResponse, call: Call) -> None:
        """Keep a connection whose answer was final and read to its end; close any other."""
        whole = raw.closed and not raw.length_remaining and raw.status >= 200
        if whole and not call.shut and connection.sock is not None:
            self._idle.keep(call.target, connection, now=call.clock())
        else:
            raw.close()
            connection.close()


@functools.lru_cache(maxsize=8)
def _tls_context(ca_file: str | None) -> ssl.SSLContext:
    # Made by hand: ssl.create_default_context obeys SSLKEYLOGFILE, and requests the CA variables.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False
    context.load_verify_locations(cafile=ca_file or requests.utils.DEFAULT_CA_BUNDLE_PATH)
    return context


def _exchange(connection: Connection, post: Post) -> HTTPResponse:
    try:
        return connection.exchange(
            post.call,
            method=post.verb,
            path=post.call.target.path,
            headers=post.headers,
            body=post.content,
        )
    except BaseException:
        connection.close()
        raise


def _read_excerpt(raw: HTTPResponse, post: Post) -> bytes:
    """The body's beginning, or what came of it: the head has already decided the outcome."""
    call = post.call
    if raw.length_remaining != 0:
        call.shut_at = min(call.deadline, call.clock() + post.body_seconds)
    pieces = bytearray()
    # Bad chunking, resets, the watchdog: whatever cuts the body off.
    with contextlib.suppress(OSError, http.client.HTTPException, HTTPError, ValueError):
        while len(pieces) < post.most_bytes:
            piece = raw.read1(post.most_bytes - len(pieces), decode_content=False)
            if not piece:
                break
            pieces += piece
    return bytes(pieces)


def _response(post: Post, raw: HTTPResponse, body: bytes, elapsed: float) -> requests.Response:
    response = requests.Response()
    response.request = post
    response.url = post.call.target.url
    response.status_code = raw.status
    response.headers = CaseInsensitiveDict(raw.headers)
    response.raw = io.BytesIO(body)
    response.elapsed = timedelta(seconds=elapsed)
    return response
