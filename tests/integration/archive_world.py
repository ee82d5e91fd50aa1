"""A small world whose usage grows old: months that are billed, or not, and a folder for files."""

import dataclasses
import datetime as dt
import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from models import database
from models.store import closing, standing
from tasks import config
from tasks.aggregation import aggregate_usage
from tasks.archiving import ArchiveAnswer, archive_usage
from tasks.config import Retention
from tasks.invoice_runs import finalize_invoices, generate_invoices
from tasks.usage import record_usage
from tasks.usage_chunk import UsageAnswer
from tests.integration.billing_world import instant, make_plan, query, subscribe, usage_price

AGE = dt.timedelta(days=60)
REMEMBERED = dt.timedelta(days=400)
ARRIVED = instant("2026-05-01T00:00:00")
OLD = instant("2026-06-01T00:00:00")
"""When January, February and March of 2026 are old enough."""

NOTHING = ArchiveAnswer(closed=0, written=0, purged=0, forgotten=0, unsound=[], finished=True)

Event = dict[str, Any]


def keep_in(folder: Path, **changed: Any) -> None:
    """Let usage leave for a folder."""
    terms = Retention(after=AGE, folder=folder, keys_remembered=REMEMBERED)
    retention: Any = dataclasses.replace(terms, **changed)
    config.use(dataclasses.replace(config.current(), retention=retention))


def event(key: str, at: str | None, amount: str = "1", **changed: Any) -> Event:
    plain = {"tenant_id": "acme", "metric": "api", "amount": amount, "idempotency_key": key}
    return {**plain, **({"at": at} if at else {}), **changed}


def record(*events: Event, as_of: dt.datetime = ARRIVED) -> UsageAnswer:
    given: Any = list(events)
    return record_usage(events=given, as_of=as_of)


def on_a_plan(tenant_id: str = "acme", *, since: str = "2026-01-01", **more: Any) -> None:
    """Put a tenant on a plan that charges for `api`, by the calendar month."""
    if not query("SELECT 1 FROM plans"):
        make_plan(usage_price("api", "0.01"))
    subscribe(tenant_id, since, **more)


def bill(until: str = "2026-05-03") -> None:
    """Roll up, and make and finalize every invoice that is due by then."""
    as_of = instant(until)
    aggregate_usage(as_of=as_of)
    generate_invoices(as_of=as_of)
    finalize_invoices(as_of=as_of)


def archive(as_of: dt.datetime = OLD) -> ArchiveAnswer:
    return archive_usage(as_of=as_of)


def close_only(as_of: dt.datetime = OLD) -> list[standing.Candidate]:
    """Close what can be, and leave it at that."""
    with database.transaction() as session:
        found = standing.find(session, standing.Rule(AGE), after="", limit=100, now=as_of)
    ids = [one.tenant_id for one in found.candidates]
    with database.transaction() as session:
        return closing.close(session, standing.Rule(AGE), ids, now=as_of)


def totals(granularity: str = "day") -> list[tuple[Any, ...]]:
    return query(
        "SELECT tenant_id, metric, period_start, total, event_count FROM usage_aggregates "
        "WHERE granularity = :granularity ORDER BY 1, 2, 3",
        granularity=granularity,
    )


def keys(table: str = "usage_events") -> int:
    return int(query(f"SELECT count(*) FROM {table}")[0][0])  # noqa: S608 (a test's own word)


def files(folder: Path) -> Sequence[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def lines(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path) as opened:
        return [orjson.loads(line) for line in opened]
