"""What periodic jobs have to do, and since when."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import text
from sqlalchemy.orm import Session

from models.rules.states import FINAL_INVOICE_STATES, DeliveryState
from models.store import late_drawn, late_usage
from models.store.delivery_lease import is_in
from models.store.health import PROBE_GRACE

MOST_COUNTED: Final = 100_000
"""Counting stops here, for each job: looking at a backlog must not make it worse."""


@dataclass(frozen=True, slots=True)
class Due:
    """How much of a job waits, MOST_COUNTED for as much or more, and since when; None: unknown."""

    waiting: int
    oldest: dt.datetime | None


_NO_TIME = "CAST(NULL AS timestamptz)"

# For each job: what waits, the instant since when it does, and in what order it is found. Each is
# the job's own index; a log without a time says how much there is, and not how old.
_SOURCES: Final[Mapping[str, tuple[str, str]]] = {
    "billing.aggregate_usage": (_NO_TIME, "usage_touched_days"),
    "billing.count_quotas": (_NO_TIME, "quota_arrivals"),
    "billing.bill_late_usage": ("noticed_at", f"{late_usage.LEFT} ORDER BY late.id"),
    "billing.refresh_drafts": ("noticed_at", f"{late_drawn.NOT_DRAWN} ORDER BY late.id"),
    "billing.deliver_webhooks": (
        "due_at",
        # What an endpoint has due that is left alone waits for that endpoint.
        (
            f"deliveries d WHERE {is_in(DeliveryState.pending)} AND due_at <= :now AND NOT EXISTS "
            "(SELECT FROM endpoint_health h WHERE h.endpoint_id = d.endpoint_id "
            "AND (h.hold_until > :now OR h.probe_at > :now - CAST(:probe_grace AS interval))) "
            "ORDER BY due_at"
        ),
    ),
    "billing.expire_batches": (
        "expires_at",
        "credit_batches WHERE state = 'ACTIVE' AND expires_at <= :now ORDER BY expires_at",
    ),
    "billing.expire_reservations": (
        "expires_at",
        "reservations WHERE state = 'held' AND expires_at <= :now ORDER BY expires_at",
    ),
    "billing.renew_subscriptions": (
        "next_at",
        "subscription_credits WHERE next_at <= :now ORDER BY next_at",
    ),
    "billing.generate_invoices": (
        "next_invoice_at",
        "subscriptions WHERE next_invoice_at <= :now ORDER BY next_invoice_at",
    ),
    "billing.finalize_invoices": (
        "period_end",
        "invoices WHERE state = 'draft' AND period_end <= :closed_by ORDER BY period_end",
    ),
    "billing.sync_invoices": (
        "due_at",
        "invoice_syncs WHERE state = 'pending' AND due_at <= :now ORDER BY due_at",
    ),
}

JOBS: Final = tuple(_SOURCES)
"""The jobs whose work is found here."""

_COUNT = text(
    " UNION ALL ".join(
        f"(SELECT '{job}' AS job, count(*) AS waiting, min(since) AS oldest "  # noqa: S608
        f"FROM (SELECT {since} AS since FROM {source} LIMIT {MOST_COUNTED}) AS due)"
        for job, (since, source) in _SOURCES.items()
    )
)


def by_job(session: Session, *, now: dt.datetime, closed_by: dt.datetime) -> dict[str, Due]:
    """Return what waits for each of `JOBS`.

    Args:
        closed_by: drafts of periods that ended by then have had their grace.
    """
    bound = {
        "now": now,
        "closed_by": closed_by,
        "probe_grace": PROBE_GRACE,
        "final": sorted(FINAL_INVOICE_STATES),
    }
    rows = session.execute(_COUNT, bound)
    return {row.job: Due(row.waiting, row.oldest) for row in rows}
