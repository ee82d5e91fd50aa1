"""Totals while zones change, tenants share a message, and others count the same."""

import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import orjson
from sqlalchemy import Engine, text

from models import database
from models.store import aggregate, recount, tenant, usage
from models.store.aggregate import Wanted
from models.store.recount import Drift
from tasks.aggregation import aggregate_usage, roll_up_in
from tasks.tenants import set_tenant
from tests.integration.billing_world import instant, query
from tests.integration.waiting import until_somebody_waits

AS_OF = instant("2026-05-03T12:00:00")
NOON = instant("2026-05-01T12:00:00")
DAY = dt.timedelta(days=1)


def use(tenant_ids: list[str], key: str) -> None:
    event = {"metric": "api", "amount": 2, "idempotency_key": key, "at": NOON}
    with database.transaction() as session:
        usage.record(session, [{"tenant_id": one, **event} for one in tenant_ids], now=AS_OF)


def days() -> list[tuple[dt.datetime, Decimal]]:
    return [
        (row[0], row[1])
        for row in query(
            "SELECT period_start, total FROM usage_aggregates "
            "WHERE granularity = 'day' ORDER BY tenant_id, period_start"
        )
    ]


def test_a_roll_up_waits_for_a_change_of_zone_and_counts_by_the_new_one(db: Engine) -> None:
    use(["acme"], "a")
    with ThreadPoolExecutor(1) as pool, database.Session(db) as changing:
        tenant.change(changing, "acme", timezone="Asia/Tokyo", now=AS_OF)
        changing.flush()
        counted = pool.submit(aggregate_usage, as_of=AS_OF)
        until_somebody_waits()
        changing.commit()
        counted.result(timeout=60)

    aggregate_usage(as_of=AS_OF)
    assert days() == [(instant("2026-04-30T15:00:00"), Decimal(2))]


def test_totals_of_a_day_go_on_rising_in_a_zone_with_the_same_midnights(db: Engine) -> None:
    set_tenant(tenant_id="acme", timezone="Europe/Berlin", as_of=AS_OF)
    for key in ("a", "b"):
        use(["acme"], key)
        aggregate_usage(as_of=AS_OF)

    set_tenant(tenant_id="acme", timezone="Europe/Paris", as_of=AS_OF)
    aggregate_usage(as_of=AS_OF)

    bodies = [
        orjson.loads(row[0])
        for row in query("SELECT body FROM outbox_messages WHERE type LIKE '%usage%'")
    ]
    assert sorted((body["sequence"], body["data"]["total"]) for body in bodies) == [
        (1, "2"),
        (2, "4"),
        (3, "4"),
    ]


def test_an_invoice_counts_what_came_in_a_message_with_other_tenants(db: Engine) -> None:
    use(["acme", "other"], "a")

    with database.transaction() as session:
        roll_up_in(session, ["acme"], now=AS_OF)
        midnight = instant("2026-05-01")
        wanted = [Wanted(one, "api", midnight, midnight + DAY) for one in ("acme", "other")]
        assert aggregate.totals(session, wanted) == [2, 0]

    # The others' part still waits for its turn.
    assert aggregate_usage(as_of=AS_OF) == {"days": 2, "changed": 1}
    assert days() == [(midnight, Decimal(2))] * 2


def test_who_finds_a_drift_while_another_tells_of_it_has_no_news(db: Engine) -> None:
    use(["acme"], "a")
    aggregate_usage(as_of=AS_OF)
    with database.transaction() as session:
        session.execute(text("UPDATE usage_aggregates SET total = 3"))
    midnight = instant("2026-05-01")
    drifts = [Drift("acme", "api", midnight, midnight + DAY, Decimal(3), Decimal(2))]

    def tell() -> list[Drift]:
        with database.transaction() as session:
            return recount.touch(session, drifts)

    with ThreadPoolExecutor(1) as pool, database.Session(db) as first:
        assert recount.touch(first, drifts) == drifts
        second = pool.submit(tell)
        until_somebody_waits()
        first.commit()

        assert second.result(timeout=60) == []
