"""A merge waits for who writes about its source: nothing stays with a name that is gone."""

import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine, text

from models import database
from models.store import usage
from tasks.aggregation import aggregate_usage
from tasks.identities import find_tenant
from tasks.merging import merge_customers, move_merged_usage
from tasks.tenants import set_tenant
from tests.integration.billing_world import instant, query
from tests.integration.waiting import until_somebody_waits

NOW = instant("2026-03-05T12:00:00")


def merge() -> Any:
    return merge_customers(source="anon", target="acme", idempotency_key="m", as_of=NOW)


@pytest.fixture
def two(db: Engine) -> None:
    for tenant_id in ("acme", "anon"):
        set_tenant(tenant_id=tenant_id)


@pytest.mark.usefixtures("two")
def test_usage_that_is_being_recorded_moves_too(db: Engine) -> None:
    used = {
        "tenant_id": "anon",
        "metric": "calls",
        "amount": 3,
        "idempotency_key": "k",
        "at": NOW - dt.timedelta(days=1),
    }
    with ThreadPoolExecutor(1) as pool, database.Session(db) as recording:
        usage.record(recording, [used], now=NOW)
        merged = pool.submit(merge)
        until_somebody_waits()
        recording.commit()
        merged.result(timeout=60)

    move_merged_usage(as_of=NOW)
    aggregate_usage(as_of=NOW)
    assert query(
        "SELECT tenant_id, total::int FROM usage_aggregates WHERE granularity = 'day'"
    ) == [("acme", 3)]


@pytest.mark.usefixtures("two")
def test_what_names_the_source_and_is_not_committed_yet_moves_too(db: Engine) -> None:
    # As somebody does who came past the program.
    name = text("""
        INSERT INTO tenant_identities (provider, external_id, tenant_id, created_at)
        VALUES ('google', '17', 'anon', now())
    """)
    with ThreadPoolExecutor(1) as pool, db.connect() as naming:
        naming.execute(name)
        merged = pool.submit(merge)
        until_somebody_waits()
        naming.commit()
        merged.result(timeout=60)

    found = find_tenant(provider="google", external_id="17")["tenant"]
    assert found is not None
    assert found["tenant_id"] == "acme"
