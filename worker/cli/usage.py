"""Usage: what is stored of it, and files of it to store."""

import typer

from worker.cli import usage_import, usage_show

app = typer.Typer(help="What was used.", no_args_is_help=True)
app.command("show")(usage_show.show)
app.command("import")(usage_import.import_)
