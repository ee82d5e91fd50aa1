"""Beat's memory: when each entry of the timetable was last rung, over a restart.

What is due stands in the database, so a bell too many does no harm. One too few may: Celery's
scheduler in memory forgets at its end what it has rung, and a beat that is away at 3:40 has left
out that night's re-count; Celery's own file is a pickle, which a crash can spoil.
"""

import datetime as dt
import json
import os
import time
from pathlib import Path
from typing import Any, Final

import structlog
from celery import beat
from celery.schedules import schedule as every

FREQUENT: Final = dt.timedelta(seconds=60)
"""An entry that is rung more often than this is not written down each time."""

SYNC_SECONDS: Final = 30.0
"""How often those are."""

PAUSE_SECONDS: Final = 5.0
"""Before a bell is tried again that the broker did not take."""

log = structlog.get_logger(__name__)


class Scheduler(beat.Scheduler):  # type: ignore[misc]
    """Celery's, but it remembers what was rung, and rings again what the broker did not take.

    Args:
        schedule_filename: where it remembers, in a folder that is there; None or "" for nowhere.
            Then every entry with an interval is rung at the start, as after any long pause.
    """

    sync_every = SYNC_SECONDS

    def __init__(self, *args: Any, schedule_filename: str | None = None, **options: Any) -> None:
        """Read what was rung before."""
        self._file = Path(schedule_filename) if schedule_filename else None
        self._rung: dict[str, dt.datetime] = {}
        self._written: dict[str, dt.datetime] = {}
        self._again_at: float | None = None
        super().__init__(*args, **options)

    def setup_schedule(self) -> None:
        """Begin where the beat before has stopped."""
        super().setup_schedule()
        remembered = _read(self._file)
        for name, entry in self.schedule.items():
            now = entry.default_now()
            if (last := remembered.get(name)) is not None:
                # An instant to come is of a clock that was wrong: nothing is rung until then.
                self._rung[name] = entry.last_run_at = min(last, now)
            elif (interval := _interval(entry)) is not None:
                entry.last_run_at = now - interval
            else:
                # Seen for the first time: it waits from now on, also for a beat that comes later.
                self._rung[name] = entry.last_run_at

    def tick(self, *args: Any, **options: Any) -> Any:
        """Ring what is due; return the seconds until something is again."""
        if self._again_at is not None and time.monotonic() >= self._again_at:
            self._again_at = self._heap = None
        return super().tick(*args, **options)

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """Ring once. It counts as rung when the broker has it, whatever ends us before."""
        try:
            self.apply_async(entry, producer=producer, advance=False)
        except beat.SchedulingError as error:
            log.warning("beat.not_rung", task=entry.task, reason=type(error.__context__).__name__)
            self.schedule[entry.name] = entry
            self._again_at = time.monotonic() + PAUSE_SECONDS
            return
        self._rung[entry.name] = self.schedule[entry.name].last_run_at
        interval = _interval(entry)
        if interval is None or interval >= FREQUENT:
            self.sync()

    def sync(self) -> None:
        """Write down what was rung."""
        if self._file is None or self._rung == self._written:
            return
        rung = dict(self._rung)
        text = json.dumps({name: at.isoformat() for name, at in rung.items()}, indent=1)
        beside = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        try:
            beside.write_text(text)
            beside.replace(self._file)
        except OSError as error:
            log.warning("beat.not_remembered", file=str(self._file), reason=error.strerror)
            return
        self._written = rung

    @property
    def info(self) -> str:
        """Where it remembers, for Celery's banner."""
        return f"    . state -> {self._file}"


def _interval(entry: Any) -> dt.timedelta | None:
    """How often an entry is rung; None for one that goes by the clock on the wall."""
    schedule = entry.schedule
    found: dt.timedelta | None = schedule.run_every if isinstance(schedule, every) else None
    return found


def _read(file: Path | None) -> dict[str, dt.datetime]:
    if file is None or not file.exists():
        return {}
    try:
        found = json.loads(file.read_text())
        return {
            str(name): dt.datetime.fromisoformat(at).astimezone(dt.UTC)
            for name, at in found.items()
        }
    except (OSError, ValueError, TypeError, AttributeError) as error:
        log.warning("beat.forgot", file=str(file), reason=type(error).__name__)
        return {}
