"""Many at once: never a unit over a hard limit, told once, and no tenant in another's way."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, text

from models import database
from models.store import quota, usage
from tasks.quota_counts import count_quotas, recount_quotas
from tasks.usage import record_usage
from tests.integration import allowance
from tests.integration.allowance import NOON, allow, at, record, use, used, void
from tests.integration.billing_world import said
from tests.integration.waiting import until_somebody_waits

CALLERS = 64


@pytest.fixture
def many(database_url: str) -> Iterator[Engine]:
    """A pool in which every caller has a connection of its own."""
    database.configure(database.Options(url=database_url, pool_size=CALLERS + 4))
    yield database.engine()
    database.dispose()


def at_once(count: int, call: Callable[[int], Any]) -> list[Any]:
    """Run `call(0)`, `call(1)` … in threads that start together; return what they return."""
    together = threading.Barrier(count)

    def run(number: int) -> Any:
        together.wait(timeout=60)
        return call(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def assert_sound() -> None:
    """Counters are what the events come to, and every event is one that was allowed."""
    assert recount_quotas(as_of=NOON)["drifted"] == 0
    count_quotas(as_of=NOON)
    assert recount_quotas(as_of=NOON)["drifted"] == 0


def test_sixty_four_callers_never_exceed_a_hard_limit(many: Engine) -> None:
    """The first use of a window, so that its counter is made under the race as well."""
    allow(100)
    allow("70", window="day")

    answers = at_once(CALLERS, lambda number: [use(1, f"{number}-{n}") for n in range(3)])

    allowed = [one for three in answers for one in three if one["allowed"]]
    assert len(allowed) == 70
    assert sorted(int(one["windows"][0]["used"]) for one in allowed) == list(range(1, 71))
    assert allowance.rows("SELECT count(*), sum(amount) FROM usage_events") == [(70, 70)]
    assert [used for *_, used in allowance.counters()] == [70, 70]
    assert [one["data"]["window"] for one in said("billing.quota_exceeded")] == ["day"]
    assert_sound()


def test_uneven_amounts_fill_a_limit_to_the_last_decimal(many: Engine) -> None:
    allow("10")

    answers = at_once(CALLERS, lambda number: use(f"0.{number % 7 + 1}", f"k{number}"))

    taken = sum(
        Decimal(number % 7 + 1) / 10 for number, one in enumerate(answers) if one["allowed"]
    )
    assert allowance.rows("SELECT sum(amount) FROM usage_events") == [(taken,)]
    # Whoever was refused did not fit then, so even the least of them does not fit now.
    refused = [number % 7 + 1 for number, one in enumerate(answers) if not one["allowed"]]
    assert refused
    assert Decimal(10) - Decimal("0.1") * max(refused) < taken <= 10
    assert_sound()


def test_one_key_is_used_once_by_all(many: Engine) -> None:
    allow(5)

    answers = at_once(16, lambda _: use(2, "same"))

    assert all(answer == answers[0] for answer in answers)
    assert used() == 2


def test_a_soft_limit_is_told_once_however_many_cross_it(many: Engine) -> None:
    allow(10, soft=True)
    allow(5, window="day", soft=True)

    answers = at_once(32, lambda number: use(1, f"k{number}"))

    assert all(answer["allowed"] for answer in answers)
    assert sum(answer["exceeded"] for answer in answers) == 27
    assert sorted(one["data"]["window"] for one in said("billing.quota_exceeded")) == [
        "day",
        "month",
    ]


def test_uses_records_voids_and_counting_at_once_lose_nothing(many: Engine) -> None:
    """Ingest waits for no counter, and the counters miss none of it."""
    allow(200)
    allow(90, tenant_id="bolt")
    for number in range(8):
        record(1, f"void{number}")

    def one(number: int) -> Any:
        if number % 4 == 0:
            return [use(1, f"u{number}-{n}")["allowed"] for n in range(8)]
        if number % 4 == 1:
            events = [_event(f"r{number}-{n}", tenant_id=t) for n in range(4) for t in TENANTS]
            return record_usage(events=events, as_of=NOON)["verdicts"]
        if number % 4 == 2:
            return void(f"void{number // 4}")
        return count_quotas(as_of=NOON)

    at_once(32, one)

    facts = dict(allowance.rows(LIVE))
    assert used() == facts["acme"] == 8 * 8 + 8 * 4
    assert used(tenant_id="bolt") == facts["bolt"] == 8 * 4
    assert_sound()
    assert used() == facts["acme"]
    assert allowance.rows("SELECT * FROM quota_arrivals") == []


TENANTS = ("acme", "bolt")

LIVE = """
    SELECT tenant_id, sum(amount) FROM usage_events
    WHERE id NOT IN (SELECT event_id FROM usage_voids) GROUP BY tenant_id
