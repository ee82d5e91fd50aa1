"""Refusals of arguments say which value was wrong, whatever kind it should have been."""

from typing import Any

import typer
from pydantic import ValidationError
from typer.core import TyperGroup


class Group(TyperGroup):
    """The command of all commands: what typer refuses below it is said with its value."""

    def invoke(self, ctx: Any) -> Any:
        """Run what was asked for."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as refused:
            # Typer says "Input should be a valid integer", and not what it got instead.
            if isinstance(refused.__cause__, ValidationError):
                refused.message = _said(refused.__cause__)
            raise


def _said(error: ValidationError) -> str:
    first = error.errors()[0]
    of_one = first.get("ctx", {}).get("error")
    if isinstance(of_one, ValidationError):
        return _said(of_one)  # one of several values
    said = first["msg"].removeprefix("Value error, ")
    value = f"{first['input']!r}"
    return said if value in said else f"{value}: {said}"
