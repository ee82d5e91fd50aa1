"""Master keys: what seals the secrets of webhook endpoints in the database."""

import datetime as dt
from typing import Annotated

import typer

from webhooks import keyring

app = typer.Typer(help="Master keys, which seal webhook secrets.", no_args_is_help=True)


@app.callback()
def keys() -> None:
    """Master keys, which seal webhook secrets."""


@app.command()
def new(
    key_id: Annotated[
        str | None, typer.Option("--id", help="Its name. [default: k and today's date]")
    ] = None,
) -> None:
    """Print a new entry for BILLING_MASTER_KEYS. Put it first, keep the older ones behind it."""
    chosen = key_id or f"k{dt.datetime.now(dt.UTC):%Y%m%d}"
    try:
        typer.echo(keyring.new_master_key(chosen))
    except keyring.InvalidMasterKeys as error:
        raise typer.BadParameter(str(error), param_hint="--id") from None
