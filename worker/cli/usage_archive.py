"""`billing usage archive`, `archives` and `restore`: usage that left for files."""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.table import Table

from models import database
from models.store import closing, standing, usage_archive
from models.store.standing import Candidate
from models.store.usage_archive import File
from tasks import archive_file
from tasks.archive_file import ArchiveUnsound
from tasks.archive_run import rule_of
from tasks.archiving import archive_usage
from tasks.clock import now
from worker import boot, settings
from worker.cli import printing
from worker.cli import usage_archive_view as view

PAGE: Final = 200

AsJson = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]


def archive(
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would leave and what holds back the rest.")
    ] = False,
    again: Annotated[
        list[int] | None,
        typer.Option(
            help="Write this archive's file again, which is lost or spoiled; its events must all "
            "be there.",
            metavar="ID",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Archive and purge usage that is old and invoiced for good, as beat does every night.

    Exit status 1 if a file is not what was written; of that one nothing is purged.
    """
    chosen = boot.prepare()
    if chosen.retention() is None:
        raise settings.InvalidSettings(
            "BILLING_USAGE_ARCHIVE_AFTER_DAYS is not set, so no usage is ever archived"
        )
    if dry_run:
        _show_candidates(as_json=as_json)
        return
    for archive_id in again or []:
        with database.transaction() as session:
            usage_archive.write_again(session, archive_id)
    answer = archive_usage()
    _print(dict(answer) if as_json else view.summary(answer))
    if answer["unsound"]:
        raise typer.Exit(1)


def archives(
    tenant: Annotated[
        str | None, typer.Argument(help="Whose.", show_default="everyone's", metavar="TENANT")
    ] = None,
    *,
    limit: Annotated[int, typer.Option(help="How many at most.", min=1, max=100_000)] = 100,
    as_json: AsJson = False,
) -> None:
    """List archives of usage, latest months first."""
    boot.prepare()
    with database.transaction() as session:
        found = usage_archive.find(session, tenant_id=tenant, limit=limit)
        shown = [view.as_json(one) for one in found]
    if as_json:
        _print(shown)
    else:
        _print(view.table(shown) if shown else "no usage was archived")


def restore(
    file: Annotated[
        Path | None,
        typer.Argument(help="A file of archived usage.", show_default="with --verify, all"),
    ] = None,
    *,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Compare with what was recorded, and print no events."),
    ] = False,
    metric: Annotated[str | None, typer.Option(help="Events of this metric only.")] = None,
    key: Annotated[str | None, typer.Option(help="The event of this idempotency key only.")] = None,
) -> None:
    """Print the events of an archive as JSON lines, once the file was found to be what was written.

    Nothing is put back: what is archived is invoiced for good, and its totals stay. Exit status 1
    if a file is not what was written.
    """
    if file is None and not verify:
        raise typer.BadParameter("give a FILE, or --verify for all of them")
    folder = _folder(boot.prepare())
    if verify:
        _verify(folder, None if file is None else _name(folder, file))
    elif file is not None:
        _print_events(folder, _find(_name(folder, file)), metric=metric, key=key)


def _show_candidates(*, as_json: bool) -> None:
    found = [view.candidate_as_json(one, events) for one, events in _candidates()]
    if as_json:
        _print(found)
    else:
        _print(view.candidates(found) if found else "no usage is old enough")


def _candidates() -> Iterator[tuple[Candidate, int]]:
    """Everyone with usage that is old enough, and how many events of theirs would leave."""
    terms = boot.prepare().retention()
    after: str | None = ""
    while after is not None and terms is not None:
        with database.transaction() as session:
            page = standing.find(session, rule_of(terms), after=after, limit=PAGE, now=now())
            for one in page.candidates:
                yield one, closing.count_events(session, one) if one.is_settled else 0
        after = page.last_tenant_id


def _verify(folder: Path, name: str | None) -> None:
    files = _all_files() if name is None else iter([_find(name)])
    checked = unsound = 0
    for file in files:
        checked += 1
        try:
            archive_file.check(folder, file)
        except ArchiveUnsound as found:
            unsound += 1
            typer.echo(found.message)
    sound = f"{checked - unsound:,} of {checked:,} files are what was written"
    typer.echo(sound if checked else "no usage was archived")
    if unsound:
        raise typer.Exit(1)


def _all_files() -> Iterator[File]:
    after = 0
    while True:
        with database.transaction() as session:
            page = usage_archive.with_files(session, after=after, limit=PAGE)
            files = [(one.id, usage_archive.file_of(one)) for one in page]
        yield from (file for _, file in files)
        if len(files) < PAGE:
            return
        after = files[-1][0]


def _find(name: str) -> File:
    with database.transaction() as session:
        return usage_archive.file_of(usage_archive.named(session, name))


def _print_events(folder: Path, file: File, *, metric: str | None, key: str | None) -> None:
    archive_file.check(folder, file)
    for lines in archive_file.read(folder / file.name, at_once=PAGE):
        for line in _chosen(lines, metric=metric, key=key):
            sys.stdout.write(f"{line}\n")


def _chosen(lines: Sequence[bytes], *, metric: str | None, key: str | None) -> Iterator[str]:
    for line in lines:
        event = json.loads(line)
        if metric in (None, event["metric"]) and key in (None, event["idempotency_key"]):
            yield line.decode()


def _folder(chosen: settings.Settings) -> Path:
    if chosen.archive_folder is None:
        raise settings.InvalidSettings(
            "BILLING_USAGE_ARCHIVE_FOLDER is not set; it says where archives are"
        )
    archive_file.require(chosen.archive_folder)
    return chosen.archive_folder.resolve()


def _name(folder: Path, file: Path) -> str:
    """The name under which a file was recorded: its path below the folder, however it is given."""
    path = file.resolve()
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(file)


def _print(what: Table | str | list[Any] | dict[str, Any]) -> None:
    if isinstance(what, list | dict):
        typer.echo(json.dumps(what, indent=2, ensure_ascii=False))
        return
    printing.show(what)
