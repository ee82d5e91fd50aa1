"""What `billing doctor` says of one thing: how it is to be taken, and what to do."""

import datetime as dt
from dataclasses import asdict, dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How a finding is to be taken: fail means that something does not work now."""

    ok = "ok"
    warn = "warn"
    fail = "fail"


class Area(StrEnum):
    """What a finding is about."""

    settings = "settings"
    keys = "keys"
    database = "database"
    broker = "broker"
    workers = "workers"
    backlog = "backlog"
    checks = "checks"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `remedy` is empty when there is nothing to do."""

    area: Area
    subject: str
    verdict: Verdict
    detail: str
    remedy: str = ""

    def as_json(self) -> dict[str, str]:
        """Return the finding as a JSON object."""
        return asdict(self)


def ago(age: dt.timedelta) -> str:
    """Return an age for people: "40 seconds", "12 minutes", "3 hours", "5 days"."""
    seconds = max(0, round(age.total_seconds()))
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}s"
    return f"{seconds} seconds"
