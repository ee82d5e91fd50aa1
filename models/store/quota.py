"""Quota counters: how much of a metric is used in a window, to the unit and at this moment.

A counter is the sum of the amounts of its window's events. It is made by adding them up, once, and
from then on hears of every change: `quota_use.use` raises it in the statement that stores the
event; ingest and voids, which must not wait for a counter, leave a row in `quota_arrivals` in the
transaction of theirs. So counter and arrivals together are what the events come to, in any snapshot
(docs/decisions/0009-quotas.md).

What counts a tenant's metric takes `lock` first: arrivals move into counters, and counters are
made, by one transaction at a time. Locks come in one order: the call's idempotency key, this lock,
rows of arrivals and counters, the event. Nobody holds two of these locks but a run that only tries
for them and passes over what is taken.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from models.rules import quota
from models.rules.period import Period
from models.rules.quota import Limit, Standing
from models.store import counting
from models.store.entitled import Rights


@dataclass(frozen=True, slots=True)
class Span:
    """A metric of a tenant in the window that holds some instant, and the limit in force there."""

    tenant_id: str
    metric: str
    limit: Limit
    period: Period


@dataclass(frozen=True, slots=True)
class Counted:
    """What a counter says. `is_told`: subscribers know that this window's limit was exceeded."""

    span: Span
    used: Decimal
    is_told: bool

    @property
    def standing(self) -> Standing:
        """The same, for the rules."""
        return Standing(self.span.limit, self.span.period, self.used)


def spans(rights: Rights, tenant_id: str, metric: str, *, at: dt.datetime) -> list[Span]:
    """Return the windows that hold an instant, one for each limit that a tenant has of a metric."""
    limits = quota.limits(rights.by_metric.get(metric, ()))
    return [
        Span(tenant_id, metric, limit, quota.window_at(at, limit.window, rights.zone))
        for limit in limits
    ]


def lock(session: Session, *, tenant_id: str, metric: str) -> None:
    """Let nobody else count this tenant's metric until the transaction ends."""
    session.execute(LOCK, {"tenant_id": tenant_id, "metric": metric})


def read(session: Session, wanted: Sequence[Span]) -> list[Counted]:
    """Return what was used in each window, in order, as of now; takes no lock, writes nothing."""
    found = _look(session, wanted)
    missing = [span for span, row in zip(wanted, found, strict=True) if row.used is None]
    sums: list[Decimal] = []
    if missing:
        sums = list(session.execute(SUMS, given(missing)).scalars())
    summed = dict(zip(missing, sums, strict=True))
    return [
        Counted(span, summed[span] if row.used is None else row.used, row.is_told)
        for span, row in zip(wanted, found, strict=True)
    ]


def settle(session: Session, wanted: Sequence[Span], *, now: dt.datetime) -> list[Counted]:
    """Do as `read`, and make the counters that are missing. The pairs must be locked."""
    found = _look(session, wanted)
    if not all(row.is_settled for row in found):
        return fold(session, wanted, {(each.tenant_id, each.metric) for each in wanted}, now=now)
    return [Counted(span, row.used, row.is_told) for span, row in zip(wanted, found, strict=True)]


def fold(
    session: Session,
    wanted: Sequence[Span],
    pairs: set[tuple[str, str]],
    *,
    now: dt.datetime,
) -> list[Counted]:
    """Move what has arrived of locked pairs into their counters, and make those `wanted`.

    Returns:
        What was used in each that is wanted, in order.
    """
    arrays = given(wanted) | {
        "pair_tenant_ids": [tenant_id for tenant_id, _ in sorted(pairs)],
        "pair_metrics": [metric for _, metric in sorted(pairs)],
        "now": now,
    }
    rows = session.execute(FOLD, arrays)
    return [Counted(span, row.used, row.is_told) for span, row in zip(wanted, rows, strict=True)]


def _look(session: Session, wanted: Sequence[Span]) -> Sequence[Any]:
    return session.execute(LOOK, given(wanted)).all()


def given(wanted: Sequence[Span]) -> dict[str, Any]:
    """Return the parameters of `SPANS`."""
    return {
        "tenant_ids": [span.tenant_id for span in wanted],
        "metrics": [span.metric for span in wanted],
        "units": [span.limit.window.value for span in wanted],
        "starts": [span.period.start for span in wanted],
        "ends": [span.period.end for span in wanted],
    }


PAIR_KEY = "hashtextextended({tenant_id} || chr(31) || {metric}, 1903)"
"""The advisory lock of a tenant's metric; chr(31) can occur in neither."""

