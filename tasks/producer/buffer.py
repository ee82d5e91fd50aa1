"""What a producer holds: the chunk that is being filled, those that wait, those on their way."""

import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import structlog

from tasks.producer.limits import Limits
from tasks.producer.outcome import Statistics
from tasks.producer.segments import Folder, Writer
from tasks.producer.sender import Chunk

log = structlog.get_logger(__name__)


class Buffer:
    """Not safe to share: its owner holds a lock for each call.

    Args:
        spill: where events are kept on disk as well; None for in memory alone.
    """

    def __init__(self, limits: Limits, spill: Path | None) -> None:
        self.count = Statistics()
        self.closes_at: float | None = None
        """When the chunk that is being filled is complete, by the monotonic clock."""

        self._limits = limits
        self._spill = spill
        self._folder: Folder | None = None
        self._writer: Writer | None = None
        self._open: list[bytes] = []
        self._open_size = 0
        self._waiting: deque[Chunk] = deque()
        self._under_way: list[Chunk] = []
        self._pending_bytes = 0

    def recover(self) -> None:
        """Open the folder and take over what producers that are no more have left there."""
        if self._spill is None or self._folder is not None:
            return
        self._folder = Folder(self._spill)
        for segment in self._folder.adopt():
            lines = segment.lines()
            if not lines:
                segment.remove()
                continue
            size = sum(map(len, lines))
            self._waiting.append(Chunk(len(lines), size, None, segment))
            self._pending_bytes += size
            self._add(recovered=len(lines), pending=len(lines))
        if self._waiting:
            log.info("usage_producer.recovered", events=self.count.recovered)

    def has_room(self, size: int) -> bool:
        """Tell whether an event of so many bytes can be taken."""
        return self._pending_bytes + size <= self._limits.pending_bytes

    def append(self, line: bytes) -> None:
        """Take an event. Raises OSError, and has then not taken it, if the disk does not."""
        size = len(line)
        if self._open and self._open_size + size > self._limits.chunk_bytes:
            self.seal()
        self.recover()  # in a forked child, which begins without a folder
        if self._folder is not None:
            self._writer = self._writer or self._folder.write()
            self._writer.append(line)
        if not self._open:
            self.closes_at = time.monotonic() + self._limits.chunk_seconds
        self._open.append(line)
        self._open_size += size
        self._pending_bytes += size
        self._add(recorded=1, pending=1)
        if len(self._open) >= self._limits.chunk_events:
            self.seal()

    def seal(self) -> None:
        """Complete the chunk that is being filled, if there is one; from now on it can be sent."""
        if not self._open:
            return
        chunk = Chunk(len(self._open), self._open_size, self._open)
        if self._writer is not None:
            self._sync(self._writer, chunk)
        self._open, self._open_size, self._writer, self.closes_at = [], 0, None, None
        self._waiting.append(chunk)

    def take(self) -> Chunk | None:
        """Return the next chunk to send, if there is one and not too many are on their way."""
        if not self._waiting or len(self._under_way) >= self._limits.in_flight:
            return None
        chunk = self._waiting.popleft()
        self._under_way.append(chunk)
        self._add(sent=chunk.count)
        return chunk

    def can_send(self) -> bool:
        """Tell whether `take` would return a chunk."""
        return bool(self._waiting) and len(self._under_way) < self._limits.in_flight

    def settle(self, chunk: Chunk, *, accepted: int, duplicate: int, refused: int) -> None:
        """Let go of a chunk: its answer has come."""
        if chunk.segment is not None:
            chunk.segment.remove()
        self._under_way.remove(chunk)
        self._pending_bytes -= chunk.size
        self._add(accepted=accepted, duplicate=duplicate, refused=refused, pending=-chunk.count)

    def unanswered(self) -> list[dict[str, Any]]:
        """Return the events without an answer, oldest first."""
        chunks = [*self._under_way, *self._waiting]
        lines = [line for chunk in chunks for line in chunk.lines()]
        return [orjson.loads(line) for line in [*lines, *self._open]]

    def close(self) -> None:
        """Let another producer take over what is on disk."""
        if self._folder is not None:
            self._folder.close()

    def abandon(self) -> None:
        """In a forked child: close the files of the parent, which are the parent's to send."""
        if self._writer is not None:
            self._writer.abandon()
        if self._folder is not None:
            self._folder.abandon()

    def _sync(self, writer: Writer, chunk: Chunk) -> None:
        chunk.segment = writer.segment
        try:
            writer.seal()
        except OSError as error:
            # It is in memory and will be sent; only a crash of the machine could take it now.
            log.warning("usage_producer.not_synced", reason=error.strerror)
        else:
            chunk.kept = None

    def _add(self, **counts: int) -> None:
        sums = {name: getattr(self.count, name) + count for name, count in counts.items()}
        self.count = replace(self.count, **sums)
