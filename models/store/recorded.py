"""What becomes of usage events that are sent, and the pieces of SQL that find it out."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from models.store import touched


@dataclass(frozen=True, slots=True)
class Conflict:
    """An event whose key was used before for another one.

    Args:
        index: its place in what was given to `record`, from 0.
        field: the first of `amount`, `at` and `metadata` in which it differs from what is stored.
    """

    index: int
    field: str


@dataclass(frozen=True, slots=True)
class Late:
    """An event of a time that is closed; `closed_until` is when usage is taken from."""

    index: int
    closed_until: dt.datetime


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of a chunk: how many events are new, and which are not (by their places)."""

    accepted: int
    duplicates: tuple[int, ...]
    conflicts: tuple[Conflict, ...]
    late: tuple[Late, ...] = ()


def encoded(events: Sequence[Mapping[str, Any]]) -> str:
    """Return events as `SENT` reads them."""
    return orjson.dumps(events).decode()


SENT: Final = """
    ROWS FROM (jsonb_to_recordset(CAST(:events AS jsonb)) AS (
        tenant_id text, metric text, idempotency_key text, amount numeric, at timestamptz,
        metadata jsonb
    )) WITH ORDINALITY AS event(tenant_id, metric, idempotency_key, amount, at, metadata, place)
"""
"""The events that were sent, for a FROM clause; `place` counts from 1."""

# The same content is the same number, whatever its zeros, the same metadata and the same instant;
# an event sent without one means "when it arrived".
DIFFERING: Final = """
    CASE
        WHEN stored.amount <> sent.amount THEN 'amount'
        WHEN stored.at <> coalesce(sent.at, stored.received_at) THEN 'at'
        WHEN stored.metadata <> coalesce(sent.metadata, '{}') THEN 'metadata'
    END
"""
"""In what an event that was `sent` differs from the one that is `stored`; NULL if in nothing."""

METADATA_HASH: Final = "jsonb_hash_extended(coalesce({}, '{{}}'), 0)"
"""64 bits of metadata: the same for what is equal, whatever the order of keys and the zeros."""

_TOUCH: Final = touched.append(f"""
    SELECT tenant_id, metric, min(at) AS first_at, max(at) AS last_at
    FROM inserted
    GROUP BY tenant_id, metric, {touched.HOUR}
""")  # noqa: S608 (a constant)


def inserted(*, source: str) -> str:
    """Return the parts of a WITH that store what is new of a `source`, and log what it touched.

    Rows go in ordered by id: two transactions that share keys wait, and do not deadlock; and of one
    key the event that came first wins. The days touched are logged from what was inserted, by the
    hour, so that a span is short; and of metrics that have quotas, what came in a quarter of an
    hour, for their counters (models/store/quota.py).
    """
    return f"""
        inserted AS (
            INSERT INTO usage_events
                (id, tenant_id, metric, idempotency_key, amount, at, received_at, metadata)
            SELECT id, tenant_id, metric, idempotency_key, amount,
                   coalesce(at, :now), :now, coalesce(metadata, '{{}}')
            FROM {source}
            ORDER BY id, place
            ON CONFLICT (id) DO NOTHING
            RETURNING id, tenant_id, metric, at, amount
        ),
        touched AS (
            {_TOUCH}
        ),
        arrived AS (
            INSERT INTO quota_arrivals (tenant_id, metric, at, amount)
            SELECT tenant_id, metric, date_bin('15 minutes', at, timestamptz 'epoch'), sum(amount)
            FROM inserted JOIN quota_metrics USING (metric)
            GROUP BY 1, 2, 3
        )
    """  # noqa: S608 (constants)


def places(*, source: str) -> str:
    """Return the query of the places, from 0, of the events of a `source` that were inserted."""
    return f"""
        SELECT coalesce(array_agg(place - 1), '{{}}') FROM (
            SELECT min(place) AS place FROM {source} WHERE id IN (SELECT id FROM inserted)
            GROUP BY id
        ) AS first
    """  # noqa: S608 (constants)
