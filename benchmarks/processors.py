"""What a piece of work takes, read from the system: processor time by who took it, and bytes.

Processor time hardly depends on what else a machine does, so it can be measured on a busy one.
Linux only: it is read from /proc.
"""

import contextlib
import dataclasses
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.servers import Stage

TICK = 1 / os.sysconf("SC_CLK_TCK")

# A process's clock of processor time, all its threads together: clock_getcpuclockid(3).
_CPU_CLOCK_OF_ALL_THREADS = 2

WRITTEN = """
    SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0'),
           coalesce(sum(pg_relation_size(oid)) FILTER (WHERE relkind = 'r'), 0),
           coalesce(sum(pg_relation_size(oid)) FILTER (WHERE relkind = 'i'), 0)
    FROM pg_class WHERE relkind IN ('r', 'i') AND relnamespace = 'public'::regnamespace
"""


class NotMeasurable(RuntimeError):
    """This system does not tell what processes take: there is no /proc."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What was taken: seconds of processor time, and bytes.

    Args:
        here: by this process, which sends, or does the work itself.
        broker: by Redis.
        dispatcher: by a worker's main process, which reads messages and hands them to its pool.
        pool: by the processes of its pool, which run the tasks.
        database: by all processes of PostgreSQL.
        wal, heap, index: bytes logged, and by which tables and indexes grew.
        network: bytes that the broker read and wrote.
    """

    here: float = 0.0
    broker: float = 0.0
    dispatcher: float = 0.0
    pool: float = 0.0
    database: float = 0.0
    wal: float = 0.0
    heap: float = 0.0
    index: float = 0.0
    network: float = 0.0

    def less(self, other: "Taken") -> "Taken":
        """Return what came after `other`."""
        return Taken(
            **{
                field.name: getattr(self, field.name) - getattr(other, field.name)
                for field in dataclasses.fields(self)
            }
        )


class Meter:
    """Reads what has been taken so far."""

    def __init__(self, stage: Stage) -> None:
        if not Path("/proc/self/stat").exists():
            raise NotMeasurable(NotMeasurable.__doc__)
        self._stage = stage
        backend = stage.connection.info.backend_pid
        self._postmaster = _parents()[backend]
        self._broker = int(stage.redis.info("server")["process_id"])
        self._before: frozenset[int] = frozenset()

    @contextlib.contextmanager
    def beside(self) -> Iterator[None]:
        """Take what is started in the block, below this process, for a worker."""
        self._before = frozenset(_below(os.getpid(), _parents()))
        try:
            yield
        finally:
            self._before = frozenset()

    def read(self) -> Taken:
        """Return what was taken since everything began."""
        parents = _parents()
        pool, dispatcher = self._worker(parents)
        wal, heap, index = self._stage.rows(WRITTEN)[0]
        stats = self._stage.redis.info("stats")
        database = [self._postmaster, *_below(self._postmaster, parents)]
        return Taken(
            here=time.process_time(),
            broker=_seconds(self._broker),
            dispatcher=sum(map(_seconds, dispatcher)),
            pool=sum(map(_seconds, pool)),
            database=sum(map(_seconds, database)) + _seconds_of_ended_children(self._postmaster),
            wal=float(wal),
            heap=float(heap),
            index=float(index),
            network=float(stats["total_net_input_bytes"] + stats["total_net_output_bytes"]),
        )

    def _worker(self, parents: dict[int, int]) -> tuple[set[int], set[int]]:
        """The processes of the worker's pool, and those above them."""
        if not self._before:
            return set(), set()
        worker = _below(os.getpid(), parents) - self._before
        above = {parents[pid] for pid in worker} & worker
        return worker - above, above


def _parents() -> dict[int, int]:
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (fields := _stat(int(folder.name))):
            found[int(folder.name)] = int(fields[1])
    return found


def _below(root: int, parents: dict[int, int]) -> set[int]:
    found, last = set[int](), {root}
    while last:
        last = {pid for pid, parent in parents.items() if parent in last}
        found |= last
    return found


def _stat(pid: int) -> list[str]:
    """What follows a process's name: its state, its parent and so on; nothing if it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _seconds(pid: int) -> float:
    try:
        return time.clock_gettime(~pid << 3 | _CPU_CLOCK_OF_ALL_THREADS)
    except OSError:
        return 0.0


def _seconds_of_ended_children(pid: int) -> float:
    fields = _stat(pid)
    return (int(fields[13]) + int(fields[14])) * TICK if fields else 0.0
