"""Where the database is: a URL as it was written, and as SQLAlchemy wants it."""

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError


def driver_url(url: str) -> URL:
    """Return the URL with the psycopg 3 driver, whichever usual way it was written.

    Args:
        url: `postgresql://…`, `postgres://…` or `postgresql+psycopg://…`.

    Raises:
        ValueError: the URL can not be read, or names another kind of database.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # `from None`: the cause may carry the URL, and with it the password.
        raise ValueError(
            "DATABASE_URL can not be read; write postgresql://user:password@host:5432/name"
        ) from None
    if parsed.drivername not in {"postgres", "postgresql", "postgresql+psycopg"}:
        raise ValueError(
            f"DATABASE_URL starts with {parsed.drivername!r}; billing needs 'postgresql://…'"
        )
    return parsed.set(drivername="postgresql+psycopg")
