"""Files of archived usage: written so that a crash leaves none or a whole one, and read back.

One event a line as JSON, compressed with gzip: `zcat` and any tool read them. The same events give
the same bytes, so a file that is written twice is the same file.
"""

import contextlib
import datetime as dt
import decimal
import gzip
import hashlib
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar, Final
from zoneinfo import ZoneInfo

import orjson

from models.rules import decimals, period
from models.rules.refusal import Refusal
from models.store.archive_lines import Lines
from models.store.usage_archive import File

ENDING: Final = ".jsonl.gz"
LEVEL: Final = 6
PRIVATE: Final = 0o600
PRIVATE_FOLDER: Final = 0o700

UNREADABLE: Final = (EOFError, gzip.BadGzipFile, zlib.error, orjson.JSONDecodeError, KeyError)
"""What reading a file that is not what it was may raise."""

_ENOUGH_DIGITS: Final = 200


class ArchiveFolderUnusable(Refusal):
    """Files can not be written into, or read from, the folder for archives."""

    code: ClassVar[str] = "usage.archive_folder"


class ArchiveUnsound(Refusal):
    """A file is not, or no longer, what was written: nothing of it is purged."""

    code: ClassVar[str] = "usage.archive_unsound"


def name_of(tenant_id: str, *, start: dt.datetime, zone: ZoneInfo, part: int) -> str:
    """Return the name of a file, below the folder for archives: safe on any file system.

    Args:
        start: where its period begins: with a month of the zone, or, named too, within one.
    """
    legible = re.sub(r"[^A-Za-z0-9_-]", "_", tenant_id)
    digest = hashlib.sha256(tenant_id.encode()).hexdigest()[:8]
    month = period.local_day(start, zone).replace(day=1)
    cut = "" if period.local_midnight(month, zone) == start else f"-from-{start:%Y%m%dT%H%MZ}"
    return f"{legible}-{digest}/{month:%Y-%m}{cut}-part{part:03}{ENDING}"


def require(folder: Path) -> None:
    """Refuse a folder that is not there: made anew, it might be a disk that was not mounted.

    Raises:
        ArchiveFolderUnusable: naming it.
    """
    if not folder.is_dir():
        raise ArchiveFolderUnusable(
            f"the folder for archives of usage, {folder}, is not there; make or mount it",
            field="BILLING_USAGE_ARCHIVE_FOLDER",
        )


def write(folder: Path, name: str, lines: Iterable[Lines]) -> File:
    """Write a file, and return what it holds once it is on the disk under its name.

    Raises:
        ArchiveFolderUnusable: the disk is full, or not ours to write on.
    """
    path = folder / name
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
            _sync_folder(folder)
        file = _write(unfinished, name, lines)
        unfinished.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise ArchiveFolderUnusable(
            f"{path} can not be written: {error.strerror}", field="BILLING_USAGE_ARCHIVE_FOLDER"
        ) from None
    return file


def check(folder: Path, file: File) -> None:
    """Read a file back and compare it with what was recorded of it: every byte and every sum.

    Raises:
        ArchiveUnsound: saying what differs.
    """
    path = folder / file.name
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as opened:
            while block := opened.read(1 << 20):
                digest.update(block)
                size += len(block)
    except OSError as error:
        raise ArchiveUnsound(f"{path} can not be read: {error.strerror}", field="name") from None
    if size != file.byte_count:
        raise _differs(path, "bytes", size, file.byte_count)
    if digest.digest() != file.sha256:
        raise _differs(path, "sha256", digest.hexdigest(), file.sha256.hex())
    found = _measured(path, file)
    for what in ("event_count", "totals", "first_at", "last_at"):
        if getattr(found, what) != getattr(file, what):
            raise _differs(path, what, getattr(found, what), getattr(file, what))


def read(path: Path, *, at_once: int) -> Iterator[list[bytes]]:
    """Yield the lines of a file, some at a time.

    Raises:
        ArchiveUnsound: it can not be read to its end.
    """
    try:
        with gzip.open(path, "rb") as opened:
            chunk: list[bytes] = []
            for line in opened:
                chunk.append(line.rstrip(b"\n"))
                if len(chunk) == at_once:
                    yield chunk
                    chunk = []
        if chunk:
            yield chunk
    except (OSError, *UNREADABLE) as error:
        raise ArchiveUnsound(f"{path}: {type(error).__name__}", field="name") from None


def _write(path: Path, name: str, lines: Iterable[Lines]) -> File:
    sums = _Sums()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE)
    with os.fdopen(descriptor, "wb") as opened:
        hashing = _Hashing(opened)
        # Without the name and the time of writing in it.
        with gzip.GzipFile(
            filename="", mode="wb", fileobj=hashing, compresslevel=LEVEL, mtime=0
        ) as packed:
            for some in lines:
                packed.write(some.text.encode())
                sums.add(some.last.metric, some.event_count, some.amount)
                sums.span(some.first_at, some.last.at)
        opened.flush()
        os.fsync(opened.fileno())
    return sums.file(name, hashing.size, hashing.digest.digest())


def _measured(path: Path, file: File) -> File:
    sums = _Sums()
    for chunk in read(path, at_once=1_000):
        for line in chunk:
            try:
                event = orjson.loads(line)
                at = dt.datetime.fromisoformat(event["at"])
                sums.add(event["metric"], 1, Decimal(event["amount"]))
            except (*UNREADABLE, ValueError, TypeError, decimal.InvalidOperation):
                raise ArchiveUnsound(
                    f"{path}: line {sums.event_count + 1} is no event", field="name"
                ) from None
            sums.span(at, at)
    return sums.file(file.name, file.byte_count, file.sha256)


class _Sums:
    """Adds up what a file holds."""

    def __init__(self) -> None:
        self.event_count = 0
        self._counts: dict[str, int] = {}
        self._amounts: dict[str, Decimal] = {}
        self._first_at: dt.datetime | None = None
        self._last_at: dt.datetime | None = None

    def add(self, metric: str, event_count: int, amount: Decimal) -> None:
        self.event_count += event_count
        self._counts[metric] = self._counts.get(metric, 0) + event_count
        with decimal.localcontext(prec=_ENOUGH_DIGITS):
            self._amounts[metric] = self._amounts.get(metric, Decimal(0)) + amount

    def span(self, first_at: dt.datetime, last_at: dt.datetime) -> None:
        self._first_at = min(self._first_at or first_at, first_at)
        self._last_at = max(self._last_at or last_at, last_at)

    def file(self, name: str, byte_count: int, sha256: bytes) -> File:
        totals: dict[str, dict[str, Any]] = {
            metric: {"events": count, "amount": decimals.plain(self._amounts[metric])}
            for metric, count in sorted(self._counts.items())
        }
        return File(
            name, byte_count, sha256, self.event_count, totals, self._first_at, self._last_at
        )


class _Hashing:
    """A file that is written, and hashed on the way."""

    def __init__(self, opened: Any) -> None:
        self._opened = opened
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.size += len(data)
        return int(self._opened.write(data))

    def flush(self) -> None:
        self._opened.flush()


def _differs(path: Path, what: str, found: Any, recorded: Any) -> ArchiveUnsound:
    return ArchiveUnsound(
        f"{path} is not what was written: {what} is {found}, and was {recorded}", field="name"
    )


def _sync_folder(folder: Path) -> None:
    """Let a name outlive a loss of power, as its file does."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
