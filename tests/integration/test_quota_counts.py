"""What was recorded past the quotas reaches them, is told, and is proved every night."""

import dataclasses
import logging
from typing import Any

import pytest
from sqlalchemy import Engine, text

from models import database
from tasks import config, quota_counts
from tasks.quota_counts import count_quotas, recount_quotas
from tasks.usage import record_usage
from tests.integration import allowance
from tests.integration.allowance import NOON, allow, at, disallow, record, use, used, void
from tests.integration.billing_world import said

SOUND = {"drifted": 0, "drifts": [], "forgotten": 0, "next_after": None}


def execute(statement: str) -> None:
    with database.transaction() as session:
        session.execute(text(statement))


def arrivals() -> list[tuple[Any, ...]]:
    return allowance.rows(
        "SELECT tenant_id, metric, at, amount FROM quota_arrivals ORDER BY tenant_id, metric, at"
    )


def test_recorded_usage_beyond_a_limit_is_told_once(db: Engine) -> None:
    allow(5)
    allow(9, window="day", soft=True)
    record(6, "a")

    assert count_quotas(as_of=NOON) == {"counted": 1, "exceeded": 1}
    record(6, "b")
    assert count_quotas(as_of=NOON) == {"counted": 1, "exceeded": 1}
    record(6, "c")
    assert count_quotas(as_of=NOON) == {"counted": 1, "exceeded": 0}
    assert use(1, "k")["allowed"] is False

    told = [event["data"] for event in said("billing.quota_exceeded")]
    assert sorted((one["window"], one["used"], one["limit"]) for one in told) == [
        ("day", "12", "9"),
        ("month", "6", "5"),
    ]


def test_nothing_waits_after_a_run_whoever_it_belongs_to(db: Engine) -> None:
    allow(5)
    record(1, "a")
    record(1, "b", tenant_id="nobody")
    record(1, "c", metric="unlimited")
    assert len(arrivals()) == 2

    assert count_quotas(as_of=NOON) == {"counted": 2, "exceeded": 0}

    assert arrivals() == []
    assert [row[:2] for row in allowance.counters()] == [("acme", "api")]
    assert count_quotas(as_of=NOON) == {"counted": 0, "exceeded": 0}


def test_usage_of_a_metric_without_limits_leaves_no_trace(db: Engine) -> None:
    record(1, "a")
    void("a")

    assert arrivals() == []


def test_what_arrives_is_put_down_by_the_quarter_of_an_hour(db: Engine) -> None:
    allow(5)
    events = [
        {
            "tenant_id": tenant_id,
            "metric": "api",
            "amount": "1.5",
            "idempotency_key": f"{minute}",
            "at": f"2026-03-10T10:{minute:02}:59Z",
        }
        for tenant_id in ("acme", "bolt")
        for minute in (0, 14, 15, 29, 59)
    ]

    record_usage(events=events, as_of=NOON)

    quarters = [(0, 3), (15, 3), (45, 1.5)]
    assert arrivals() == [
        (tenant_id, "api", at(f"2026-03-10T10:{minute:02}"), amount)
        for tenant_id in ("acme", "bolt")
        for minute, amount in quarters
    ]


def test_a_right_that_comes_later_counts_what_was_there(db: Engine) -> None:
    allow(5, tenant_id="other")
    record(3, "a")
    count_quotas(as_of=NOON)

    allow(5, as_of=NOON)

    assert used() == 3
    assert use(3, "k")["allowed"] is False


def test_a_right_that_is_had_again_counts_what_came_meanwhile(db: Engine) -> None:
    allow(50)
    use(3, "a")
    disallow(as_of=NOON)
    record(4, "b")
    count_quotas(as_of=NOON)
    record(5, "c")

    allow(50, as_of=NOON)

    assert used() == 12
    assert use(1, "k")["used"] == "13"
    assert recount_quotas(as_of=NOON) == SOUND | {"counters": 1}


