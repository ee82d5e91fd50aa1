"""Usage: events and files of them to store, what is stored, and files that it left for."""

import typer

from worker.cli import usage_archive, usage_import, usage_record, usage_show

app = typer.Typer(help="What was used.", no_args_is_help=True)
app.command("record")(usage_record.record)
app.command("show")(usage_show.show)
app.command("import")(usage_import.import_)
app.command("archive")(usage_archive.archive)
app.command("archives")(usage_archive.archives)
app.command("restore")(usage_archive.restore)
