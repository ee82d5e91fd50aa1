"""The answer that counts: interim ones are passed over, and a head has a limit."""

import http.client
from io import BufferedReader
from typing import Final

INTERIM_MAX: Final = 64
"""Answers "100 Continue", "102 Processing" and "103 Early Hints" read before the final one."""
HEAD_BYTES: Final = 65_536
"""The most that is read of a head, with the interim answers before it.

http.client would read 101 lines of as much each, and parsing makes five copies of them.
"""


class NoFinalAnswer(TimeoutError):
    """The peer keeps sending interim answers: it may go on so until the deadline."""


class HeadTooLong(http.client.HTTPException):
    """The peer's head is larger than anything that is read of one."""


class FinalResponse(http.client.HTTPResponse):
    """A response that waits for the final answer.

    http.client skips 100 alone, and takes 102 and 103 for final; it also skips without an end.
    """

    def begin(self) -> None:
        """Read the head. Raises `HeadTooLong` for more than `HEAD_BYTES`."""
        whole = self.fp
        self.fp = _Head(whole)  # type: ignore[assignment]
        try:
            super().begin()
        finally:
            if self.fp is not None:  # else it was closed
                self.fp = whole

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(INTERIM_MAX + 1):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if status not in (100, 102, 103):
                return version, status, reason
            http.client.parse_headers(self.fp)
        raise NoFinalAnswer(f"{INTERIM_MAX} interim answers and no final one")


class _Head:
    """The part of an answer that is read line by line, as far as it is read at all."""

    def __init__(self, stream: BufferedReader) -> None:
        self._stream = stream
        self._left = HEAD_BYTES
        self.close = stream.close

    def readline(self, most: int) -> bytes:
        """Return the next line, `most` bytes of it. Raises `HeadTooLong` past the end."""
        line = self._stream.readline(min(most, self._left + 1))
        self._left -= len(line)
        if self._left < 0:
            raise HeadTooLong(f"a head of more than {HEAD_BYTES} bytes")
        return line
