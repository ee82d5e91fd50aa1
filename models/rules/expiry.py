"""When credit ends that is granted for so long."""

from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import assert_never
from zoneinfo import ZoneInfo

from models.rules import calendar_periods, period


class ExpiryUnit(StrEnum):
    """What an offer's validity is counted in."""

    hours = "hours"
    days = "days"
    months = "months"
    years = "years"
    forever = "forever"


class ExpiryOutOfRange(ValueError):
    """The validity is shorter than one unit or ends after the year 9999."""

    def __init__(self, count: int, unit: ExpiryUnit) -> None:
        super().__init__(
            f"a validity of {count} {unit} is out of range: it must be 1 or more and end before "
            "the year 10000"
        )


def ends_at(at: datetime, *, unit: ExpiryUnit, count: int, zone: ZoneInfo) -> datetime | None:
    """When what is granted at `at` for `count` (1 or more) `unit`s ends, in UTC; None is never.

    Hours are counted by the clock that never jumps. Days, months and years keep the local time of
    day, months and years clamped to the end of the month; a local time that comes twice is its
    first, one the clocks jump over is moved on by the jump. `forever` does not look at `count`.
    Raises ExpiryOutOfRange, NaiveInstant.
    """
    at = period.in_utc(at)
    if count < 1 and unit is not ExpiryUnit.forever:
        raise ExpiryOutOfRange(count, unit)
    try:
        return _ends_at(at, unit, count, zone)
    except (ValueError, OverflowError):
        raise ExpiryOutOfRange(count, unit) from None


def _ends_at(at: datetime, unit: ExpiryUnit, count: int, zone: ZoneInfo) -> datetime | None:
    local = at.astimezone(zone)
    match unit:
        case ExpiryUnit.hours:
            return at + timedelta(hours=count)
        case ExpiryUnit.days:
            return _same_time(local, local.date() + timedelta(days=count))
        case ExpiryUnit.months:
            return _same_time(local, calendar_periods.add_months(local.date(), count))
        case ExpiryUnit.years:
            return _same_time(local, calendar_periods.add_months(local.date(), 12 * count))
        case ExpiryUnit.forever:
            return None
        case _:
            assert_never(unit)


def _same_time(local: datetime, day: date) -> datetime:
    return datetime.combine(day, local.time().replace(fold=0), tzinfo=local.tzinfo).astimezone(UTC)
