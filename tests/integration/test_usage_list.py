"""Totals are read page by page: each once, by the tenant's own days, whatever is written."""

import base64
import datetime as dt
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from models import database
from models.store.tenant import UnknownTenant
from tasks import contract, usage_list
from tasks.aggregation import aggregate_usage
from tasks.tenants import set_tenant
from tasks.usage import record_usage
from tasks.usage_list import list_usage

AS_OF = dt.datetime(2026, 5, 20, 12, tzinfo=dt.UTC)
MAY = {"date_from": "2026-05-01", "date_to": "2026-06-01"}


def use(*uses: tuple[str, str, int], tenant_id: str = "acme") -> None:
    """Metric, instant and amount of each event; all of it rolled up."""
    events = [
        {
            "tenant_id": tenant_id,
            "metric": metric,
            "at": at,
            "amount": amount,
            "idempotency_key": f"{at} {amount}",
        }
        for metric, at, amount in uses
    ]
    assert record_usage(events=events, as_of=AS_OF)["accepted"] == len(events)
    aggregate_usage(as_of=AS_OF)


def page(**changed: Any) -> usage_list.UsageList:
    return list_usage(**{"tenant_id": "acme", **MAY, **changed})


def seen(answer: usage_list.UsageList) -> list[Any]:
    return [(one["metric"], one["period_start"], one["total"]) for one in answer["usage"]]


def walk(**changed: Any) -> list[Any]:
    """What all pages hold."""
    found: list[Any] = []
    cursor = None
    while True:
        answer = page(cursor=cursor, **changed)
        found.extend(seen(answer))
        cursor = answer["next_cursor"]
        if cursor is None:
            return found


def test_totals_come_by_metric_and_then_by_day(db: Engine) -> None:
    use(("b", "2026-05-01T05:00:00Z", 1), ("a", "2026-05-02T00:00:00Z", 2))
    use(("a", "2026-05-01T23:59:59Z", 3), tenant_id="other")
    use(("a", "2026-05-01T00:00:00Z", 4))

    answer = page()

    assert answer["tenant_id"] == "acme"
    assert (answer["timezone"], answer["granularity"]) == ("UTC", "day")
    assert (answer["next_cursor"], answer["is_behind"]) == (None, False)
    assert seen(answer) == [
        ("a", "2026-05-01T00:00:00Z", "4"),
        ("a", "2026-05-02T00:00:00Z", "2"),
        ("b", "2026-05-01T00:00:00Z", "1"),
    ]
    assert answer["usage"][0] == {
        "metric": "a",
        "period_start": "2026-05-01T00:00:00Z",
        "period_end": "2026-05-02T00:00:00Z",
        "total": "4",
        "event_count": 1,
        "updated_at": "2026-05-20T12:00:00Z",
    }


def test_a_range_is_half_open_and_by_the_tenants_days(db: Engine) -> None:
    set_tenant(tenant_id="acme", timezone="Asia/Tokyo")
    use(("a", "2026-04-30T14:59:59Z", 1), ("a", "2026-04-30T15:00:00Z", 2))
    use(("a", "2026-05-02T14:59:59Z", 8), ("a", "2026-05-02T15:00:00Z", 16))

    by_date = page(date_from="2026-05-01", date_to="2026-05-03")
    by_instant = page(date_from="2026-05-01T00:00:00+09:00", date_to="2026-05-02T15:00:00Z")

    assert [total for _, _, total in seen(by_date)] == ["2", "8"]
    assert seen(by_instant) == seen(by_date)


def test_one_metric_and_one_granularity_can_be_asked_for(db: Engine) -> None:
    use(("a", "2026-05-01T00:00:00Z", 1), ("b", "2026-05-01T00:00:00Z", 2))
    with database.transaction() as session:
        session.execute(
            text(
                "INSERT INTO usage_aggregates (tenant_id, metric, granularity, period_start, "
                "period_end, total) VALUES ('acme', 'b', 'month', '2026-05-01', '2026-06-01', 7)"
                " ON CONFLICT (tenant_id, metric, granularity, period_start)"
                " DO UPDATE SET total = 7"
            )
        )

    months = page(granularity="month", metric="b")

    assert seen(page(metric="b")) == [("b", "2026-05-01T00:00:00Z", "2")]
    assert seen(months) == [("b", "2026-05-01T00:00:00Z", "7")]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(limit=st.integers(1, 13), metric=st.sampled_from([None, "m0", "m2"]))
def test_pages_of_any_size_hold_each_total_once(
    paged: None, limit: int, metric: str | None
) -> None:
    assert walk(limit=limit, metric=metric) == seen(page(metric=metric))


@pytest.fixture
def paged(db: Engine) -> None:
    use(*[(f"m{n % 3}", f"2026-05-{n + 1:02}T00:00:00Z", 1) for n in range(12)])


def test_what_is_written_between_pages_moves_nothing(paged: None) -> None:
    before = walk()
    first = page(limit=5)
    use(("m0", "2026-05-02T00:00:00Z", 5), ("a", "2026-05-02T00:00:00Z", 5))

    rest = []
    cursor = first["next_cursor"]
    while cursor:
        answer = page(limit=5, cursor=cursor)
        rest += seen(answer)
        cursor = answer["next_cursor"]

    assert seen(first) + rest == before


def test_usage_that_waits_for_its_roll_up_is_said_to(db: Engine) -> None:
    use(("a", "2026-05-01T00:00:00Z", 1))
    record_usage(tenant_id="acme", metric="a", amount=1, idempotency_key="new", as_of=AS_OF)

    assert page()["is_behind"] is True


def forged(*parts: Any) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(parts)).decode()


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "nonsense",
        "žluť",
        forged(),
        forged("acme", None, "day", "a"),
        forged("acme", None, "day", 5, "2026-05-01T00:00:00Z"),
        forged("acme", None, "day", "\0", "2026-05-01T00:00:00Z"),
        forged("acme", None, "day", "a", "2026-05-01T00:00:00"),
        forged("acme", None, "day", "a", "soon"),
        forged("acme", None, "month", "a", "2026-05-01T00:00:00Z"),
        forged("other", None, "day", "a", "2026-05-01T00:00:00Z"),
    ],
)
def test_a_cursor_of_another_query_is_refused(paged: None, cursor: str) -> None:
    with pytest.raises(usage_list.InvalidCursor, match="no cursor to begin anew"):
        page(cursor=cursor)


def test_what_can_not_be_listed_is_refused_by_name(db: Engine) -> None:
    with pytest.raises(UnknownTenant):
        page()
    use(("a", "2026-05-01T00:00:00Z", 1))
    with pytest.raises(usage_list.EmptyRange, match="2026-06-01"):
        page(date_from="2026-06-01")
    for wrong in ({"limit": 0}, {"limit": 1_001}, {"granularity": "week"}, {"date_to": "later"}):
        with pytest.raises(contract.InvalidMessage, match=next(iter(wrong))):
            page(**wrong)
