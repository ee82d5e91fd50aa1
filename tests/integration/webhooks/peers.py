"""Far ends of a webhook: real sockets on loopback that behave, misbehave, or do neither.

A peer plays its script once per connection, on a thread of its own. A script gets the connection
and may do with it what a hostile server does; whatever error that ends in is the script's own.
"""

import contextlib
import datetime as dt
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

SCRIPT_SECONDS = 20.0
"""A script's own limit, so that no test leaves a thread behind for long."""


@dataclass
class Received:
    """One request as it came in."""

    head: bytes
    headers: dict[str, str]
    body: bytes


class Hung(Exception):
    """The other side closed."""


@dataclass
class Wire:
    """One accepted connection, in a script's hands."""

    sock: socket.socket
    stopped: threading.Event
    _buffer: bytes = b""

    def read_request(self) -> Received:
        while b"\r\n\r\n" not in self._buffer:
            self._fill()
        head, _, rest = self._buffer.partition(b"\r\n\r\n")
        self._buffer = rest
        lines = head.decode("latin-1").split("\r\n")[1:]
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        while len(self._buffer) < length:
            self._fill()
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return Received(head, headers, body)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def drip(self, data: bytes, every: float) -> None:
        for byte in data:
            self.send(bytes([byte]))
            if self.stopped.wait(every):
                return

    def pour(self, data: bytes) -> None:
        """Send the same for ever, until the other side has enough."""
        while not self.stopped.is_set():
            self.send(data)

    def wait(self) -> None:
        """Do nothing until the test is over or the other side hangs up."""
        with contextlib.suppress(OSError):
            while not self.stopped.is_set() and self.sock.recv(65536):
                pass

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.sock.close()

    def _fill(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise Hung
        self._buffer += data


Script = Callable[[Wire], None]


@dataclass
class Peer:
    """A listening socket on 127.0.0.1 that plays `script` on each connection."""

    script: Callable[["Peer", Wire], None]
    tls: ssl.SSLContext | None = None
    host: str = "127.0.0.1"
    requests: list[Received] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    _threads: list[threading.Thread] = field(default_factory=list)
    _wires: list[Wire] = field(default_factory=list)
    _stopped: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._listener = socket.create_server((self.host, 0))
        self.port = int(self._listener.getsockname()[1])
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept
        self._accepting.join()
        self._listener.close()
        for wire in self._wires:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(wire.sock, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(SCRIPT_SECONDS)
            assert not thread.is_alive()

    def url(self, path: str = "/hook", host: str | None = None) -> str:
        return f"{'https' if self.tls else 'http'}://{host or self.host}:{self.port}{path}"

    def read_request(self, wire: Wire) -> Received:
        received = wire.read_request()
        self.requests.append(received)
        return received

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.settimeout(SCRIPT_SECONDS)
            self.connections += 1
            thread = threading.Thread(target=self._play, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _play(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError, Hung):
            try:
                if self.tls is not None:
                    sock = self.tls.wrap_socket(sock, server_side=True)
                wire = Wire(sock, self._stopped)
                self._wires.append(wire)
                self.script(self, wire)
            finally:
                sock.close()


def answering(*answers: bytes) -> Callable[[Peer, Wire], None]:
    """Read a request, send the next answer (the last for ever), and so on while it is open."""

    def script(peer: Peer, wire: Wire) -> None:
        while True:
            place = len(peer.requests)
            peer.read_request(wire)
            wire.send(answers[min(place, len(answers) - 1)])

    return script


def answering_once(answer: bytes) -> Callable[[Peer, Wire], None]:
    """Read one request, send one answer and close."""

    def script(peer: Peer, wire: Wire) -> None:
        peer.read_request(wire)
        wire.send(answer)

    return script


def answer(status: int = 200, body: bytes = b"ok", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


@dataclass(frozen=True)
class Authority:
    """A certificate authority for one test run: `ca_file` is what a sender trusts."""

    ca_file: Path
    folder: Path
    _certificate: x509.Certificate
    _key: ec.EllipticCurvePrivateKey

    @classmethod
    def make(cls, folder: Path) -> "Authority":
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _certificate("test authority", key.public_key(), None, None, key, ca=True)
        path = folder / "ca.pem"
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return cls(path, folder, certificate, key)

    def context(
        self,
        host: str = "localhost",
        *,
        expired: bool = False,
        self_signed: bool = False,
        alternative_name: bool = True,
    ) -> ssl.SSLContext:
        """A server's TLS context with a certificate for `host`, or one that only is called so."""
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = None if self_signed else self._certificate
        signer = key if self_signed else self._key
        certificate = _certificate(
            host,
            key.public_key(),
            host if alternative_name else None,
            issuer,
            signer,
            expired=expired,
        )
        path = self.folder / f"{certificate.serial_number}.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context


def _certificate(
    name: str,
    public_key: ec.EllipticCurvePublicKey,
    host: str | None,
    issuer: x509.Certificate | None,
    signer: ec.EllipticCurvePrivateKey,
    *,
    ca: bool = False,
    expired: bool = False,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    day = dt.timedelta(days=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 3 * day)
        .not_valid_after(now - day if expired else now + day)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if host is not None:
        names = x509.SubjectAlternativeName([x509.DNSName(host)])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(signer, hashes.SHA256())


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """A port of 127.0.0.1 that nobody listens on, kept from others meanwhile."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield int(sock.getsockname()[1])
