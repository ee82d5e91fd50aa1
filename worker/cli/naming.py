"""What typer says less well: which value it refuses, and that an option takes none."""

from typing import Any

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

from tasks.message_faults import in_our_words


class Group(TyperGroup):
    """The command of all commands: what typer refuses below it is said with its value."""

    def __init__(self, **attributes: Any) -> None:
        """Take the commands."""
        super().__init__(**attributes)
        _show_flags_as_flags(self)

    def invoke(self, ctx: Any) -> Any:
        """Run what was asked for."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as refused:
            # Typer says "Input should be a valid integer", and not what it got instead.
            if isinstance(refused.__cause__, ValidationError):
                refused.message = _said(refused.__cause__)
            raise


def _show_flags_as_flags(command: Any) -> None:
    # Typer's help says "--json <bool>", as if one could write "--json yes".
    for parameter in command.params:
        if getattr(parameter, "is_flag", False) and parameter.metavar is None:
            parameter.metavar = ""
    for below in getattr(command, "commands", {}).values():
        _show_flags_as_flags(below)


def _said(error: ValidationError) -> str:
    first = error.errors()[0]
    of_one = first.get("ctx", {}).get("error")
    if isinstance(of_one, ValidationError):
        return _said(of_one)  # one of several values
    said = in_our_words(first["msg"])
    value = f"{first['input']!r}"
    return said if value in said else f"{value}: {said}"
