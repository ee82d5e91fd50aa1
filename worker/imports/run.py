"""An import: files in, chunks of events recorded, a tally of what became of each.

A chunk is recorded in this process as `record_usage` would do it, and not sent as a message: a
worker would have to do the same work after packing, sending and unpacking it, and the answer, which
is the verdicts, would have to come back. While PostgreSQL stores one chunk, on another thread, the
next one is read and looked at; they are stored one at a time, so that of two rows with one key the
first wins, as in a message.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from tasks import usage_chunk
from worker.imports import column_names, counting, mapping, rows, text, threads
from worker.imports.counting import Reason, Tally
from worker.imports.rows import Block

CHUNK: Final = 5_000
"""Events recorded in one transaction, and a few rows more."""

FIRST_CHUNK: Final = 500
"""Events of the first chunk, for which PostgreSQL waits; each has twice as many as the last one."""

LOOKED_AT_TOGETHER: Final = 500
"""Events whose rows are looked at together: one that is unusual makes these be read one by one."""

CHUNK_CHARACTERS: Final = 8 * 1024 * 1024
"""Of rows in one chunk, counted once for each event: what bounds memory when rows are long."""

Answer = usage_chunk.UsageAnswer | usage_chunk.Preview

Look = Callable[[Sequence[mapping.Event]], usage_chunk.Looked]
Record = Callable[[usage_chunk.Looked], Answer]


class Recording(NamedTuple):
    """How chunks are recorded.

    Args:
        look: says of events what can be said while another chunk is being recorded.
        record: does the rest; one chunk at a time, in order.
    """

    look: Look
    record: Record


@dataclass(frozen=True, slots=True)
class Options:
    """How to read files. None finds out: UTF-8 or a byte order mark; the header line."""

    columns: column_names.Columns
    encoding: str | None = None
    delimiter: str | None = None


@dataclass(slots=True)
class _Chunk:
    file: str
    rows: int = 0
    characters: int = 0
    skipped: int = 0
    taken: int = 0
    events: list[mapping.Event] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    faults: list[Reason] = field(default_factory=list)

    def add(self, block: Block, mapped: mapping.Mapped) -> None:
        """Take in rows, and what was made of them."""
        self.rows += len(block.lines) + len(block.faults)
        self.characters += block.size * max(1, len(mapped.events) // max(1, len(block.lines)))
        self.events += mapped.events
        self.lines += mapped.lines
        self.skipped += mapped.skipped
        self.faults += [
            Reason(self.file, line, "rejected", None, f"row {fault}", None)
            for line, fault in mapped.faults
        ]

    def is_full(self, most: int) -> bool:
        """Tell whether it has as many events as it should, or so large ones, or so many faults."""
        return (
            len(self.events) >= most
            or self.characters >= CHUNK_CHARACTERS
            or len(self.faults) >= CHUNK
        )


def check(files: Iterable[str], options: Options) -> None:
    """Look at how each file begins: a fault of the last is known before the first is stored.

    Raises:
        UnusableFile: one can not be read, or lacks a column.
    """
    for name in files:
        if text.is_read_once(name):
            continue
        with text.opened(name, encoding=options.encoding) as lines:
            mapping.Mapper(name, rows.read(lines, delimiter=options.delimiter), options.columns)


def run(
    files: Sequence[str],
    options: Options,
    tally: Tally,
    *,
    recording: Recording,
    watch: Callable[[Tally], None],
) -> None:
    """Record the events of all files, in order.

    When it ends, by itself or by an error, `tally` counts exactly what was recorded; to run it
    again is then harmless, because events are known by their keys.

    Args:
        files: paths; "-" is standard input.
        watch: called after each chunk.

    Raises:
        UnusableFile: a file can not be read further.
    """
    with threads.tuned(), ThreadPoolExecutor(1, thread_name_prefix="record") as thread:
        writer = _Writer(thread, recording.record, tally, watch)
        try:
            for chunk in _chunks(files, options):
                writer.write(chunk, recording.look(chunk.events))
        finally:
            # Also after Ctrl-C: what has begun is finished, and counted.
            writer.finish()


def _chunks(files: Sequence[str], options: Options) -> Iterator[_Chunk]:
    before, most = 0, FIRST_CHUNK
    for name in files:
        with text.opened(name, encoding=options.encoding) as lines:
            chunk = _Chunk(name)
            for block, mapped in _mapped(name, lines, options):
                chunk.add(block, mapped)
                if chunk.is_full(most):
                    chunk.taken = before + lines.taken()
                    yield chunk
                    chunk, most = _Chunk(name), min(2 * most, CHUNK)
            chunk.taken = before + lines.taken()
            yield chunk
        before += text.size(name) or 0


def _mapped(
    name: str, lines: text.Lines, options: Options
) -> Iterator[tuple[Block, mapping.Mapped]]:
    most = max(1, LOOKED_AT_TOGETHER // len(options.columns.amounts))
    table = rows.read(lines, delimiter=options.delimiter, most=most)
    mapper = mapping.Mapper(name, table, options.columns)
    for block in table.blocks:
        yield block, mapper.events(block)


class _Writer:
    """Records one chunk while the next is read."""

    def __init__(
        self,
        thread: ThreadPoolExecutor,
        record: Record,
        tally: Tally,
        watch: Callable[[Tally], None],
    ) -> None:
        self._thread = thread
        self._record = record
        self._tally = tally
        self._watch = watch
        self._begun: tuple[_Chunk, Future[Answer]] | None = None

    def write(self, chunk: _Chunk, looked: usage_chunk.Looked) -> None:
        """Begin to record a chunk, once the one before is recorded."""
        self.finish()
        self._begun = chunk, self._thread.submit(self._record, looked)

    def finish(self) -> None:
        """Wait for what has begun and count it."""
        if self._begun is None:
            return
        chunk, future = self._begun
        answer = future.result()
        self._begun = None
        _count(self._tally, chunk, answer)
        self._watch(self._tally)


def _count(tally: Tally, chunk: _Chunk, answer: Answer) -> None:
    tally.rows += chunk.rows
    tally.taken = chunk.taken
    tally.skipped += chunk.skipped
    tally.accepted += answer["accepted"]
    tally.duplicate += answer["duplicate"]
    tally.conflict += answer["conflict"]
    tally.rejected += answer["rejected"] + len(chunk.faults)
    wanted = counting.MOST_REASONS - len(tally.reasons)
    refused = [_reason(chunk, each) for each in answer["refused"][:wanted]]
    in_order = sorted([*chunk.faults[:wanted], *refused], key=lambda reason: reason.line)
    tally.reasons += in_order[:wanted]


def _reason(chunk: _Chunk, refused: Any) -> Reason:
    return Reason(
        file=chunk.file,
        line=chunk.lines[refused["index"]],
        verdict=refused["verdict"],
        field=refused["field"],
        reason=refused["reason"],
        rejected_message_id=refused.get("rejected_message_id"),
    )
