"""What one screen tells of the database: states of what there is, and how fast it grows.

Looking must not make a busy system slower: nothing is read without a limit.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import text
from sqlalchemy.orm import Session

from models.rules.states import InvoiceState
from models.store.due import MOST_COUNTED


@dataclass(frozen=True, slots=True)
class Overview:
    """What there is.

    Args:
        deliveries: by each state in which something is left to do, each MOST_COUNTED at most.
        invoices: by state, among MOST_COUNTED at most.
        circuits_open: endpoints that are left alone until a probe, because they failed.
        usage_events, attempts: how many rows the server has ever written of each, in its own
            statistics: they lag by up to some seconds, and their difference is a rate.
    """

    deliveries: Mapping[str, int]
    invoices: Mapping[str, int]
    circuits_open: int
    usage_events: int
    attempts: int


OPEN_STATES: Final = ("pending", "sending", "held", "dead")
"""Of deliveries: each has an index of its own, the others are everything that ever arrived."""

_DELIVERIES = text(
    " UNION ALL ".join(
        f"SELECT '{state}' AS state, count(*) AS many FROM "  # noqa: S608 (of names of ours)
        f"(SELECT 1 FROM deliveries WHERE state = '{state}' LIMIT {MOST_COUNTED}) AS looked_at"
        for state in OPEN_STATES
    )
)

_INVOICES = text(f"""
    SELECT state, count(*) AS many
    FROM (SELECT state FROM invoices LIMIT {MOST_COUNTED}) AS looked_at GROUP BY state
""")  # noqa: S608 (a number of ours)

_CIRCUITS = text("""
    SELECT count(*) FROM endpoint_health h JOIN endpoints e ON e.id = h.endpoint_id
    WHERE h.probe_at IS NOT NULL AND e.state = 'enabled'
""")

_WRITTEN = text("""
    SELECT coalesce(sum(n_tup_ins) FILTER (WHERE relname = 'usage_events'), 0)::bigint
               AS usage_events,
           coalesce(sum(n_tup_ins) FILTER (WHERE relname LIKE 'delivery!_attempts!_%' ESCAPE '!'),
                    0)::bigint AS attempts
    FROM pg_stat_user_tables
    WHERE relname = 'usage_events' OR relname LIKE 'delivery!_attempts!_%' ESCAPE '!'
""")


def look(session: Session) -> Overview:
    """Count."""
    written = session.execute(_WRITTEN).one()
    invoices = {row.state: row.many for row in session.execute(_INVOICES)}
    return Overview(
        deliveries={row.state: row.many for row in session.execute(_DELIVERIES)},
        invoices={state.value: invoices.get(state.value, 0) for state in InvoiceState},
        circuits_open=session.scalar(_CIRCUITS) or 0,
        usage_events=written.usage_events,
        attempts=written.attempts,
    )