LOCK = text(
    "SELECT pg_advisory_xact_lock("
    + PAIR_KEY.format(tenant_id="CAST(:tenant_id AS text)", metric="CAST(:metric AS text)")
    + ")"
)

SPANS = """
    unnest(CAST(:tenant_ids AS text[]), CAST(:metrics AS text[]), CAST(:units AS text[]),
           CAST(:starts AS timestamptz[]), CAST(:ends AS timestamptz[]))
        WITH ORDINALITY AS span(tenant_id, metric, window_unit, starts_at, ends_at, place)
"""

COUNTS_SPAN = """
    counter.tenant_id = span.tenant_id AND counter.metric = span.metric
    AND counter.window_start = span.starts_at AND counter.window_unit = span.window_unit
"""

LOOK = text(f"""
    SELECT counter.used + arrived.amount AS used, counter.exceeded_at IS NOT NULL AS is_told,
           counter.used IS NOT NULL AND arrived.count = 0 AS is_settled
    FROM {SPANS}
    LEFT JOIN quota_counters AS counter ON {COUNTS_SPAN}
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(arrival.amount), 0) AS amount, count(*) AS count
        FROM quota_arrivals AS arrival
        WHERE arrival.tenant_id = span.tenant_id AND arrival.metric = span.metric
          AND arrival.at >= span.starts_at AND arrival.at < span.ends_at
    ) AS arrived
    ORDER BY span.place
""")  # noqa: S608 (constants of this module)

SUMS = text(f"SELECT sums.total FROM {SPANS} {counting.PLAIN_SUMS} ORDER BY span.place")  # noqa: S608

# One statement, so one snapshot: an event and the row that tells of it were committed together, so
# what is added up for a new counter and what is taken from the arrivals can neither overlap nor
# leave anything out. An arrival counts in every window that it lies in, also in those of a zone
# that the tenant has left: they stay true. A window that no counter counts needs none of it.
FOLD = text(f"""
    WITH span AS MATERIALIZED (SELECT * FROM {SPANS}),
    taken AS (
        DELETE FROM quota_arrivals AS arrival
        USING unnest(CAST(:pair_tenant_ids AS text[]), CAST(:pair_metrics AS text[]))
              AS pair(tenant_id, metric)
        WHERE arrival.tenant_id = pair.tenant_id AND arrival.metric = pair.metric
        RETURNING arrival.tenant_id, arrival.metric, arrival.at, arrival.amount
    ),
    raised AS (
        UPDATE quota_counters AS counter
        SET used = counter.used + arrived.amount, version = counter.version + 1, updated_at = :now
        FROM (
            SELECT held.tenant_id, held.metric, held.window_start, held.window_unit,
                   sum(taken.amount) AS amount
            FROM taken JOIN quota_counters AS held
              ON held.tenant_id = taken.tenant_id AND held.metric = taken.metric
             AND held.window_start <= taken.at AND taken.at < held.window_end
            GROUP BY held.tenant_id, held.metric, held.window_start, held.window_unit
        ) AS arrived
        WHERE counter.tenant_id = arrived.tenant_id AND counter.metric = arrived.metric
          AND counter.window_start = arrived.window_start
          AND counter.window_unit = arrived.window_unit
        RETURNING counter.*
    ),
    missing AS MATERIALIZED (
        SELECT * FROM span
        WHERE NOT EXISTS (SELECT FROM quota_counters AS counter WHERE {COUNTS_SPAN})
    ),
    made AS (
        INSERT INTO quota_counters
            (tenant_id, metric, window_start, window_unit, window_end, used, updated_at)
        SELECT span.tenant_id, span.metric, span.starts_at, span.window_unit, span.ends_at,
               sums.total, :now
        FROM missing AS span {counting.PLAIN_SUMS}
        RETURNING *
    ),
    counter AS (
        SELECT * FROM raised
        UNION ALL
        SELECT * FROM made
        UNION ALL
        SELECT counter.* FROM span JOIN quota_counters AS counter ON {COUNTS_SPAN}
        WHERE NOT EXISTS (
            SELECT FROM raised WHERE raised.tenant_id = counter.tenant_id
              AND raised.metric = counter.metric AND raised.window_start = counter.window_start
              AND raised.window_unit = counter.window_unit
        )
    )
    SELECT counter.used, counter.exceeded_at IS NOT NULL AS is_told
    FROM span JOIN counter ON {COUNTS_SPAN}
    ORDER BY span.place
""")  # noqa: S608 (constants of this module)