"""


def _event(key: str, **changed: Any) -> dict[str, Any]:
    return {
        "tenant_id": "acme",
        "metric": "api",
        "amount": "1",
        "idempotency_key": key,
        "at": "2026-03-10T11:00:00Z",
        **changed,
    }


def test_a_hard_limit_holds_while_usage_is_recorded_beside_it(many: Engine) -> None:
    """What is recorded can go over; what is used can not, of what is left."""
    allow(60)

    def one(number: int) -> int:
        if number % 2:
            record(1, f"r{number}")
            return 0
        return sum(use(1, f"u{number}-{n}")["allowed"] for n in range(4))

    taken = sum(at_once(40, one))

    assert used() == taken + 20
    assert taken <= 60
    assert use(60 - min(60, taken + 20) + 1, "over")["allowed"] is False
    assert_sound()


def test_one_tenant_never_waits_for_another(impatient: Engine) -> None:
    allow(10)
    allow(10, tenant_id="bolt")
    for tenant_id in TENANTS:
        use(1, "first", tenant_id=tenant_id)
        record(1, "beside", tenant_id=tenant_id)

    with impatient.connect() as connection, connection.begin():
        connection.execute(quota.LOCK, {"tenant_id": "acme", "metric": "api"})
        connection.execute(text("SELECT 1 FROM quota_counters WHERE tenant_id = 'acme' FOR UPDATE"))
        connection.execute(text("SELECT 1 FROM quota_arrivals WHERE tenant_id = 'acme' FOR UPDATE"))

        assert use(1, "second", tenant_id="bolt")["used"] == "3"
        assert use(1, "other metric", metric="other")["reason"] == "no_entitlement"
        assert allowance.check()["used"] == "2"
        record(1, "still", tenant_id="acme")
        assert count_quotas(as_of=NOON) == {"counted": 0, "exceeded": 0}
        record(1, "still", tenant_id="bolt")
        assert count_quotas(as_of=NOON) == {"counted": 1, "exceeded": 0}


def test_ingest_that_did_not_know_of_a_limit_is_waited_for(many: Engine) -> None:
    """Its usage could otherwise be committed after the first count, and tell no counter."""
    record(1, "known")
    ingest = many.connect()
    with ingest.begin():
        _ingest(ingest, "under way")
        with ThreadPoolExecutor(1) as pool:
            setting = pool.submit(allow, 10)
            until_somebody_waits()
            assert not setting.done()
            ingest.commit()
            setting.result(timeout=30)
    ingest.close()

    assert used() == 2
    assert use(1, "k")["used"] == "3"
    # A metric that is known already waits for nobody.
    other = many.connect()
    with other.begin():
        _ingest(other, "later")
        allow(20, tenant_id="bolt")
        assert use(1, "k2")["used"] == "4"
        other.commit()
    other.close()
    assert used() == 5
    assert_sound()


def _ingest(connection: Any, key: str) -> None:
    """What billing.record_usage does, in a transaction that stays open."""
    session = database.Session(bind=connection, autoflush=False)
    sent = {**_event(key), "at": NOON}
    assert usage.record(session, [sent], now=NOON).accepted == 1


def test_usage_committed_after_a_counter_was_made_is_counted(many: Engine) -> None:
    """Begun before the counter, committed after it: the counter neither saw nor misses it."""
    allow(10)
    ingest = many.connect()
    with ingest.begin():
        _ingest(ingest, "in flight")
        assert use(1, "first")["used"] == "1"
        ingest.commit()
    ingest.close()

    assert used() == 2
    assert use(1, "second")["used"] == "3"
    assert_sound()


def test_a_counter_at_midnight_belongs_to_one_day(many: Engine) -> None:
    """Callers on both sides of a midnight that is 18:15 in UTC."""
    allow(20, window="day", zone="Asia/Kathmandu")
    sides = [at("2026-03-10T18:14:59.999999"), at("2026-03-10T18:15:00")]

    answers = at_once(
        CALLERS, lambda number: use(1, f"k{number}", when=sides[number % 2])["allowed"]
    )

    assert Counter(answers) == {True: 40, False: 24}
    assert [used for *_, used in allowance.counters()] == [20, 20]
    assert len(said("billing.quota_exceeded")) == 2
