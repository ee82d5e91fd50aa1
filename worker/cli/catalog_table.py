"""Products and offers as CSV files: the same two commands for both."""

import sys
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from tasks.catalog_import import CatalogImported, export_catalog, import_catalog
from worker import catalog_csv
from worker.cli import catalog_view, destination, printing
from worker.cli.printing import AsJson

DryRun = Annotated[bool, typer.Option(help="Only tell what would change.")]


def add(app: typer.Typer, kind: catalog_csv.Kind) -> None:
    """Give a command its `export` and `import`."""
    header = ",".join(catalog_csv.COLUMNS[kind])

    @app.command("export", help=f"Write all {kind} as CSV: {header}.")
    def export(
        file: Annotated[
            Path | None, typer.Argument(metavar="[FILE]", help="Where to.", show_default="output")
        ] = None,
    ) -> None:
        printing.prepare()
        entries = export_catalog().get(kind, [])
        with destination.text(file) as opened:
            count = catalog_csv.write(opened, kind, entries)
        if not destination.is_stdout(file):
            typer.echo(f"wrote {count} {kind} to {file}")

    @app.command(
        "import",
        help=f"Make or change the {kind} in a CSV file, all of them or none, by key; "
        f"an empty cell is the default. The header is {header}.",
    )
    def import_(
        file: Annotated[Path, typer.Argument(metavar="FILE", help="- is standard input.")],
        *,
        dry_run: DryRun = False,
        as_json: AsJson = False,
    ) -> None:
        table = _read(file, kind)
        printing.prepare()
        document: Any = {kind: table.entries}
        outcome = import_catalog(catalog=document, dry_run=True)
        if not (dry_run or outcome["refused"]):
            outcome = import_catalog(catalog=document)
        _show(outcome, table, as_json=as_json)
        if outcome["refused"]:
            raise typer.Exit(1)


def _show(outcome: CatalogImported, table: catalog_csv.Table, *, as_json: bool) -> None:
    if as_json:
        lines = [
            None if one["place"] is None else table.lines[one["place"]]
            for one in outcome["refused"]
        ]
        faults = zip(outcome["refused"], lines, strict=True)
        printing.print_json({**outcome, "refused": [{**one, "line": line} for one, line in faults]})
        return
    for fault in outcome["refused"]:
        place = fault["place"]
        where = "" if place is None else f"line {table.lines[place]}: "
        typer.echo(f"{where}{catalog_view.said({**fault, 'place': None})}", err=True)
    catalog_view.show(printing.console(), {**outcome, "refused": [], "unlisted": {}})


def _read(file: Path, kind: catalog_csv.Kind) -> catalog_csv.Table:
    try:
        if str(file) == "-":
            return catalog_csv.read(sys.stdin, kind)
        with _opened(file) as opened:
            return catalog_csv.read(opened, kind)
    except catalog_csv.UnreadableTable as error:
        for fault in error.faults:
            typer.echo(f"line {fault.line}: {fault.reason}", err=True)
        raise typer.Exit(1) from None
    except UnicodeDecodeError:
        raise typer.BadParameter(f"{file}: is not UTF-8", param_hint="FILE") from None


def _opened(file: Path) -> TextIO:
    try:
        return file.open(encoding="utf-8", newline="")
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}", param_hint="FILE") from None
