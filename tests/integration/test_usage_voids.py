"""Voids: an event that was recorded by mistake counts no more, and both facts stay."""

import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy.event
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from models import database
from models.store.usage_void import UnknownUsage
from tasks import contract
from tasks.aggregation import aggregate_usage
from tasks.meters import set_meter
from tasks.usage import record_usage
from tasks.usage_voids import void_usage
from tests.integration.billing_world import instant, query

AS_OF = instant("2026-05-02T12:00:00")
LATER = AS_OF + dt.timedelta(hours=1)


def use(key: str, at: str, amount: Any = 1) -> str:
    answer = record_usage(
        tenant_id="acme", metric="api", amount=amount, idempotency_key=key, at=at, as_of=AS_OF
    )
    return answer["verdicts"][0]


def void(key: str, reason: str = "sent by a test", **more: Any) -> Any:
    arguments = {"tenant_id": "acme", "metric": "api", "as_of": AS_OF, **more}
    return void_usage(idempotency_key=key, reason=reason, **arguments)


def day_and_month() -> list[Any]:
    return query("SELECT total, event_count FROM usage_aggregates ORDER BY granularity")


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [("sum", 5), ("count", 2), ("max", 3), ("unique_count", 2), ("latest", 2)],
)
def test_a_voided_event_counts_in_no_total(db: Engine, aggregation: Any, expected: int) -> None:
    set_meter(metric="api", aggregation=aggregation)
    use("a", "2026-04-01T01:00:00Z", 3)
    use("b", "2026-04-01T02:00:00Z", 2)
    use("wrong", "2026-04-01T03:00:00Z", 9)
    aggregate_usage(as_of=AS_OF)

    void("wrong")
    assert aggregate_usage(as_of=AS_OF) == {"days": 1, "changed": 1}

    assert day_and_month() == [(expected, 2), (expected, 2)]
    assert query("SELECT count(*) FROM usage_events") == [(3,)]


def test_an_event_that_was_not_rolled_up_yet_can_be_voided(db: Engine) -> None:
    use("a", "2026-04-01")
    void("a")

    aggregate_usage(as_of=AS_OF)

    assert day_and_month() == [(0, 0), (0, 0)]


def test_voiding_twice_answers_what_was_said_first(db: Engine) -> None:
    use("a", "2026-04-01", "2.50")
    answer = {
        "tenant_id": "acme",
        "metric": "api",
        "idempotency_key": "a",
        "amount": "2.5",
        "at": "2026-04-01T00:00:00Z",
        "reason": "sent by a test",
        "actor": "ada",
        "voided_at": "2026-05-02T12:00:00Z",
    }

    assert void("a", actor="ada") == answer
    assert void("a", "another reason", as_of=LATER) == answer
    assert query("SELECT count(*) FROM usage_touched_days") == [(2,)]


def test_the_same_key_of_another_metric_is_another_event(db: Engine) -> None:
    use("a", "2026-04-01")
    record_usage(tenant_id="acme", metric="disk", amount=1, idempotency_key="a", as_of=AS_OF)

    void("a")
    void("a", metric="disk")

    assert query("SELECT metric FROM usage_voids ORDER BY 1") == [("api",), ("disk",)]


def test_a_voided_event_sent_again_is_a_duplicate_and_does_not_count(db: Engine) -> None:
    use("a", "2026-04-01")
    void("a")

    assert use("a", "2026-04-01") == "duplicate"

    aggregate_usage(as_of=AS_OF)
    assert day_and_month() == [(0, 0), (0, 0)]


def test_a_key_nobody_recorded_can_not_be_voided(db: Engine) -> None:
    use("a", "2026-04-01")

    with pytest.raises(UnknownUsage, match="'b'") as refused:
        void("b")

    assert refused.value.field == "idempotency_key"
    assert query("SELECT count(*) FROM usage_voids") == [(0,)]


@pytest.mark.parametrize("reason", ["", "x" * 501, "a\nb"])
def test_a_void_needs_a_reason(db: Engine, reason: str) -> None:
    use("a", "2026-04-01")

    with pytest.raises(contract.InvalidMessage, match="reason"):
        void("a", reason)


@pytest.mark.parametrize(
    "change", ["UPDATE usage_voids SET reason = 'x'", "DELETE FROM usage_voids"]
)
def test_what_was_said_of_a_void_can_not_be_changed(db: Engine, change: str) -> None:
    use("a", "2026-04-01")
    void("a")

    with pytest.raises(DBAPIError, match="append-only"), database.transaction() as session:
        session.execute(text(change))


def test_of_many_who_void_at_once_one_does_and_all_get_its_answer(db: Engine) -> None:
    use("a", "2026-04-01")

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: void("a", f"reason {number}"), range(8)))

    assert len({answer["reason"] for answer in answers}) == 1
    assert query("SELECT count(*) FROM usage_touched_days") == [(2,)]


def test_an_event_that_is_recorded_while_it_is_being_voided_is_voided(db: Engine) -> None:
    recorded = list[str]()

    def record(_: Any, __: Any, statement: str, *___: Any) -> None:
        if "INSERT INTO usage_voids" in statement and not recorded:
            with ThreadPoolExecutor(1) as somebody_else:
                recorded.append(somebody_else.submit(use, "a", "2026-05-02").result())

    sqlalchemy.event.listen(db, "after_cursor_execute", record)
    try:
        assert void("a")["reason"] == "sent by a test"
    finally:
        sqlalchemy.event.remove(db, "after_cursor_execute", record)
    assert recorded == ["accepted"]
    assert query("SELECT count(*) FROM usage_voids") == [(1,)]
