"""Recording usage of tenants some of whose usage is closed, and maybe purged.

Nothing is recorded behind a tenant's horizon, and a key that was used there stays used for as long
as the keys of purged events are remembered, whatever instant it comes with. Other tenants come here
only in a chunk with such a one. A key is remembered before its event goes (see usage_purge.py), so
it is always found in one place or the other.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from models.store import recorded
from models.store.recorded import Conflict, Late, Recorded


def record(session: Session, events: Sequence[Mapping[str, Any]], *, now: dt.datetime) -> Recorded:
    """Store the events that are neither known nor behind their tenant's horizon.

    The transaction must hold the horizons: see `horizon.enter`.
    """
    sent = recorded.encoded(events)
    stored = session.execute(INSERT, {"events": sent, "now": now}).scalar_one()
    if stored is None:
        return Recorded(len(events), (), ())
    is_new = set(stored)
    others = [index for index in range(len(events)) if index not in is_new]
    # A later statement: what kept an event out may have been committed while the insert ran.
    sent = recorded.encoded([events[index] for index in others])
    rows = session.execute(COMPARE, {"events": sent, "now": now}).all()
    return _verdicts(len(events), list(zip(others, rows, strict=True)))


def expect(session: Session, events: Sequence[Mapping[str, Any]], *, now: dt.datetime) -> Recorded:
    """Tell what `record` would find of events that have distinct keys, and store nothing."""
    rows = session.execute(COMPARE, {"events": recorded.encoded(events), "now": now}).all()
    others = [(index, row) for index, row in enumerate(rows) if row.is_known or row.is_late]
    return _verdicts(len(events), others)


def _verdicts(sent: int, others: Sequence[tuple[int, Row[Any]]]) -> Recorded:
    known = [(index, row.differing) for index, row in others if row.is_known]
    return Recorded(
        accepted=sent - len(others),
        duplicates=tuple(index for index, field in known if field is None),
        conflicts=tuple(Conflict(index, field) for index, field in known if field is not None),
        late=tuple(Late(index, row.closed_until) for index, row in others if not row.is_known),
    )


# The statement of usage.py, and before it a look at the horizon and at the keys of purged events.
# Subqueries as they are keep each look a step down an index, whatever the planner believes.
INSERT = text(f"""
    WITH sent AS MATERIALIZED (
        SELECT usage_event_id(tenant_id, metric, idempotency_key) AS id, event.*
        FROM {recorded.SENT}
    ),
    closed AS MATERIALIZED (
        SELECT tenant_id, (
            SELECT closed_until FROM usage_horizons AS horizon
            WHERE horizon.tenant_id = named.tenant_id
        ) AS closed_until
        FROM (SELECT DISTINCT tenant_id FROM sent) AS named
    ),
    open AS MATERIALIZED (
        SELECT sent.* FROM sent JOIN closed USING (tenant_id)
        WHERE closed_until IS NULL OR (
            coalesce(sent.at, :now) >= closed_until
            AND NOT EXISTS (
                SELECT FROM usage_purged_keys AS kept WHERE kept.id = sent.id OFFSET 0
            )
        )
    ),
    {recorded.inserted(source="open")}
    SELECT CASE WHEN (SELECT count(*) FROM inserted) < (SELECT count(*) FROM sent) THEN (
        {recorded.places(source="open")}
    ) END
""")  # noqa: S608 (constants)

COMPARE = text(f"""
    SELECT coalesce(stored.id, kept.id) IS NOT NULL AS is_known,
           CASE WHEN stored.id IS NOT NULL THEN {recorded.DIFFERING}
                WHEN kept.amount <> sent.amount THEN 'amount'
                WHEN sent.at IS NULL AND NOT kept.is_at_arrival THEN 'at'
                WHEN kept.at <> sent.at THEN 'at'
                WHEN kept.metadata_hash <> {recorded.METADATA_HASH.format("sent.metadata")}
                THEN 'metadata' END AS differing,
           horizon.closed_until,
           coalesce(coalesce(sent.at, :now) < horizon.closed_until, false) AS is_late
    FROM (
        SELECT usage_event_id(tenant_id, metric, idempotency_key) AS id, event.*
        FROM {recorded.SENT}
    ) AS sent
    LEFT JOIN usage_events AS stored ON stored.id = sent.id
    LEFT JOIN usage_purged_keys AS kept ON kept.id = sent.id
    LEFT JOIN usage_horizons AS horizon ON horizon.tenant_id = sent.tenant_id
    ORDER BY sent.place
""")  # noqa: S608 (constants)
