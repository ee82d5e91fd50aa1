"""The lines of a file: plain or gzip, UTF-8 or marked UTF-16, one at a time, none too long."""

import codecs
import contextlib
import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, cast

STDIN: Final = "-"

LONGEST_LINE: Final = 1024 * 1024
"""Characters of a line. A usage event is at most some 20,000."""

HEAD: Final = 4096
"""Bytes that tell what kind of file it is."""

GZIP: Final = b"\x1f\x8b"
DAMAGED: Final = "the gzip data is damaged or cut off"

UTF8: Final = "utf-8-sig"
"""With or without the mark that spreadsheets put in front."""

UTF16: Final = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


class UnusableFile(RuntimeError):
    """A file of usage can not be read, or not in the way it was asked for.

    Args:
        name: the file, as it was given.
        reason: what is wrong and what would be right.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name


class Lines:
    """The lines of an open file, with their ends, counted as they are taken.

    A line that is too long, or not in the file's encoding, is not an error here: what is left of it
    comes with `fault` set, so that it costs only itself.
    """

    def __init__(self, name: str, raw: io.BufferedReader, stream: io.TextIOWrapper) -> None:
        self.name = name
        self.number = 0
        self.fault: str | None = None
        self._raw = raw
        self._stream = stream

    def __iter__(self) -> "Lines":
        return self

    def __next__(self) -> str:
        line = self._read()
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) == LONGEST_LINE and line[-1] not in "\r\n":
            self._skip_rest()
            self.fault = f"is longer than {LONGEST_LINE:,} characters"
            return "\n"
        if not line.isascii() and _has_surrogates(line):
            self.fault = f"is not {_shown(self._stream.encoding)}; name its encoding (--encoding)"
        return line

    def taken(self) -> int:
        """Return the bytes of the file that have been read; of a gzip file the packed ones."""
        return self._raw.tell() if self._raw.seekable() else 0

    def _read(self) -> str:
        try:
            return self._stream.readline(LONGEST_LINE)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            reason = DAMAGED
        except UnicodeDecodeError as error:
            reason = f"is not {_shown(error.encoding)}; name its encoding (--encoding)"
        except OSError as error:
            reason = error.strerror or str(error)
        raise UnusableFile(self.name, f"after line {self.number:,}: {reason}")

    def _skip_rest(self) -> None:
        while (rest := self._read()) and rest[-1] not in "\r\n":
            pass


@contextlib.contextmanager
def opened(name: str, *, encoding: str | None = None) -> Iterator[Lines]:
    """Open a file, or standard input as "-", for reading line by line.

    Args:
        encoding: of its text; None is UTF-8, or what a byte order mark at its start says.

    Raises:
        UnusableFile: there is none, it may not be read, or it is no text.
    """
    with _raw(name) as raw:
        packed = raw.peek(len(GZIP)).startswith(GZIP)
        binary = gzip.GzipFile(fileobj=raw) if packed else raw
        chosen = encoding or _encoding(name, binary)
        # What can not be decoded is marked, so that it costs its line and not the file.
        stream = io.TextIOWrapper(
            cast("BinaryIO", binary), chosen, errors="surrogateescape", newline=""
        )
        try:
            yield Lines(name, raw, stream)
        finally:
            stream.detach()


def size(name: str) -> int | None:
    """Return the bytes of a file; None where nobody can know."""
    return Path(name).stat().st_size if Path(name).is_file() else None


def is_read_once(name: str) -> bool:
    """Tell whether what has been read of a file is gone: a pipe, a terminal."""
    return name == STDIN or Path(name).is_fifo() or Path(name).is_char_device()


def encoding(name: str) -> str:
    """Return an encoding of text by one of its names; of UTF-8 the one that skips its mark.

    Raises:
        LookupError: there is none by that name.
    """
    found = codecs.lookup(name).name
    "".encode(found)  # some are of bytes to bytes, which is a LookupError too
    return UTF8 if found == "utf-8" else found


@contextlib.contextmanager
def _raw(name: str) -> Iterator[io.BufferedReader]:
    if name == STDIN:
        yield cast("io.BufferedReader", sys.stdin.buffer)
        return
    try:
        file = Path(name).open("rb")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise UnusableFile(name, error.strerror or str(error)) from None
    with file:
        yield file


def _encoding(name: str, binary: io.BufferedReader | gzip.GzipFile) -> str:
    try:
        start = binary.peek(HEAD)[:HEAD]
    except (EOFError, OSError, zlib.error):
        raise UnusableFile(name, DAMAGED) from None
    for mark, encoding in UTF16.items():
        if start.startswith(mark):
            return encoding
    if b"\0" in start:
        raise UnusableFile(name, "is no text; export it as CSV or JSON lines, UTF-8")
    return UTF8


def _shown(encoding: str) -> str:
    return encoding.upper().removesuffix("-SIG")


def _has_surrogates(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
