"""Master keys, which seal webhook secrets in the database, and peppers of trials."""

import datetime as dt
from typing import Annotated

import typer

from webhooks import keyring

app = typer.Typer(
    help="Master keys, which seal webhook secrets, and peppers of trials.", no_args_is_help=True
)


@app.callback()
def keys() -> None:
    """Master keys, which seal webhook secrets, and peppers of trials."""


@app.command()
def new(
    key_id: Annotated[
        str | None, typer.Option("--id", help="Its name.", show_default="k and today's date")
    ] = None,
) -> None:
    """Print a new entry for BILLING_MASTER_KEYS: put it first, keep the older ones behind it.

    Another one is for BILLING_TRIAL_PEPPERS: put it last, and first when every process has it.
    """
    chosen = key_id or f"k{dt.datetime.now(dt.UTC):%Y%m%d}"
    try:
        typer.echo(keyring.new_master_key(chosen))
    except keyring.InvalidMasterKeys as error:
        raise typer.BadParameter(str(error), param_hint="--id") from None