def test_chunks_go_on_behind_one_another(db: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota_counts, "PAIRS_CHUNK", 3)
    monkeypatch.setattr(quota_counts, "TENANTS_CHUNK", 2)
    for number in range(10):
        allow(5, tenant_id=f"t{number}")
        record(number, f"a{number}", tenant_id=f"t{number}")

    assert count_quotas(as_of=NOON) == {"counted": 10, "exceeded": 4}
    assert [int(row[-1]) for row in allowance.counters()] == list(range(10))
    assert recount_quotas(as_of=NOON) == SOUND | {"counters": 10}
    assert recount_quotas(after="t6", as_of=NOON) == SOUND | {"counters": 3}
    monkeypatch.setattr(quota_counts, "RECOUNT_SECONDS", -1.0)
    assert recount_quotas(after="t2", as_of=NOON) == SOUND | {"counters": 2, "next_after": "t4"}


def test_a_run_whose_time_is_up_has_the_rest_proved_by_another(
    db: Engine, task_config: config.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Any] = []
    monkeypatch.setattr(quota_counts, "TENANTS_CHUNK", 1)
    monkeypatch.setattr(quota_counts, "RECOUNT_SECONDS", -1.0)
    # Instead of by a worker: here and now, with what the message holds.
    monkeypatch.setattr(
        recount_quotas, "apply_async", lambda kwargs, **_: answers.append(recount_quotas(**kwargs))
    )
    for tenant_id in ("ada", "bob"):
        allow(5, tenant_id=tenant_id)
        use(1, f"{tenant_id}", tenant_id=tenant_id)
    config.use(dataclasses.replace(task_config, kick=True))

    answers.append(recount_quotas(as_of=NOON))

    assert [(answer["counters"], answer["next_after"]) for answer in reversed(answers)] == [
        (1, "ada"),
        (1, "bob"),
        (0, None),
    ]


@pytest.mark.parametrize("waiting", [False, True])
def test_a_counter_that_is_not_what_its_events_come_to_is_reported_and_mended(
    db: Engine, caplog: pytest.LogCaptureFixture, waiting: bool
) -> None:
    allow(50)
    allow(50, window="day")
    use(3, "a")
    record(4, "b")
    if not waiting:
        count_quotas(as_of=NOON)
    execute("UPDATE quota_counters SET used = used + 1 WHERE window_unit = 'day'")
    assert used(window="day") == 8

    with caplog.at_level(logging.ERROR):
        found: Any = recount_quotas(as_of=NOON)

    assert found["drifts"] == [
        {
            "tenant_id": "acme",
            "metric": "api",
            "window": "day",
            "window_start": "2026-03-10T00:00:00+00:00",
            "stored": "8",
            "counted": "7",
        }
    ]
    assert "quota.drift" in caplog.text
    assert [event["data"]["counted"] for event in said("billing.quota_drifted")] == ["7"]
    assert used(window="day") == used() == 7
    assert recount_quotas(as_of=NOON) == SOUND | {"counters": 2}


def test_a_counter_that_was_deleted_is_made_again(db: Engine) -> None:
    allow(5)
    use(3, "a")
    record(1, "b")
    execute("DELETE FROM quota_counters")

    assert used() == 4
    assert use(1, "c")["remaining"] == "0"
    assert recount_quotas(as_of=NOON) == SOUND | {"counters": 1}


def test_counters_of_windows_long_over_are_forgotten(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quota_counts, "FORGET_CHUNK", 2)
    allow(50, window="day")
    for day in range(1, 10):
        use(1, f"k{day}", when=at(f"2026-03-{day:02}"))

    assert recount_quotas(as_of=NOON)["forgotten"] == 6
    assert [row[3] for row in allowance.counters()] == [
        at("2026-03-07"),
        at("2026-03-08"),
        at("2026-03-09"),
    ]
    assert used(window="day", when=at("2026-03-01T08:00")) == 1


def test_yesterdays_usage_tells_nobody_of_yesterdays_limit(db: Engine) -> None:
    """Only a window that runs is told of: an import of old usage is no news."""
    allow(5, window="day")
    record_usage(
        tenant_id="acme",
        metric="api",
        amount="9",
        idempotency_key="k",
        at="2026-03-09T12:00:00Z",
        as_of=NOON,
    )

    assert count_quotas(as_of=NOON) == {"counted": 1, "exceeded": 0}
    assert said("billing.quota_exceeded") == []
