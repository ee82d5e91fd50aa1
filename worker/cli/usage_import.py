"""`billing usage import`."""

import datetime as dt
import time
from collections.abc import Sequence
from typing import Annotated

import typer

from models import database
from tasks.usage import Preview, preview, record_usage
from worker import boot, logs
from worker.cli import import_summary as summary
from worker.cli import progress
from worker.cli.instants import instant
from worker.imports import mapping, run, text

EXIT_REFUSED = 1
EXIT_UNUSABLE = 2
EXIT_INTERRUPTED = 130


def import_(
    files: Annotated[
        list[str],
        typer.Argument(help="CSV or JSON lines, also gzip; - is standard input.", metavar="FILE…"),
    ],
    *,
    tenant: Annotated[
        str | None,
        typer.Option(help="Whose usage it is. [default: the column tenant_id]"),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="A metric and the column of its amounts; several times.", metavar="NAME=COLUMN"
        ),
    ] = None,
    metric_column: Annotated[
        str | None, typer.Option(help="The column that names the metric.", metavar="COLUMN")
    ] = None,
    amount_column: Annotated[
        str | None, typer.Option(help="The column of the amount, beside it.", metavar="COLUMN")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            help="The column of the instant: ISO 8601, UTC if it names no zone, digits beyond "
            "microseconds are cut off. [default: now]",
            metavar="COLUMN",
        ),
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(
            help="A column of the idempotency key; several times. [default: made from the row's "
            "content and line]",
            metavar="COLUMN",
        ),
    ] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option(help="A column to keep as metadata; several times.", metavar="COLUMN"),
    ] = None,
    source: Annotated[
        str,
        typer.Option(
            help="A part of the keys that are made, for files that may repeat one another's rows "
            "on the same lines, such as daily files without instants."
        ),
    ] = "",
    skip_empty: Annotated[
        bool,
        typer.Option("--skip-empty", help="Leave out empty amounts; without it they are refused."),
    ] = False,
    delimiter: Annotated[
        str | None, typer.Option(help="Between cells. [default: found in the header]")
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(help="Of the text. [default: UTF-8, or what the file's mark says]")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Check every row against the rules and what is stored; store nothing."
        ),
    ] = False,
    as_of: Annotated[
        str | None, typer.Option(help="When it arrives. [default: now]", metavar="INSTANT")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON object.")] = False,
) -> None:
    """Store the usage in files, once each: the same file again changes nothing.

    Without --metric or --metric-column the rows are whole events: tenant_id, metric, amount, at,
    idempotency_key, metadata. Interrupted or refused in part, run it again: what is stored counts
    once. Exit status 1 if anything was refused.
    """
    columns = mapping.Columns(
        tenant_id=tenant,
        metrics=[_metric(each) for each in metric or ()],
        metric=metric_column,
        amount=amount_column,
        at=at,
        key=key or (),
        metadata=metadata or (),
        source=source,
        skip_empty=skip_empty,
    )
    _require_sense(columns)
    options = run.Options(columns, encoding=_encoding(encoding), delimiter=_delimiter(delimiter))
    arrival = instant(as_of, option="--as-of")
    chosen = boot.prepare()
    # What is refused is told at the end, by line; a log in the middle of a bar helps nobody.
    logs.configure(chosen.log_format, "ERROR")
    record = _previewer(arrival) if dry_run else _recorder(arrival)
    ended = _import(files, options, record)
    summary.show(ended, files, dry_run=dry_run, as_json=as_json)
    raise typer.Exit(ended.status)


def _import(files: Sequence[str], options: run.Options, record: run.Record) -> summary.Ended:
    ended = summary.Ended(run.Tally())
    began = time.monotonic()
    try:
        run.check(files, options)
        boot.require_current_schema()
        sizes = [text.size(name) for name in files]
        total = None if None in sizes else sum(size or 0 for size in sizes)
        with progress.shown("importing", total=total, noun="events") as show:
            run.run(
                files,
                options,
                ended.tally,
                record=record,
                watch=lambda tally: show(tally.taken, tally.events),
            )
    except KeyboardInterrupt:
        ended.status, ended.reason = EXIT_INTERRUPTED, "interrupted"
    except text.UnusableFile as error:
        ended.status, ended.reason = EXIT_UNUSABLE, str(error)
    except Exception as error:
        if not database.is_unreachable(error):
            raise
        reason = f"the database can not be reached: {database.reason(error)}"
        ended.status, ended.reason = EXIT_UNUSABLE, reason
    finally:
        database.dispose()
    ended.seconds = time.monotonic() - began
    if ended.status == 0 and ended.tally.refused:
        ended.status = EXIT_REFUSED
    return ended


def _recorder(arrival: dt.datetime | None) -> run.Record:
    given = {} if arrival is None else {"as_of": arrival}
    return lambda events: record_usage(events=events, **given)  # type: ignore[arg-type]


def _previewer(arrival: dt.datetime | None) -> run.Record:
    def record(events: list[mapping.Event]) -> Preview:
        with database.transaction() as session:
            return preview(session, events, now=arrival or dt.datetime.now(dt.UTC))

    return record


def _require_sense(columns: mapping.Columns) -> None:
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


def _metric(given: str) -> tuple[str, str]:
    # The last one: a metric's name may hold an equals sign more easily than a column's.
    name, parted, column = given.rpartition("=")
    if not (name and parted and column):
        raise typer.BadParameter(
            f"{given!r} must be NAME=COLUMN, such as input_tokens=ContextTokens",
            param_hint="--metric",
        )
    return name, column


def _delimiter(given: str | None) -> str | None:
    chosen = {"\\t": "\t", "tab": "\t"}.get(given or "", given)
    if chosen is not None and (len(chosen) != 1 or chosen in '"\r\n'):
        raise typer.BadParameter(f"{given!r} must be one character", param_hint="--delimiter")
    return chosen


def _encoding(given: str | None) -> str | None:
    if given is None:
        return None
    try:
        return text.encoding(given)
    except LookupError:
        raise typer.BadParameter(
            f"no text encoding is named {given!r}; such as latin-1 or cp1252",
            param_hint="--encoding",
        ) from None
