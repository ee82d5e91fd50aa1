"""What the values of options must be, and how that is said."""

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
import typer

from worker.cli import kinds

ID = "01a1ff79-de62-7624-8ca8-f7553888574e"


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (kinds.instant, "2026-01-31", dt.datetime(2026, 1, 31, tzinfo=dt.UTC)),
        (kinds.instant, "2026-01-31T23:00:00Z", dt.datetime(2026, 1, 31, 23, tzinfo=dt.UTC)),
        (kinds.day, "2026-01-31", dt.date(2026, 1, 31)),
        (kinds.month, "2026-01", dt.date(2026, 1, 1)),
        (kinds.amount, "12.5", Decimal("12.5")),
        (kinds.used_amount, "0", Decimal(0)),
        (kinds.change, "-12.5", Decimal("-12.5")),
        (kinds.currency, " eur", "EUR"),
        (kinds.timezone, "Europe/Rome", "Europe/Rome"),
        (kinds.json_object, '{"team": "blue"}', {"team": "blue"}),
        (kinds.named("batch"), ID, UUID(ID)),
    ],
)
def test_what_is_of_a_kind_is_read(kind: Callable[[str], Any], text: str, value: Any) -> None:
    assert kind(text) == value


@pytest.mark.parametrize(
    ("kind", "text", "right"),
    [
        (kinds.instant, "2026-13-01", "'2026-13-01' must be an instant in ISO 8601"),
        (kinds.instant, "1700000000", "'1700000000' must be an instant"),
        (kinds.day, "yesterday", "'yesterday' must be a day"),
        (kinds.month, "2026-1-1", "'2026-1-1' must be a month"),
        (kinds.amount, "0", "'0' must be a number above 0"),
        (kinds.amount, "inf", "'inf' must be a number"),
        (kinds.amount, "1e18", "'1e18' must be a number"),
        (kinds.amount, "0.0000000000001", "at most 12 decimals"),
        (kinds.used_amount, "-1", "'-1' must be a number, 0 or more"),
        (kinds.change, "0.0", "'0.0' must be a number above or below 0"),
        (kinds.currency, "GOLD", "'GOLD' must be a currency"),
        (kinds.timezone, "Mars/Tharsis", "'Mars/Tharsis' must be an IANA time zone"),
        (kinds.named("batch"), "7", "'7' must be the id of a batch, as `billing batch list`"),
        (kinds.amount, 200 * "9", f"'{80 * '9'}…' must be"),
    ],
)
def test_what_is_not_is_said_with_what_would_be_right(
    kind: Callable[[str], Any], text: str, right: str
) -> None:
    with pytest.raises(typer.BadParameter) as refused:
        kind(text)

    assert right in refused.value.message


@pytest.mark.parametrize("text", ["{", "[]", '"secret"'])
def test_of_json_only_the_fault_is_said(text: str) -> None:
    with pytest.raises(typer.BadParameter) as refused:
        kinds.json_object(text)

    assert "such as" in refused.value.message
    assert "secret" not in refused.value.message
