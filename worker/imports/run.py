"""An import: files in, chunks of events recorded, a tally of what became of each.

A chunk goes through `record_usage` in this process and not through a message: a worker would have
to do the same work after packing, sending and unpacking it, and the answer, which is the verdicts,
would have to come back. While PostgreSQL stores one chunk the next one is read, on another thread;
one at a time, so that of two rows with one key the first wins, as in a message.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

from tasks.usage import Preview, UsageAnswer
from worker.imports import mapping, rows, text, threads

CHUNK: Final = 5_000
"""Events recorded in one transaction."""

CHUNK_CHARACTERS: Final = 8 * 1024 * 1024
"""Of rows in one chunk, counted once for each event: what bounds memory when rows are long."""

MOST_REASONS: Final = 20
"""How many refusals are told one by one."""

Answer = UsageAnswer | Preview

Record = Callable[[list[mapping.Event]], Answer]


@dataclass(frozen=True, slots=True)
class Options:
    """How to read files. None finds out: UTF-8 or a byte order mark; the header line."""

    columns: mapping.Columns
    encoding: str | None = None
    delimiter: str | None = None


@dataclass(frozen=True, slots=True)
class Reason:
    """Why one row, or one event of it, was refused.

    Args:
        field: of the event; None if it is about the row.
        rejected_message_id: where the event is kept, if it is.
    """

    file: str
    line: int
    verdict: str
    field: str | None
    reason: str
    rejected_message_id: int | None


@dataclass(slots=True)
class Tally:
    """What became of everything read so far: rows, and their events by verdict.

    A row that can not be read is one `rejected`; `skipped` are empty amounts that were to be left
    out. `taken` is the bytes of all files.
    """

    rows: int = 0
    accepted: int = 0
    duplicate: int = 0
    conflict: int = 0
    rejected: int = 0
    skipped: int = 0
    taken: int = 0
    reasons: list[Reason] = field(default_factory=list)

    @property
    def events(self) -> int:
        """Events with a verdict."""
        return self.accepted + self.duplicate + self.conflict + self.rejected

    @property
    def refused(self) -> int:
        """Events that are not stored and should be."""
        return self.conflict + self.rejected


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

    @property
    def is_full(self) -> bool:
        return (
            len(self.events) >= CHUNK
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
    record: Record,
    watch: Callable[[Tally], None],
) -> None:
    """Record the events of all files, in order.

    When it ends, by itself or by an error, `tally` counts exactly what was recorded; to run it
    again is then harmless, because events are known by their keys.

    Args:
        files: paths; "-" is standard input.
        record: takes up to 5,000 events, at a time when the next ones are being read.
        watch: called after each chunk.

    Raises:
        UnusableFile: a file can not be read further.
    """
    with threads.tuned(), ThreadPoolExecutor(1, thread_name_prefix="record") as thread:
        writer = _Writer(thread, record, tally, watch)
        try:
            for chunk in _chunks(files, options):
                writer.write(chunk)
        finally:
            # Also after Ctrl-C: what has begun is finished, and counted.
            writer.finish()


def _chunks(files: Sequence[str], options: Options) -> Iterator[_Chunk]:
    before = 0
    for name in files:
        with text.opened(name, encoding=options.encoding) as lines:
            table = rows.read(lines, delimiter=options.delimiter)
            mapper = mapping.Mapper(name, table, options.columns)
            amounts = len(options.columns.amounts)
            chunk = _Chunk(name)
            for row in table.rows:
                _add(chunk, row, mapper, amounts=amounts)
                if chunk.is_full:
                    chunk.taken = before + lines.taken()
                    yield chunk
                    chunk = _Chunk(name)
            chunk.taken = before + lines.taken()
            yield chunk
        before += text.size(name) or 0


def _add(chunk: _Chunk, row: rows.Row, mapper: mapping.Mapper, *, amounts: int) -> None:
    chunk.rows += 1
    fault = row.fault
    if fault is None:
        try:
            events = mapper.events(row)
        except mapping.UnusableRow as error:
            fault = str(error)
        else:
            chunk.events += events
            chunk.skipped += amounts - len(events)
            chunk.lines += [row.line] * len(events)
            chunk.characters += row.size * len(events)
    if fault is not None:
        chunk.faults.append(Reason(chunk.file, row.line, "rejected", None, f"row {fault}", None))


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

    def write(self, chunk: _Chunk) -> None:
        """Begin to record a chunk, once the one before is recorded."""
        self.finish()
        self._begun = chunk, self._thread.submit(self._record, chunk.events)

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
    wanted = MOST_REASONS - len(tally.reasons)
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
