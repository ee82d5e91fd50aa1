"""Numbers of one series are written differently, each."""

import datetime as dt

import pytest

from models.rules import numbering
from models.rules.numbering import InvalidNumberFormat

DAY = dt.date(2023, 10, 9)


@pytest.mark.parametrize(
    ("number_format", "sequence", "written"),
    [
        (numbering.FORMAT, 1, "INV-000001"),
        (numbering.FORMAT, 1_234_567, "INV-1234567"),
        ("{series}/{year}/{sequence:4}", 12, "INV/2023/0012"),
        ("{series}{year}{month}{sequence}", 7, "INV2023107"),
        ("{sequence} of {series}", 7, "7 of INV"),
        ("{series:4}-{year:6}{month:2}-{sequence:2}", 7, "0INV-00202310-07"),
    ],
)
def test_a_number_is_written_as_its_format_says(
    number_format: str, sequence: int, written: str
) -> None:
    numbering.check(number_format)

    assert numbering.number(number_format, series="INV", sequence=sequence, day=DAY) == written


def test_a_month_has_two_digits_so_that_no_two_numbers_look_alike() -> None:
    number_format = "{series}{year}{month}{sequence}"
    numbering.check(number_format)

    written = [
        numbering.number(
            number_format, series="INV", sequence=sequence, day=dt.date(2026, month, 1)
        )
        for month, sequence in ((1, 11), (11, 1))
    ]

    assert written == ["INV20260111", "INV2026111"]


@pytest.mark.parametrize(
    "number_format",
    ["", "INV", "{series}", "{sequence}", "{series}{sequence}{sequence}", "{series}{sequence:0}",
     "{series}-{sequence!r}", "{series}-{sequence}{0.__class__}", "{series}-{sequence}}",
     "{series}-{series}-{sequence}", "{series}{sequence}", "{sequence}{series}",
     "{series}{month}{sequence}", "{series}0{sequence}"],
)  # fmt: skip
def test_a_format_in_which_two_numbers_could_look_alike_is_refused(number_format: str) -> None:
    with pytest.raises(InvalidNumberFormat):
        numbering.check(number_format)


@pytest.mark.parametrize(
    "number_format",
    ["={series}-{sequence}", "-{series}-{sequence}", "{series}\n{sequence}",
     "{series}<b>{sequence}", "{series}\\{sequence}", "{series}:{sequence}",
     "{series}-{sequence}\u202e"],
)  # fmt: skip
def test_a_format_that_is_no_name_for_a_file_or_a_cell_is_refused(number_format: str) -> None:
    with pytest.raises(InvalidNumberFormat):
        numbering.check(number_format)


@pytest.mark.parametrize("series", ["A2023", "1A", "7"])
@pytest.mark.parametrize(
    "number_format", ["{series}{year}{sequence}", "{sequence}{year:5}{series}"]
)
def test_a_series_that_runs_into_the_year_is_refused(number_format: str, series: str) -> None:
    numbering.check_series(number_format, "invoice_series", "A")

    with pytest.raises(InvalidNumberFormat, match=f"invoice_series '{series}' must neither") as it:
        numbering.check_series(number_format, "invoice_series", series)

    assert it.value.field == "invoice_series"
    for apart in ("{series}-{year}{sequence}", "{sequence}{year}x{series}", numbering.FORMAT):
        numbering.check_series(apart, "invoice_series", series)
