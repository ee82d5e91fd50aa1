"""TLS before servers that have none: certificates of a test's own, and a front that unwraps."""

import asyncio
import contextlib
import datetime as dt
import ipaddress
import ssl
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOST: Final = "127.0.0.1"

SSL_REQUEST: Final = (80877103).to_bytes(4, "big")
"""What a client of PostgreSQL asks before anything else, behind a length."""

READ_BYTES: Final = 65_536

ROUNDS: Final = 10


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, in files."""

    certificate: Path
    key: Path


class Authority:
    """A CA that nobody knows but the test."""

    def __init__(self, folder: Path, name: str) -> None:
        """Make it; its files lie in the folder."""
        self._folder, self._name = folder, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(name, name, self._key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.file = folder / f"{name}.pem"
        certificate = builder.sign(self._key, hashes.SHA256())
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, *, host: str = HOST) -> Pair:
        """Return a certificate for a host's address, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))])
        builder = _builder(name, self._name, key.public_key()).add_extension(
            address, critical=False
        )
        made = Pair(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        certificate = builder.sign(self._key, hashes.SHA256())
        made.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        made.key.touch(mode=0o600)
        made.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return made


def _builder(subject: str, issuer: str, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    day = dt.timedelta(days=1)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
    )


@dataclass(slots=True)
class Front:
    """Where clients connect by TLS."""

    port: int = 0


@contextlib.contextmanager
def front(
    backend: int, server: Pair, *, asked_first: bool = False, clients_of: Authority | None = None
) -> Iterator[Front]:
    """Take TLS on a port of its own, and hand what comes on to a server on this machine.

    Args:
        backend: the server's port.
        asked_first: whether clients ask in the clear whether there is TLS, as PostgreSQL's do.
        clients_of: the authority of which clients must show a certificate.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(server.certificate, server.key)
    if clients_of is not None:
        context.load_verify_locations(clients_of.file)
        context.verify_mode = ssl.CERT_REQUIRED
    opened, streams = Front(), list[asyncio.StreamWriter]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        streams.append(writer)
        # What a client or the server breaks off is theirs to tell.
        with contextlib.suppress(OSError, EOFError):
            if asked_first:
                if (await reader.readexactly(8))[4:] != SSL_REQUEST:
                    writer.close()
                    return
                writer.write(b"S")
                await writer.drain()
            await writer.start_tls(context)
            behind_reader, behind_writer = await asyncio.open_connection(HOST, backend)
            streams.append(behind_writer)
            await asyncio.gather(_pump(reader, behind_writer), _pump(behind_reader, writer))

    with _loop() as loop:
        listening = asyncio.run_coroutine_threadsafe(asyncio.start_server(serve, HOST, 0), loop)
        listener = listening.result()
        opened.port = listener.sockets[0].getsockname()[1]
        yield opened
        asyncio.run_coroutine_threadsafe(_end(listener, streams), loop).result()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, EOFError):
        while chunk := await reader.read(READ_BYTES):
            writer.write(chunk)
            await writer.drain()
    writer.close()


@contextlib.contextmanager
def _loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    # A handshake that a client breaks off is no fault of ours: it is told to the client.
    loop.set_exception_handler(lambda *_: None)
    thread = threading.Thread(target=loop.run_forever, name="tls-front", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end(listener: asyncio.Server, streams: Iterable[asyncio.StreamWriter]) -> None:
    listener.close()
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    for stream in streams:
        stream.transport.abort()
    # A socket is closed by what its abortion has put on the loop.
    for _ in range(ROUNDS):
        await asyncio.sleep(0)
