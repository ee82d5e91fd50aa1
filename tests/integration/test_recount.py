"""The nightly check finds nothing, unless somebody has been at the totals."""

import dataclasses
import datetime as dt
import logging
from typing import Any

import pytest
from sqlalchemy import Engine, text

from models import database
from models.store import recount as store
from tasks import config, recount
from tasks.aggregation import aggregate_usage
from tasks.meters import set_meter
from tasks.recount import recount_usage
from tasks.tenants import set_tenant
from tasks.usage import record_usage
from tasks.usage_voids import void_usage
from tests.integration.billing_world import instant, query

AS_OF = instant("2026-05-04T12:00:00")
NOW = dt.datetime(2026, 5, 4, 12, tzinfo=dt.UTC)
SOUND = {"drifted": 0, "drifts": [], "next_after": None}


def use(key: str, at: str, amount: Any = 1, *, tenant_id: str = "acme", **more: Any) -> None:
    event = {"tenant_id": tenant_id, "metric": "api", "amount": amount, "idempotency_key": key}
    answer = record_usage(**{**event, "at": at, **more}, as_of=AS_OF)
    assert answer["verdicts"] == ["accepted"]


def tamper(statement: str) -> None:
    with database.transaction() as session:
        session.execute(text(statement))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float]]:
    heard: list[tuple[str, float]] = []
    monkeypatch.setattr(
        "tasks.metrics._listener", lambda metric, amount, _: heard.append((metric.name, amount))
    )
    return heard


@pytest.mark.parametrize("aggregation", ["sum", "count", "max", "unique_count", "latest"])
def test_totals_agree_with_the_events_by_every_meter_and_zone(db: Engine, aggregation: Any) -> None:
    set_meter(metric="api", aggregation=aggregation)
    for tenant_id, zone in (("ada", "Asia/Tokyo"), ("bob", "America/St_Johns"), ("cy", "UTC")):
        set_tenant(tenant_id=tenant_id, timezone=zone)
        for hour in range(0, 84, 5):
            at = f"2026-05-0{1 + hour // 24}T{hour % 24:02}:30:00Z"
            use(f"k{hour}", at, hour % 7, tenant_id=tenant_id)
    void_usage(tenant_id="ada", metric="api", idempotency_key="k50", reason="mistake")
    aggregate_usage(as_of=AS_OF)

    assert recount_usage(as_of=AS_OF) == SOUND | {"days": 9}


def test_a_day_that_waits_for_its_roll_up_is_left_out(db: Engine) -> None:
    use("a", "2026-05-02")
    aggregate_usage(as_of=AS_OF)
    use("b", "2026-05-02")

    assert recount_usage(as_of=AS_OF) == SOUND | {"days": 2}


def test_a_day_that_an_older_meter_counted_is_left_out(db: Engine) -> None:
    use("a", "2026-05-02", 5)
    aggregate_usage(as_of=AS_OF)
    set_meter(metric="api", aggregation="count")

    assert recount_usage(as_of=AS_OF)["drifted"] == 0


@pytest.mark.parametrize(
    ("change", "stored"),
    [
        ("UPDATE usage_aggregates SET total = 6", "6"),
        ("UPDATE usage_aggregates SET event_count = 2", "5"),
        ("DELETE FROM usage_aggregates", None),
    ],
)
def test_a_total_that_is_not_what_its_events_come_to_is_reported_and_mended(
    db: Engine,
    counted: list[tuple[str, float]],
    caplog: pytest.LogCaptureFixture,
    change: str,
    stored: str | None,
) -> None:
    use("a", "2026-05-02", 5)
    aggregate_usage(as_of=AS_OF)
    tamper(change)
    before = query("SELECT * FROM usage_aggregates")

    with caplog.at_level(logging.ERROR):
        answer: Any = recount_usage(as_of=AS_OF)

    assert answer["drifts"] == [
        {
            "tenant_id": "acme",
            "metric": "api",
            "day_start": "2026-05-02T00:00:00Z",
            "stored": stored,
            "counted": "5",
        }
    ]
    assert "usage.drift" in caplog.text
    assert query("SELECT type, tenant_id FROM outbox_messages WHERE type LIKE '%drifted'") == [
        ("billing.usage_drifted", "acme")
    ]
    assert ("billing_usage_drift_total", 1) in counted
    assert query("SELECT * FROM usage_aggregates") == before
    aggregate_usage(as_of=AS_OF)
    assert recount_usage(as_of=AS_OF)["drifted"] == 0
    assert query("SELECT total, event_count FROM usage_aggregates WHERE granularity = 'day'") == [
        (5, 1)
    ]


def test_a_drift_that_several_find_is_news_to_the_first(db: Engine) -> None:
    use("a", "2026-05-02", 5)
    aggregate_usage(as_of=AS_OF)
    tamper("UPDATE usage_aggregates SET total = 6")
    with database.transaction() as session:
        found = store.check(session, after="", limit=10, days=3, now=NOW).drifts

    def news() -> list[store.Drift]:
        with database.transaction() as session:
            return store.touch(session, found)

    assert news() == list(found) != []
    assert news() == []
    aggregate_usage(as_of=AS_OF)
    assert news() == []
    assert query("SELECT count(*) FROM usage_touched_days") == [(0,)]


def test_only_days_that_are_over_and_recent_are_counted(db: Engine) -> None:
    for day in ("2026-04-30", "2026-05-04"):
        use(day, day)
    aggregate_usage(as_of=AS_OF)
    tamper("UPDATE usage_aggregates SET total = 100")

    assert recount_usage(as_of=AS_OF) == SOUND | {"days": 3}


def test_a_run_goes_on_where_the_one_before_ran_out_of_time(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recount, "CHUNK", 2)
    for tenant_id in ("ada", "bob", "cy"):
        use("a", "2026-05-02", tenant_id=tenant_id)
    aggregate_usage(as_of=AS_OF)

    assert recount_usage(after="bob", as_of=AS_OF) == SOUND | {"days": 3}
    assert recount_usage(as_of=AS_OF) == SOUND | {"days": 9}
    monkeypatch.setattr(recount, "TIME_BUDGET", -1.0)
    assert recount_usage(after="", as_of=AS_OF) == SOUND | {"days": 6, "next_after": "bob"}


def test_a_run_whose_time_is_up_has_the_rest_counted_by_another(
    db: Engine, task_config: config.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Any] = []
    monkeypatch.setattr(recount, "CHUNK", 1)
    monkeypatch.setattr(recount, "TIME_BUDGET", -1.0)
    # Instead of by a worker: here and now, with what the message holds.
    monkeypatch.setattr(
        recount_usage, "apply_async", lambda kwargs, **_: answers.append(recount_usage(**kwargs))
    )
    for tenant_id in ("ada", "bob", "cy"):
        use("a", "2026-05-02", tenant_id=tenant_id)
    aggregate_usage(as_of=AS_OF)
    config.use(dataclasses.replace(task_config, kick=True))

    answers.append(recount_usage(as_of=AS_OF))

    assert [(answer["days"], answer["next_after"]) for answer in reversed(answers)] == [
        (3, "ada"),
        (3, "bob"),
        (3, "cy"),
        (0, None),
    ]
