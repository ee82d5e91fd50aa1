"""What beat has rung is remembered: a restart leaves no bell out, and rings none twice."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.beat import Scheduler, SchedulingError
from celery.schedules import crontab

from worker import timekeeper
from worker.schedule import TIMETABLE

HOUR = dt.timedelta(hours=1)
NIGHTLY = "audit credit"
RARE = "tell of expiring credit"
FREQUENT = "deliver what is due"


def beat(file: Path | None, **timetable: Any) -> timekeeper.Scheduler:
    """A scheduler with a broker in this process' memory."""
    app = Celery("test", broker="memory://", set_as_current=False)
    app.conf.beat_schedule = timetable or TIMETABLE
    return timekeeper.Scheduler(app, schedule_filename=None if file is None else str(file))


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def rung(scheduler: timekeeper.Scheduler) -> list[str]:
    """Ring all that is due now, and return the names."""
    before = {name: entry.total_run_count for name, entry in scheduler.schedule.items()}
    while scheduler.tick() == 0:
        pass
    return sorted(
        name for name, entry in scheduler.schedule.items() if entry.total_run_count > before[name]
    )


def remember(file: Path, **ago: dt.timedelta) -> None:
    file.write_text(json.dumps({name: (now() - past).isoformat() for name, past in ago.items()}))


def every(seconds: float) -> dict[str, Any]:
    return {"task": "billing.audit", "schedule": seconds}


def nightly() -> dict[str, Any]:
    """At the minute that was one hour ago, each day."""
    at = now() - HOUR
    return {"task": "billing.audit", "schedule": crontab(hour=at.hour, minute=at.minute)}


def test_a_bell_that_fell_due_in_the_pause_is_rung_at_the_start(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    remember(file, night=2 * HOUR, rare=2 * HOUR)

    assert rung(beat(file, night=nightly(), rare=every(3600))) == ["night", "rare"]


def test_what_was_rung_in_time_is_not_rung_again_after_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    remember(file, night=HOUR / 2, rare=HOUR / 2)

    assert rung(beat(file, night=nightly(), rare=every(3600))) == []


def test_a_second_start_rings_nothing_that_the_first_has_rung(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    timetable = {"often": every(50), "rare": every(3600)}
    first = beat(file, **timetable)
    assert rung(first) == ["often", "rare"]
    first.close()

    assert rung(beat(file, **timetable)) == []


def test_a_rare_bell_is_remembered_at_once_for_a_beat_that_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "state.json"

    rung(beat(file, often=every(50), rare=every(3600)))

    assert "rare" in json.loads(file.read_text())


def test_without_a_file_intervals_are_rung_and_what_goes_by_the_clock_waits() -> None:
    assert rung(beat(None, night=nightly(), rare=every(3600))) == ["rare"]


def test_a_nightly_bell_is_not_rung_by_the_first_beat_there_ever_is(tmp_path: Path) -> None:
    assert isinstance(TIMETABLE[NIGHTLY]["schedule"], crontab)
    # Its own minute, or one of another entry, may come between the making and the ringing.
    bells = {name: TIMETABLE[name] for name in (RARE, FREQUENT)}

    assert rung(beat(tmp_path / "state.json", **bells, night=nightly())) == [FREQUENT, RARE]


def test_a_nightly_bell_that_was_never_rung_waits_since_it_was_first_seen(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    beat(file, night=nightly()).close()
    (name, since), *_ = json.loads(file.read_text()).items()

    assert name == "night"
    file.write_text(json.dumps({name: (dt.datetime.fromisoformat(since) - 2 * HOUR).isoformat()}))
    assert rung(beat(file, night=nightly())) == ["night"]


def test_a_clock_that_was_ahead_does_not_silence_a_bell(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    remember(file, often=-10_000 * HOUR)
    scheduler = beat(file, often=every(50))

    assert scheduler.schedule["often"].last_run_at <= now()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"night": 3}', '{"night": "soon"}'])
def test_a_spoilt_file_is_forgotten_and_written_anew(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "state.json"
    file.write_text(text)

    assert rung(beat(file, rare=every(3600))) == ["rare"]

    assert "beat.forgot" in caplog.text
    assert list(json.loads(file.read_text())) == ["rare"]


def test_a_file_that_can_not_be_written_stops_no_bell(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert rung(beat(tmp_path / "gone" / "state.json", rare=every(3600))) == ["rare"]

    assert "beat.not_remembered" in caplog.text


def test_what_the_broker_did_not_take_is_not_rung_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "state.json"
    remember(file, night=2 * HOUR)
    scheduler = beat(file, night=nightly())
    monkeypatch.setattr(timekeeper, "PAUSE_SECONDS", 0.0)

    def refuse(*_: Any, **__: Any) -> None:
        raise SchedulingError("the broker is away")

    with monkeypatch.context() as away:
        away.setattr(Scheduler, "apply_async", refuse)
        scheduler.tick()
    assert "beat.not_rung" in caplog.text
    scheduler.sync()
    assert json.loads(file.read_text())["night"] < (now() - HOUR).isoformat()

    assert rung(scheduler) == ["night"]
