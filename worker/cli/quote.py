"""`billing quote`."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final, NoReturn

import typer
from rich.console import Console

from models.rules.refusal import Refusal
from tasks import quotes
from tasks.contract import InvalidMessage
from worker.cli import meter_view, quote_view

LONGEST_LINE: Final = 10_000_000
"""Bytes of one line."""

WIDTH_ELSEWHERE: Final = 240
"""Characters of a line where there is no terminal to ask."""

FIELDS: Final = ("model", "params", "currency", "input")
"""What is read of a line; anything else in it is left alone."""


class NotAnObject(Refusal):
    """A line is not a JSON object."""

    code = "quote.unreadable"


@dataclass(frozen=True, slots=True)
class Quoted:
    """What became of one line: an answer, or a refusal."""

    line: int
    id: Any
    answer: quotes.QuoteAnswer | None = None
    refusal: Refusal | None = None


def quote(
    file: Annotated[
        Path, typer.Argument(help="JSON lines; - is standard input.", metavar="FILE")
    ] = Path("-"),
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON lines, one for each line read.")
    ] = False,
) -> None:
    """Say what usage costs at a price, with the tiers behind each amount, as an invoice would.

    Each line is an object {model, params, currency, input}; docs/prices.md has them all. It reads
    no data. A line that can not be rated is said with its number, and the others go on. Exit status
    1 if there was one.
    """
    width = None if sys.stdout.isatty() else WIDTH_ELSEWHERE
    console = Console(markup=False, highlight=False, width=width)
    failed = 0
    with _opened(file) as stream:
        for one in _quotes(stream):
            failed += one.refusal is not None
            if as_json:
                typer.echo(json.dumps(_as_json(one), ensure_ascii=False))
            elif one.answer is not None:
                console.print(quote_view.table(one.line, one.id, one.answer))
            elif one.refusal is not None:
                typer.echo(f"line {one.line}: {_reason(one.refusal)}", err=True)
    raise typer.Exit(1 if failed else 0)


def _opened(file: Path) -> BinaryIO:
    if str(file) == "-":
        return sys.stdin.buffer
    try:
        return file.open("rb")
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}", param_hint="FILE") from None


def _quotes(stream: BinaryIO) -> Iterator[Quoted]:
    for number, raw in enumerate(iter(lambda: _line(stream), b""), start=1):
        if raw.strip():
            yield _quoted(number, raw)


def _line(stream: BinaryIO) -> bytes:
    """The next line; of one that is too long, as much as shows that it is."""
    raw = part = stream.readline(LONGEST_LINE + 1)
    while part and not part.endswith(b"\n"):
        part = stream.readline(LONGEST_LINE + 1)
    return raw


def _quoted(number: int, raw: bytes) -> Quoted:
    row: dict[str, Any] = {}
    try:
        row = _object(raw)
        answer = quotes.quote(**{name: row[name] for name in FIELDS if name in row})
    except Refusal as refusal:
        return Quoted(number, row.get("id"), refusal=refusal)
    return Quoted(number, row.get("id"), answer)


def _object(raw: bytes) -> dict[str, Any]:
    if len(raw) > LONGEST_LINE:
        raise NotAnObject(f"the line has more than {LONGEST_LINE:,} bytes")
    try:
        row = json.loads(raw, parse_float=Decimal, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise NotAnObject(f"not JSON: {error}") from None
    if not isinstance(row, dict):
        raise NotAnObject(f"must be a JSON object with {', '.join(FIELDS)}")
    return row


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")


def _as_json(one: Quoted) -> dict[str, Any]:
    said: dict[str, Any] = {"line": one.line}
    if one.id is not None:
        said["id"] = one.id
    if one.refusal is None:
        return said | dict(one.answer or {})
    error = {"code": one.refusal.code, "field": _field(one.refusal), "reason": _reason(one.refusal)}
    return {**said, "error": error}


def _field(refusal: Refusal) -> str | None:
    if isinstance(refusal, InvalidMessage) and refusal.errors:
        field: str | None = refusal.errors[0]["field"]
        return field
    return refusal.field


def _reason(refusal: Refusal) -> str:
    if isinstance(refusal, InvalidMessage):
        return meter_view.faults(refusal.errors)
    return refusal.message
