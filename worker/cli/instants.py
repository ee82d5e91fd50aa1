"""Instants as options."""

import datetime as dt

import typer


def instant(given: str | None, *, option: str) -> dt.datetime | None:
    """Return an instant, UTC if it names no zone; None where none was given.

    Raises:
        typer.BadParameter: it is none.
    """
    if given is None:
        return None
    try:
        at = dt.datetime.fromisoformat(given)
    except ValueError:
        raise typer.BadParameter(
            f"{given!r} must be an instant in ISO 8601, such as 2026-01-31T23:59:59Z",
            param_hint=option,
        ) from None
    return at if at.tzinfo else at.replace(tzinfo=dt.UTC)
