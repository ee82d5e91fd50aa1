"""The lines of a file: plain or gzip, UTF-8 or marked UTF-16, in bounded memory, none too long."""

import codecs
import contextlib
import gzip
import io
import sys
import zlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple, cast

STDIN: Final = "-"

LONGEST_LINE: Final = 1024 * 1024
"""Characters of a line. A usage event is at most some 20,000."""

BLOCK: Final = 64 * 1024
"""Bytes that are read and parted into lines at once."""

HEAD: Final = 4096
"""Bytes that tell what kind of file it is."""

GZIP: Final = b"\x1f\x8b"
DAMAGED: Final = "the gzip data is damaged or cut off"

UTF8: Final = "utf-8-sig"
"""With or without the mark that spreadsheets put in front."""

UTF16: Final = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


Binary = io.BufferedReader | gzip.GzipFile


class UnusableFile(RuntimeError):
    """A file of usage can not be read, or not in the way it was asked for.

    Args:
        name: the file, as it was given.
        reason: what is wrong and what would be right.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name


class _Run(NamedTuple):
    """Lines that were read together; all of them have the fault, if there is one."""

    lines: list[str]
    fault: str | None


class Lines:
    """The lines of an open file, with their ends, counted as they are taken.

    A line that is too long, or not in the file's encoding, is not an error here: what is left of it
    comes with `fault` set, so that it costs only itself.
    """

    def __init__(
        self,
        name: str,
        raw: io.BufferedReader,
        binary: io.BufferedReader | gzip.GzipFile,
        encoding: str,
    ) -> None:
        self.name = name
        self.number = 0
        self.fault: str | None = None
        self._raw = raw
        self._binary = binary
        self._encoding = encoding
        # What can not be decoded is marked, so that it costs its line and not the file.
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogateescape")
        self._runs: deque[_Run] = deque()
        self._taken = 0
        self._rest = ""
        self._is_read = False

    def __iter__(self) -> "Lines":
        return self

    def __next__(self) -> str:
        if self.are_over():
            raise StopIteration
        lines, fault = self._runs[0]
        line = lines[self._taken]
        self._advance(1)
        if fault is not None:
            self.fault = fault
        return line

    def take(self, most: int) -> list[str]:
        """Return the next lines, at least one and up to `most`; none if the next has a fault."""
        if self.are_over() or self._runs[0].fault is not None:
            return []
        taken = self._runs[0].lines[self._taken : self._taken + most]
        self._advance(len(taken))
        return taken

    def are_over(self) -> bool:
        """Tell whether there is no further line.

        Raises:
            UnusableFile: it can not be known, because the file can not be read further.
        """
        while not self._runs and not self._is_read:
            self._read_on()
        return not self._runs

    def taken(self) -> int:
        """Return the bytes of the file that have been read; of a gzip file the packed ones."""
        return self._raw.tell() if self._raw.seekable() else 0

    def _advance(self, count: int) -> None:
        self.number += count
        self._taken += count
        if self._taken == len(self._runs[0].lines):
            self._runs.popleft()
            self._taken = 0

    def _read_on(self) -> None:
        read = self._read()
        self._is_read = not read
        text = self._rest + read
        lines = list(io.StringIO(text, newline=""))
        self._rest = ""
        if read and lines and lines[-1][-1] != "\n":
            # It goes on in what is read next, and so may a carriage return.
            self._rest = _shortened(lines.pop())
        self._runs.extend(self._parted(lines, text))

    def _parted(self, lines: list[str], text: str) -> Iterator[_Run]:
        """Lines that have a fault, each of its own, and the others together."""
        if not lines:
            return
        # None but the first can be too long: the others were read at once.
        if len(lines[0]) < LONGEST_LINE and (text.isascii() or not _has_surrogates(text)):
            yield _Run(lines, None)
            return
        yield from map(self._alone, lines)

    def _alone(self, line: str) -> _Run:
        """A line by itself, with what is wrong with it, if anything is."""
        if len(line.rstrip("\r\n")) >= LONGEST_LINE:
            return _Run(["\n"], f"is longer than {LONGEST_LINE:,} characters")
        if not line.isascii() and _has_surrogates(line):
            reason = f"is not {_shown(self._encoding)}; name its encoding (--encoding)"
            return _Run([line], reason)
        return _Run([line], None)

    def _read(self) -> str:
        """Text that is not empty, or "" at the end of the file."""
        try:
            while data := self._binary.read1(BLOCK):
                if text := self._decoder.decode(data):
                    return text
            return self._decoder.decode(b"", final=True)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            reason = DAMAGED
        except UnicodeDecodeError as error:
            reason = f"is not {_shown(error.encoding)}; name its encoding (--encoding)"
        except OSError as error:
            reason = error.strerror or str(error)
        raise UnusableFile(self.name, f"after line {self.number:,}: {reason}")


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
        yield Lines(name, raw, binary, chosen)


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


def _encoding(name: str, binary: Binary) -> str:
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


def _shortened(line: str) -> str:
    """As much of a line without its end as tells that it is too long; how it ends so far, too."""
    return line if len(line) <= LONGEST_LINE else line[:LONGEST_LINE] + line[-1]


def _has_surrogates(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
