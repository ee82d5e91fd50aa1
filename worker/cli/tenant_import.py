"""`billing tenant import`: what a system before this one knew, from CSV."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Final

import typer

from tasks.legacy import import_legacy
from worker import boot
from worker.cli import printing, progress
from worker.cli.printing import AsJson
from worker.imports import rows, text

CHUNK: Final = 500
"""Rows of one transaction."""

MOST_REASONS: Final = 20
"""How many refusals are told one by one."""

EXIT_REFUSED = 1
EXIT_UNUSABLE = 2


class Kind(StrEnum):
    """What a file holds."""

    identities = "identities"
    balances = "balances"
    subscriptions = "subscriptions"


HEADERS: Final[dict[Kind, tuple[str, ...]]] = {
    Kind.identities: ("migration_source_id", "tenant_id", "provider", "external_id"),
    Kind.balances: ("migration_source_id", "tenant_id", "product_key", "amount", "expires_at"),
    Kind.subscriptions: (
        "migration_source_id",
        "tenant_id",
        "plan_key",
        "currency",
        "quantity",
        "effective_at",
        "ended_at",
        "billed_until",
    ),
}

SINGULAR: Final = {
    Kind.identities: "identity",
    Kind.balances: "balance",
    Kind.subscriptions: "subscription",
}


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a row was not taken over."""

    line: int
    verdict: str
    code: str
    field: str | None
    reason: str


@dataclass(slots=True)
class Tally:
    """What became of the rows read so far."""

    rows: int = 0
    imported: int = 0
    unchanged: int = 0
    conflict: int = 0
    rejected: int = 0
    reasons: list[Reason] = field(default_factory=list)


def import_(
    kind: Annotated[Kind, typer.Argument(help="What the file holds.")],
    file: Annotated[
        str, typer.Argument(help="CSV, also gzip; - is standard input.", metavar="FILE")
    ],
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would become of each row; change nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Take over identities, balances or subscriptions of a system before this one, once each.

    The header is exactly, for identities: migration_source_id,tenant_id,provider,external_id; for
    balances: migration_source_id,tenant_id,product_key,amount,expires_at; for subscriptions:
    migration_source_id,tenant_id,plan_key,currency,quantity,effective_at,ended_at,billed_until.
    Interrupted or refused in part, run it again: what is known by its migration_source_id is left
    as it is. Exit status 1 if anything was refused.
    """
    printing.prepare()
    tally = Tally()
    try:
        _import(kind, file, tally, dry_run=dry_run)
    except text.UnusableFile as error:
        typer.echo(f"billing: {error}", err=True)
        raise typer.Exit(EXIT_UNUSABLE) from None
    if as_json:
        printing.print_json({"file": file, "kind": kind, "dry_run": dry_run, **asdict(tally)})
    else:
        _print(tally, file, dry_run=dry_run)
    if tally.conflict or tally.rejected:
        raise typer.Exit(EXIT_REFUSED)


def _import(kind: Kind, file: str, tally: Tally, *, dry_run: bool) -> None:
    with text.opened(file) as lines:
        table = rows.read(lines)
        header = HEADERS[kind]
        if table.header is None or tuple(table.header) != header:
            found = "JSON" if table.header is None else ",".join(table.header)
            raise text.UnusableFile(file, f"the header must be {','.join(header)}, is {found}")
        boot.require_current_schema()
        with progress.shown("importing", total=text.size(file), noun="rows") as show:
            for chunk in _chunks(table.rows()):
                _take_over(kind, chunk, tally, dry_run=dry_run)
                show(lines.taken(), tally.rows)


def _chunks(found: Iterator[rows.Row]) -> Iterator[list[rows.Row]]:
    chunk: list[rows.Row] = []
    for row in found:
        chunk.append(row)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _take_over(kind: Kind, chunk: list[rows.Row], tally: Tally, *, dry_run: bool) -> None:
    readable = [row for row in chunk if row.fault is None]
    given: Any = [dict(zip(HEADERS[kind], row.values, strict=True)) for row in readable]
    singular: Any = SINGULAR[kind]
    answer: Any = import_legacy(kind=singular, rows=given, dry_run=dry_run)
    for verdict in ("imported", "unchanged", "conflict", "rejected"):
        setattr(tally, verdict, getattr(tally, verdict) + answer[verdict])
    tally.rows += len(chunk)
    tally.rejected += len(chunk) - len(readable)
    reasons = [
        Reason(row.line, "rejected", "row.unreadable", None, f"row {row.fault}")
        for row in chunk
        if row.fault is not None
    ]
    for one in answer["refused"]:
        about = {name: one[name] for name in ("verdict", "code", "field", "reason")}
        reasons.append(Reason(readable[one["index"]].line, **about))
    reasons.sort(key=lambda reason: reason.line)
    tally.reasons += reasons[: MOST_REASONS - len(tally.reasons)]


def _print(tally: Tally, file: str, *, dry_run: bool) -> None:
    typer.echo(f"{tally.rows:,} rows" + (", nothing changed: a dry run" if dry_run else ""))
    counts = ("imported", "unchanged", "conflict", "rejected")
    typer.echo("  ".join(f"{name} {getattr(tally, name):,}" for name in counts))
    for one in tally.reasons:
        about = f"{one.field}: " if one.field else ""
        typer.echo(f"{file}:{one.line}: {one.verdict}: {about}{one.reason} ({one.code})")
    more = tally.conflict + tally.rejected - len({one.line for one in tally.reasons})
    if more > 0:
        typer.echo(f"… and {more:,} more")
