"""The far end of webhooks: answers 200 to everything, as fast as one process of Python can.

Run as a process: it says its port on standard output and ends when its standard input closes.
"""

import asyncio
import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator

from worker import settings

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Answering(asyncio.Protocol):
    """One connection, over which requests come one after the other."""

    def __init__(self) -> None:
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember whom to answer."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each request that is whole."""
        self._held += data
        while (end := _end_of_request(self._held)) is not None:
            self._held = self._held[end:]
            self._transport.write(ANSWER)


ADDRESSES = [f"127.0.0.{number}" for number in range(1, 21 if sys.platform == "linux" else 2)]
"""Where it listens, on one port. Only Linux has all of 127.0.0.0/8; each is a host of its own."""


@contextlib.contextmanager
def running() -> Iterator[list[str]]:
    """Run the receiver in a process of its own and yield its URLs, one a host."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.receiver"],
        cwd=settings.ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with process.stdin:
            port = int(process.stdout.readline())
            yield [f"http://{address}:{port}" for address in ADDRESSES]


async def serve() -> None:
    """Answer until standard input closes."""
    loop = asyncio.get_running_loop()
    first, *others = ADDRESSES
    server = await loop.create_server(Answering, first, 0)
    port = server.sockets[0].getsockname()[1]
    for address in others:
        await loop.create_server(Answering, address, port)
    print(port, flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


def _end_of_request(held: bytes) -> int | None:
    head, found, body = held.partition(b"\r\n\r\n")
    if not found:
        return None
    length = _LENGTH.search(head)
    expected = int(length[1]) if length else 0
    return len(head) + 4 + expected if len(body) >= expected else None


if __name__ == "__main__":
    asyncio.run(serve())
