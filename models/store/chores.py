"""Whether senders have something to do beside sending: one look, since there seldom is."""

import datetime as dt
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class Chores:
    """What there is: leases that ran out, endpoints to be judged again, unsettled endpoints."""

    lost_leases: bool
    reviews: bool
    unsettled: bool


# Each a probe of a partial index that is empty most of the time, or of a table with few rows.
_DUE = text("""
    SELECT
        EXISTS (SELECT FROM delivery_leases
                WHERE leased_until <= clock_timestamp()) AS lost_leases,
        EXISTS (SELECT FROM endpoint_health WHERE review_at <= :now) AS reviews,
        EXISTS (SELECT FROM endpoints WHERE unsettled) AS unsettled
""")


def due(session: Session, *, now: dt.datetime) -> Chores:
    """Return what there is to do."""
    row = session.execute(_DUE, {"now": now}).one()
    return Chores(row.lost_leases, row.reviews, row.unsettled)
