"""JSON objects that people hand in: from a file, from standard input, out of an editor."""

import json
import sys
from pathlib import Path
from typing import Any

import click
import typer


def read(path: Path) -> dict[str, Any]:
    """Return the object in a file, or in standard input as "-".

    Raises:
        typer.BadParameter: there is none.
    """
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8"
        raise typer.BadParameter(f"{path}: {reason}", param_hint="--payload") from None
    return _object(text, str(path))


def edited(payload: Any, name: str) -> dict[str, Any]:
    """Return what somebody makes of a payload in $EDITOR; unchanged, if it is left as it is.

    Raises:
        typer.BadParameter: it is no object any more.
    """
    text = json.dumps(payload, indent=2, ensure_ascii=False)
    changed = click.edit(text, extension=".json")
    return _object(text if changed is None else changed, name)


def _object(text: str, what: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"{what}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise typer.BadParameter(f"{what}: must be a JSON object, as the task takes it")
    return value
