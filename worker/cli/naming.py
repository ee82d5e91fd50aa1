"""What typer says less well: which value it refuses."""

from typing import Any

import typer
from typer.core import TyperGroup

from worker.cli import listing


class Group(TyperGroup):
    """The command of all commands: what typer refuses below it is said with its value."""

    def __init__(self, **attributes: Any) -> None:
        """Take the commands."""
        super().__init__(**attributes)
        self.commands.update(listing.later())
        listing.show_flags_as_flags(self)

    def invoke(self, ctx: Any) -> Any:
        """Run what was asked for."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as refused:
            said = _said(refused.__cause__)
            if said is not None:
                refused.message = said
            raise


def _said(error: Any) -> str | None:
    # Typer says "Input should be a valid integer", and not what it got instead. Imported here, as
    # whatever else a list of commands does not need.
    from pydantic import ValidationError  # noqa: PLC0415

    from tasks.message_faults import in_our_words  # noqa: PLC0415

    if not isinstance(error, ValidationError):
        return None
    first = error.errors()[0]
    # One of several values has an error of its own.
    of_one = _said(first.get("ctx", {}).get("error"))
    if of_one is not None:
        return of_one
    said = in_our_words(first["msg"])
    value = f"{first['input']!r}"
    return said if value in said else f"{value}: {said}"
