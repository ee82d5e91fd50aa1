"""The application with a timetable for the impatient: what beat rings is rung all the time."""

from worker import app

__all__ = ["app"]

LONGEST_PAUSE = 2.0

app.conf.beat_schedule = {
    name: {**entry, "schedule": min(LONGEST_PAUSE, entry["schedule"])}
    if isinstance(entry["schedule"], float)
    else {**entry, "schedule": LONGEST_PAUSE}
    for name, entry in app.conf.beat_schedule.items()
}
