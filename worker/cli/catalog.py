"""The whole catalogue: out to a file, in from one, and what lies between."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from tasks.catalog_import import CatalogImported, export_catalog, import_catalog
from worker import catalog_file
from worker.cli import catalog_view, destination, printing
from worker.cli.printing import AsJson

app = typer.Typer(
    help="Meters, taxes, products, offers, coupons and plans as one file.", no_args_is_help=True
)


class Format(StrEnum):
    """How a file is written."""

    yaml = "yaml"
    json = "json"


File = Annotated[
    Path, typer.Argument(metavar="FILE", help="YAML, or JSON if it is called .json; - is input.")
]


@app.command()
def export(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Where to.", show_default="output")
    ] = None,
    *,
    format_: Annotated[
        Format | None,
        typer.Option(
            "--format", help="Of what is written.", show_default="by the file's name, or yaml"
        ),
    ] = None,
) -> None:
    """Write the catalogue as it is; import takes it."""
    printing.prepare()
    document = export_catalog()
    by_name = catalog_file.format_of(file or Path("-"))
    written = catalog_file.write(document, by_name if format_ is None else format_.value)
    with destination.text(file) as opened:
        opened.write(written)
    if not destination.is_stdout(file):
        typer.echo(f"wrote {sum(map(len, document.values()))} entries to {file}")


@app.command("import")
def import_(
    file: File,
    *,
    dry_run: Annotated[bool, typer.Option(help="Only tell what would change.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make the catalogue be what a file says: all of it, or nothing.

    What an entry does not say has its default. What is not in the file stays as it is.
    """
    document = _read(file)
    printing.prepare()
    outcome = import_catalog(catalog=document, dry_run=True)
    if not (dry_run or outcome["refused"]):
        outcome = import_catalog(catalog=document)
    _show(outcome, as_json=as_json)
    if outcome["refused"]:
        raise typer.Exit(1)


@app.command()
def diff(
    file: File,
    *,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="End with status 1 if anything would change.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Tell what importing a file would change, and change nothing."""
    document = _read(file)
    printing.prepare()
    outcome = import_catalog(catalog=document, dry_run=True)
    _show(outcome, as_json=as_json)
    if outcome["refused"] or (exit_code and outcome["changes"]):
        raise typer.Exit(1)


def _read(file: Path) -> Any:
    try:
        if str(file) == "-":
            return catalog_file.read(sys.stdin.read(), "yaml")
        if file.stat().st_size > catalog_file.LARGEST:
            raise typer.BadParameter(f"{file}: larger than {catalog_file.LARGEST:,} bytes")
        return catalog_file.read(file.read_text("utf-8"), catalog_file.format_of(file))
    except catalog_file.UnreadableCatalog as error:
        raise typer.BadParameter(f"{file}: {error}", param_hint="FILE") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8"
        raise typer.BadParameter(f"{file}: {reason}", param_hint="FILE") from None


def _show(outcome: CatalogImported, *, as_json: bool) -> None:
    if as_json:
        printing.print_json(outcome)
    else:
        catalog_view.show(printing.console(), outcome)
