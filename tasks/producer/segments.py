"""Events on disk until their answer has come: append-only files of JSON lines.

Below the producer's folder each live producer has a folder of its own, held by a lock that ends
with its process; a folder whose lock is free is what a dead one left. A segment is one chunk: its
lines are appended as they come, so that the death of the process costs none of them, and synced to
disk when the chunk is complete. The file is removed when the chunk's answer has come.
"""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from models.rules import ids
from tasks import clock

SUFFIX = ".jsonl"
LOCK = "lock"
UNBORN = ".new-"
"""Before the name of a folder whose lock is not held yet: nobody else looks at it."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One chunk on disk."""

    path: Path

    def lines(self) -> list[bytes]:
        """Return the events of the chunk.

        A torn last line, from a crash in the middle of a write, is left out: `record` had not
        returned for it.
        """
        written = self.path.read_bytes()
        whole, _, torn = written.rpartition(b"\n")
        found = whole.split(b"\n") if whole else []
        # Zeros can stand where a crash of the machine kept a length but not what was written.
        return [line for line in [*found, torn] if line and _is_whole(line)]

    def remove(self) -> None:
        """Forget the chunk: its answer has come."""
        self.path.unlink(missing_ok=True)


class Writer:
    """The segment that is being written."""

    def __init__(self, path: Path) -> None:
        self.segment = Segment(path)
        self._descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o600)
        self._size = 0

    def append(self, line: bytes) -> None:
        """Hand a line to the operating system: it outlives this process, not yet the machine."""
        data = line + b"\n"
        written = os.write(self._descriptor, data)
        if written != len(data):
            # A full disk may take half a line: what follows must not be glued to it.
            os.ftruncate(self._descriptor, self._size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.segment.path))
        self._size += len(data)

    def seal(self) -> Segment:
        """Sync the segment to disk and close it."""
        os.fsync(self._descriptor)
        os.close(self._descriptor)
        _sync_folder(self.segment.path.parent)
        return self.segment

    def abandon(self) -> None:
        """Close the file of a parent process in its child."""
        os.close(self._descriptor)


class Folder:
    """A producer's own folder, and what dead producers left beside it.

    Args:
        root: made when missing; any number of producers may share it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = ids.uuid7(clock.now()).hex
        unborn = root / f"{UNBORN}{name}"
        unborn.mkdir(mode=0o700)
        self._locks = {root / name: _take_lock(unborn)}
        self.path = unborn.rename(root / name)

    def write(self) -> Writer:
        """Begin a segment."""
        return Writer(self.path / f"{ids.uuid7(clock.now()).hex}{SUFFIX}")

    def adopt(self) -> Iterator[Segment]:
        """Take over the segments of producers that are no more, oldest first."""
        for path in sorted(self.root.iterdir()):
            if path in self._locks or path.name.startswith(UNBORN) or not path.is_dir():
                continue
            with contextlib.suppress(BlockingIOError, FileNotFoundError):
                self._locks[path] = _take_lock(path)
                yield from (Segment(file) for file in sorted(path.glob(f"*{SUFFIX}")))

    def close(self) -> None:
        """Give up the folders; those that are empty are removed."""
        for path, lock in self._locks.items():
            # While it is still locked: nobody may find an empty folder and put a segment in it.
            if not any(path.glob(f"*{SUFFIX}")):
                (path / LOCK).unlink(missing_ok=True)
                with contextlib.suppress(OSError):
                    path.rmdir()
            os.close(lock)
        self._locks.clear()

    def abandon(self) -> None:
        """Close the locks of a parent process in its child; the parent still holds them."""
        for lock in self._locks.values():
            os.close(lock)
        self._locks.clear()


def _take_lock(folder: Path) -> int:
    """Return the descriptor that holds a folder. Raises BlockingIOError, FileNotFoundError."""
    descriptor = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Its last owner may have removed the file between our opening and locking it.
        if os.fstat(descriptor).st_ino != (folder / LOCK).stat().st_ino:
            raise FileNotFoundError(folder / LOCK)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _is_whole(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True


def _sync_folder(folder: Path) -> None:
    """The name of a new file is data of its folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
