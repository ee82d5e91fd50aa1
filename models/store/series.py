"""Gapless numbers: each series is a row, and the row is the lock."""

from sqlalchemy import text as sql
from sqlalchemy.orm import Session


def take(session: Session, series: str, *, count: int) -> int:
    """Take the next `count` numbers of a series and return the first.

    The series' row is locked here and given back by the commit: take it last. A transaction that
    is undone gives its numbers back with it, so none is ever missing.
    """
    last: int = session.execute(
        sql("""
            INSERT INTO invoice_series (series, last_number) VALUES (:series, :count)
            ON CONFLICT (series)
            DO UPDATE SET last_number = invoice_series.last_number + excluded.last_number
            RETURNING last_number
        """),
        {"series": series, "count": count},
    ).scalar_one()
    return last - count + 1
