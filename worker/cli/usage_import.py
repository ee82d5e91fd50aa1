"""`billing usage import`."""

import time
from collections.abc import Sequence

import typer

from models import failures
from worker import boot, logs
from worker.cli import import_options as options
from worker.cli import import_summary as summary
from worker.cli import progress
from worker.imports import column_names, counting, recording, run, text

EXIT_REFUSED = 1
EXIT_UNUSABLE = 2
EXIT_INTERRUPTED = 130


def import_(
    files: options.Files,
    *,
    tenant: options.Tenant = None,
    metric: options.Metrics = None,
    metric_column: options.MetricColumn = None,
    amount_column: options.AmountColumn = None,
    at: options.At = None,
    key: options.Key = None,
    metadata: options.Metadata = None,
    source: options.Source = "",
    skip_empty: options.SkipEmpty = False,
    delimiter: options.Delimiter = None,
    encoding: options.Encoding = None,
    dry_run: options.DryRun = False,
    as_of: options.AsOf = None,
    as_json: options.AsJson = False,
) -> None:
    """Store the usage in files, once each: the same file again changes nothing.

    Without --metric or --metric-column the rows are whole events: tenant_id, metric, amount, at,
    idempotency_key, metadata. Interrupted or refused in part, run it again: what is stored counts
    once. Exit status 1 if anything was refused.
    """
    columns = column_names.Columns(
        tenant_id=tenant,
        metrics=options.metrics(metric),
        metric=metric_column,
        amount=amount_column,
        at=at,
        key=key or (),
        metadata=metadata or (),
        source=source,
        skip_empty=skip_empty,
    )
    options.require_sense(columns)
    reading = run.Options(columns, options.encoding(encoding), options.delimiter(delimiter))
    how = recording.previewing(as_of) if dry_run else recording.storing(as_of)
    ended = _import(files, reading, how)
    summary.show(ended, files, dry_run=dry_run, as_json=as_json)
    raise typer.Exit(ended.status)


def _import(files: Sequence[str], reading: run.Options, how: run.Recording) -> summary.Ended:
    ended = summary.Ended(counting.Tally())
    began = time.monotonic()
    try:
        _run(files, reading, how, ended.tally)
    except KeyboardInterrupt:
        ended.status, ended.reason = EXIT_INTERRUPTED, "interrupted"
    except text.UnusableFile as error:
        ended.status, ended.reason = EXIT_UNUSABLE, str(error)
    except Exception as error:
        if not failures.is_unreachable(error):
            raise
        reason = f"the database can not be reached: {failures.reason(error)}"
        ended.status, ended.reason = EXIT_UNUSABLE, reason
    ended.seconds = time.monotonic() - began
    if ended.status == 0 and ended.tally.refused:
        ended.status = EXIT_REFUSED
    return ended


def _run(
    files: Sequence[str], reading: run.Options, how: run.Recording, tally: counting.Tally
) -> None:
    run.check(files, reading)
    chosen = boot.prepare()
    # What is refused is told at the end, by line; a log in the middle of a bar helps nobody.
    logs.configure(chosen.log_format, "ERROR")
    boot.require_current_schema()
    sizes = [text.size(name) for name in files]
    total = None if None in sizes else sum(size or 0 for size in sizes)
    with progress.shown("importing", total=total, noun="events") as show:
        run.run(
            files,
            reading,
            tally,
            recording=how,
            watch=lambda tally: show(tally.taken, tally.events),
        )
