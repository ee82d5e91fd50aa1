"""The `billing` command. Nothing is imported here that a list of commands does not need."""

import sys
from typing import Annotated, Any

import typer

from worker.cli import listing, naming

app = typer.Typer(
    name="billing",
    cls=naming.Group,
    help="A billing back office: workers, schedule, webhooks.",
    no_args_is_help=True,
    add_completion=False,
    # The pretty ones print local variables, and those are payloads and secrets.
    pretty_exceptions_enable=False,
)


@app.callback()
def begin(
    context: typer.Context,
    correlation: Annotated[
        str | None,
        typer.Option(help="An id for the log lines of all that comes of this.", metavar="ID"),
    ] = None,
) -> None:
    """A billing back office: workers, schedule, webhooks."""
    from models import database  # noqa: PLC0415
    from tasks import origin  # noqa: PLC0415

    context.call_on_close(database.dispose)
    if correlation is None:
        return
    try:
        context.with_resource(origin.within(origin.Origin(correlation)))
    except origin.InvalidCorrelationId as error:
        raise typer.BadParameter(str(error), param_hint="--correlation") from None


def whole() -> Any:
    """Return the command with all commands and groups below it, each imported."""
    group = typer.main.get_command(app)
    group.commands = {name: one.load() for name, one in listing.later().items()}  # type: ignore[attr-defined]
    return group


def main() -> None:
    """Run the `billing` command; what people can mend is said in one line, without a traceback."""
    try:
        app()
    except Exception as error:
        from worker.cli import failing  # noqa: PLC0415

        explained = failing.explained(error)
        if explained is None:
            raise
        said, status = explained
        typer.echo(f"billing: {said}", err=True)
        sys.exit(status)
