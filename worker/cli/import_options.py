"""The options of `billing usage import`, and what they must be."""

import datetime as dt
from collections.abc import Sequence
from typing import Annotated

import typer

from worker.cli import kinds
from worker.imports import column_names, text

Files = Annotated[
    list[str],
    typer.Argument(help="CSV or JSON lines, also gzip; - is standard input.", metavar="FILE…"),
]
Tenant = Annotated[
    str | None, typer.Option(help="Whose usage it is.", show_default="the column tenant_id")
]
Metrics = Annotated[
    list[str] | None,
    typer.Option(
        help="A metric and the column of its amounts; several times.", metavar="NAME=COLUMN"
    ),
]
MetricColumn = Annotated[
    str | None, typer.Option(help="The column that names the metric.", metavar="COLUMN")
]
AmountColumn = Annotated[
    str | None, typer.Option(help="The column of the amount, beside it.", metavar="COLUMN")
]
At = Annotated[
    str | None,
    typer.Option(
        help="The column of the instant: ISO 8601, UTC if it names no zone, digits beyond "
        "microseconds are cut off.",
        show_default="now",
        metavar="COLUMN",
    ),
]
Key = Annotated[
    list[str] | None,
    typer.Option(
        help="A column of the idempotency key; several times.",
        show_default="made from the row's content and line",
        metavar="COLUMN",
    ),
]
Metadata = Annotated[
    list[str] | None,
    typer.Option(help="A column to keep as metadata; several times.", metavar="COLUMN"),
]
Source = Annotated[
    str,
    typer.Option(
        help="A part of the keys that are made, for files that may repeat one another's rows "
        "on the same lines, such as daily files without instants."
    ),
]
SkipEmpty = Annotated[
    bool,
    typer.Option("--skip-empty", help="Leave out empty amounts; without it they are refused."),
]
Delimiter = Annotated[
    str | None, typer.Option(help="Between cells.", show_default="found in the header")
]
Encoding = Annotated[
    str | None,
    typer.Option(help="Of the text.", show_default="UTF-8, or what the file's mark says"),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Check every row against the rules and what is stored; store nothing."
    ),
]
AsOf = Annotated[
    dt.datetime | None,
    typer.Option(
        help="When it arrives.", show_default="now", metavar="INSTANT", parser=kinds.instant
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="End with one JSON object.")]


def require_sense(columns: column_names.Columns) -> None:
    """Refuse options that contradict one another.

    Raises:
        BadParameter: saying which go together.
    """
    if columns.metrics and (columns.metric or columns.amount):
        raise typer.BadParameter(
            "give either --metric NAME=COLUMN, or --metric-column and --amount-column"
        )
    if bool(columns.metric) != bool(columns.amount):
        raise typer.BadParameter("--metric-column and --amount-column go together")
    if columns.are_whole and (columns.at or columns.key or columns.metadata or columns.skip_empty):
        raise typer.BadParameter(
            "whole events name their own fields; with --at, --key, --metadata or --skip-empty say "
            "what is counted: --metric NAME=COLUMN, or --metric-column and --amount-column"
        )


def metrics(given: Sequence[str] | None) -> list[tuple[str, str]]:
    """Read what was given as NAME=COLUMN.

    Raises:
        BadParameter: one is not of that kind.
    """
    return [_metric(each) for each in given or ()]


def delimiter(given: str | None) -> str | None:
    """Read what stands between cells: a character, or "tab".

    Raises:
        BadParameter: it can not stand there.
    """
    chosen = {"\\t": "\t", "tab": "\t"}.get(given or "", given)
    if chosen is not None and (len(chosen) != 1 or chosen in '"\r\n'):
        raise typer.BadParameter(f"{given!r} must be one character", param_hint="--delimiter")
    return chosen


def encoding(given: str | None) -> str | None:
    """Read the name of an encoding of text.

    Raises:
        BadParameter: none has that name.
    """
    if given is None:
        return None
    try:
        return text.encoding(given)
    except LookupError:
        raise typer.BadParameter(
            f"no text encoding is named {given!r}; such as latin-1 or cp1252",
            param_hint="--encoding",
        ) from None


def _metric(given: str) -> tuple[str, str]:
    # The last one: a metric's name may hold an equals sign more easily than a column's.
    name, parted, column = given.rpartition("=")
    if not (name and parted and column):
        raise typer.BadParameter(
            f"{given!r} must be NAME=COLUMN, such as input_tokens=ContextTokens",
            param_hint="--metric",
        )
    return name, column
