"""What is printed as the number of an invoice or a credit note."""

import re
from datetime import date
from functools import lru_cache
from typing import ClassVar, Final

from models.rules.refusal import Refusal

SERIES: Final = "INV"
"""The series of invoices, unless the issuer names another."""

CREDIT_NOTE_SERIES: Final = "CN"
"""The series of credit notes, unless the issuer names another."""

FORMAT: Final = "{series}-{sequence:6}"
"""How a number is written, unless the issuer says otherwise."""

_LITERAL: Final = re.compile(r"[A-Za-z0-9 ._/#-]*")
"""What may stand between the fields: a number is also a file's name and a cell of a sheet."""

_FIELD: Final = re.compile(r"\{(series|year|month|sequence)(?::([1-9]|1[0-8]))?\}")


class InvalidNumberFormat(Refusal):
    """A number is written of its series, its sequence, and perhaps the year and month."""

    code: ClassVar[str] = "issuer.number_format_invalid"


def check(number_format: str) -> None:
    """Raise InvalidNumberFormat unless every number written so is another one.

    It needs {series} and {sequence}, once each, and {year} or a sign between them; {year} and
    {month} are of the local day of issue. A number after a colon is the least digits of the
    sequence: {sequence:6}.
    """
    names = [match[1] for match in _FIELD.finditer(number_format)]
    rest = _FIELD.sub("", number_format)
    if names.count("sequence") != 1 or names.count("series") != 1 or not _LITERAL.fullmatch(rest):
        raise InvalidNumberFormat(
            f"number format {number_format!r} must have one {{series}} and one {{sequence}}, may "
            "have {year} and {month}, and besides letters, digits, spaces and . _ / # - only; such "
            f"as {FORMAT}",
            field="number_format",
        )
    if not (number_format[0].isalnum() or number_format[0] == "{"):
        raise InvalidNumberFormat(
            f"number format {number_format!r} must begin with a letter, a digit or a field",
            field="number_format",
        )
    if not _are_apart(number_format):
        raise InvalidNumberFormat(
            f"number format {number_format!r} must have {{year}}, a letter or a sign between "
            "{series} and {sequence}: series A1 and A would have numbers that look alike; such as "
            f"{FORMAT}",
            field="number_format",
        )


def check_series(number_format: str, field: str, series: str) -> None:
    """Raise InvalidNumberFormat if numbers of this series could look like those of another one.

    Where only {year} parts it from the sequence, A with 20231 and A2023 with 1 are one number.

    Args:
        number_format: one that has passed `check`.
        field: what gave the series.
    """
    if (series[0].isdigit() or series[-1].isdigit()) and not _has_sign(_between(number_format)):
        raise InvalidNumberFormat(
            f"{field} {series!r} must neither begin nor end with a digit, since number format "
            f"{number_format!r} has no letter or sign between {{series}} and {{sequence}}: series "
            "A2023 and A would have numbers that look alike",
            field=field,
        )


def number(number_format: str, *, series: str, sequence: int, day: date) -> str:
    """The number of a sequence: "INV-000001", or as the format has it. It has passed `check`."""
    before, digits, after = _around(number_format, series, day.year, day.month)
    return f"{before}{str(sequence).zfill(digits)}{after}"


# Thousands of a run are written alike but for their sequence.
@lru_cache(maxsize=1024)
def _around(number_format: str, series: str, year: int, month: int) -> tuple[str, int, str]:
    """What stands before the sequence, its least digits, and what stands after it."""
    values = {"series": series, "year": f"{year:04d}", "month": f"{month:02d}"}
    place = next(one for one in _FIELD.finditer(number_format) if one[1] == "sequence")
    before, after = (
        _FIELD.sub(lambda m: values[m[1]].zfill(int(m[2] or 0)), part)
        for part in (number_format[: place.start()], number_format[place.end() :])
    )
    return before, int(place[2] or 0), after


def _are_apart(number_format: str) -> bool:
    """Whether one can tell where the series ends and the sequence begins."""
    between = _between(number_format)
    return "{year" in between or _has_sign(between)


def _between(number_format: str) -> str:
    found = re.search(r"\{series.*?\}(.*)\{sequence|\{sequence.*?\}(.*)\{series", number_format)
    return next(filter(None, found.groups()), "") if found else ""


def _has_sign(between: str) -> bool:
    return bool(re.search(r"[^0-9]", _FIELD.sub("", between)))
