"""Notices: low once a crossing, expiring once a batch and number of days, spending undisturbed."""

import itertools
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from models.rules import notice as rules
from models.rules.refusal import Refusal
from tasks import contract, notices
from tasks.notices import get_notices, notify_expiring_credits, notify_low_credits, set_notices
from tests.integration import wallet
from tests.integration.test_credit_crashes import die_before, ends_by_kill
from tests.integration.test_credit_races import at_once

_tenants = itertools.count()


@pytest.fixture(autouse=True)
def calls(db: Engine) -> None:
    """A quantity product to grant."""
    wallet.product()


def want(*low: Any, day: float = 0, tenant_id: str = "acme", **rest: Any) -> Any:
    thresholds: Any = [str(one) for one in low]
    return set_notices(
        tenant_id=tenant_id, product_key="calls", low=thresholds, **rest, as_of=wallet.at(day)
    )


def look(day: float = 0) -> Any:
    return notify_low_credits(as_of=wallet.at(day))


def look_ahead(day: float) -> Any:
    return notify_expiring_credits(as_of=wallet.at(day))


def lows(db: Engine) -> list[tuple[str, str]]:
    """Threshold and available amount of what was told, in order."""
    told = wallet.events(db, "billing.low_credits")
    return [(one["data"]["threshold"], one["data"]["available"]) for one in told]


def expiring(db: Engine) -> list[tuple[int, str]]:
    told = wallet.events(db, "billing.expiring_credits")
    return [(one["data"]["days"], one["data"]["amount"]) for one in told]


def test_what_is_wanted_is_exactly_what_was_said_last(db: Engine) -> None:
    wallet.product("ACCESS", "period")
    want(100, "5.50", 100, expiring_days=[1, 30, 7])
    set_notices(tenant_id="acme", product_key="access", expiring_days=[3])

    answer = want("20", expiring_days=[7])

    assert answer == get_notices(tenant_id="acme")
    assert answer == {
        "tenant_id": "acme",
        "notices": [
            {"product_key": "ACCESS", "low": [], "expiring_days": [3]},
            {"product_key": "CALLS", "low": ["20"], "expiring_days": [7]},
        ],
    }
    assert [one["product_key"] for one in want()["notices"]] == ["ACCESS"]


def test_each_threshold_is_told_once_a_crossing(db: Engine) -> None:
    wallet.grant(100, "g")
    want(50, 10, 0)
    for number, (amount, day) in enumerate([(40, 1), (10, 2), (5, 3), (41, 4), (4, 5)]):
        wallet.consume(amount, f"c{number}", day=day)
        look(day)
        look(day)

    assert lows(db) == [("50", "50"), ("10", "4"), ("0", "0")]
    wallet.grant(30, "g2", day=6)
    look(6)
    wallet.consume(25, "c", day=7)
    look(7)
    assert lows(db)[3:] == [("10", "5")]
    sequences = [one["sequence"] for one in wallet.events(db, "billing.low_credits")]
    assert sequences == sorted(sequences)


def test_the_highest_threshold_that_was_crossed_comes_first() -> None:
    low = [Decimal(one) for one in (1, 5, 3)]

    assert rules.crossed(low, before=Decimal(10), now=Decimal(2)) == [5, 3]


def test_thresholds_crossed_at_once_are_all_told(db: Engine) -> None:
    wallet.grant(100, "g")
    want(50, 10, 5)
    wallet.consume(92, "c")
    look()

    assert sorted(lows(db)) == [("10", "8"), ("50", "8")]


def test_what_is_low_already_or_was_never_there_crosses_nothing(db: Engine) -> None:
    want(10)
    look()
    wallet.grant(5, "g", day=1)
    want(10, 50, day=1)
    look(1)
    wallet.consume(1, "c", day=2)
    look(2)

    assert lows(db) == []


def test_a_new_threshold_is_compared_with_what_was_seen_last(db: Engine) -> None:
    wallet.grant(100, "g")
    want(50)
    wallet.consume(60, "c", day=1)
    want(50, 45, day=1)
    look(1)
    assert sorted(lows(db)) == [("45", "40"), ("50", "40")]

    want(day=2, expiring_days=[1])
    wallet.grant(100, "g2", day=3)
    want(50, 45, day=4)
    wallet.consume(90, "c2", day=5)
    look(5)
    assert lows(db)[2:] == [("50", "50")]


def test_down_and_up_again_between_two_looks_is_not_told(db: Engine) -> None:
    wallet.grant(100, "g")
    want(50)
    wallet.consume(60, "c")
    wallet.grant(100, "g2")
    look()
    wallet.consume(100, "c2")
    look()
    assert lows(db) == [("50", "40")]

    # Nor up and down: subscribers know that it is low.
    wallet.grant(100, "g3")
    wallet.consume(100, "c3")
    look()
    assert len(lows(db)) == 1


def test_credit_that_ends_by_time_alone_is_noticed_before_any_sweep(db: Engine) -> None:
    wallet.grant(100, "short", expires_at=5)
    wallet.grant(20, "long")
    want(50)
    look(4.999)
    assert lows(db) == []

    look(5)
    wallet.sweep(5.1)
    look(5.1)

    assert lows(db) == [("50", "20")]


def test_credit_that_begins_by_time_alone_arms_the_notice_again(db: Engine) -> None:
    wallet.grant(60, "g")
    wallet.grant(100, "later", valid_from=3)
    want(50)
    wallet.consume(20, "c", day=1)
    look(1)
    look(3)
    wallet.consume(100, "c2", day=4)
    look(4)

    assert lows(db) == [("50", "40"), ("50", "40")]


def test_credit_that_is_held_is_not_available_until_its_time_is_over(db: Engine) -> None:
    wallet.grant(100, "g")
    want(50)
    wallet.hold(70, days=2)
    look(1)
    assert lows(db) == [("50", "30")]

    # Available again by time alone, swept or not; then a use crosses once more.
    assert look(2)["looked_at"] == 1
    wallet.consume(60, "c", day=2.1)
    look(2.1)
    assert lows(db)[1:] == [("50", "40")]


def test_what_a_hold_gives_back_to_a_batch_that_is_over_is_not_available(db: Engine) -> None:
    wallet.grant(100, "g", expires_at=1.5)
    want(50, 20)
    wallet.hold(70, days=2)
    look(1)
    look(2)

    assert lows(db) == [("50", "30"), ("20", "0")]


def test_what_pays_a_debt_when_it_begins_was_never_available(db: Engine) -> None:
    wallet.grant(100, "g")
    want(50)
    wallet.grant(200, "later", valid_from=3)
    wallet.deduct(280, "d", day=1)
    look(1)
    look(3)
    wallet.consume(10, "c", day=3.1)
    look(3.1)

    assert lows(db) == [("50", "0")]


def test_what_is_owed_is_not_available(db: Engine) -> None:
    wallet.grant(100, "g")
    want(50)
    wallet.grant(200, "later", valid_from=3)
    wallet.deduct(180, "d", day=1)
    look(1)
    look(3)
    wallet.consume(80, "c", day=3.1)
    look(3.1)

    assert lows(db) == [("50", "0"), ("50", "40")]


def test_only_what_has_changed_is_looked_at(db: Engine) -> None:
    for number in range(5):
        wallet.grant(100, "g", tenant_id=f"t{number}")
        want(50, tenant_id=f"t{number}")
    assert look()["looked_at"] == 0
    wallet.consume(10, "c", tenant_id="t3")

    assert look() == {"looked_at": 1, "told": 0, "finished": True}
    assert look()["looked_at"] == 0


def test_chunks_follow_one_another_until_all_is_looked_at(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "CHUNK", 2)
    monkeypatch.setattr(notices, "EXPIRING_CHUNK", 2)
    for number in range(5):
        wallet.grant(100, "g", tenant_id=f"t{number}", expires_at=5)
        want(50, tenant_id=f"t{number}", expiring_days=[2])
        wallet.consume(60, "c", tenant_id=f"t{number}")

    assert look() == {"looked_at": 5, "told": 5, "finished": True}
    assert look_ahead(4) == {"looked_at": 5, "told": 5, "finished": True}


def test_looks_at_once_tell_each_crossing_once(db: Engine) -> None:
    for number in range(30):
        wallet.grant(100, "g", tenant_id=f"t{number}", expires_at=5)
        want(50, tenant_id=f"t{number}", expiring_days=[2])
        wallet.consume(60, "c", tenant_id=f"t{number}")

    at_once(6, lambda thread: look() if thread % 2 else look_ahead(3.5))
    look()

    assert len(lows(db)) == 30
    assert len(expiring(db)) == 30


def test_every_crossing_is_told_while_it_is_spent(db: Engine) -> None:
    """The amount only falls: whenever the looks come, each threshold is crossed once."""
    thresholds = range(0, 100, 10)
    for number in range(4):
        wallet.grant(100, "g", tenant_id=f"t{number}")
        want(*thresholds, tenant_id=f"t{number}")

    def work(thread: int) -> None:
        for number in range(25):
            if thread < 2:
                look(1)
            else:
                for tenant in range(4):
                    wallet.consume(1, f"{thread}-{number}", day=1, tenant_id=f"t{tenant}")

    at_once(6, work)
    look(1)

    told = wallet.events(db, "billing.low_credits")
    crossings = sorted((one["tenant_id"], int(one["data"]["threshold"])) for one in told)
    assert crossings == [(f"t{n}", t) for n in range(4) for t in thresholds]


def test_a_look_waits_for_nobody_and_nobody_for_it(impatient: Engine) -> None:
    wallet.grant(100, "g")
    want(50)

    with impatient.connect() as connection, connection.begin():
        connection.execute(text("SELECT 1 FROM credit_notices FOR UPDATE"))
        wallet.consume(60, "c")
        assert look()["looked_at"] == 0
    with impatient.connect() as connection, connection.begin():
        connection.execute(text("SELECT 1 FROM credit_balances FOR UPDATE"))
        connection.execute(text("SELECT 1 FROM credit_batches FOR UPDATE"))
        assert look()["told"] == 1


def test_a_batch_is_told_once_by_each_number_of_days(db: Engine) -> None:
    want(expiring_days=[7, 1])
    batch_id = wallet.grant(100, "g", expires_at=30)["batch_id"]
    for day in (22.9, 23, 23, 25, 29, 29.5, 30, 31):
        if day == 25:
            wallet.consume(40, "c", day=25)
        look_ahead(day)

    assert expiring(db) == [(7, "100"), (1, "60")]
    told = wallet.events(db, "billing.expiring_credits")[0]
    assert told["data"] == {
        "tenant_id": "acme",
        "product_key": "CALLS",
        "batch_id": batch_id,
        "amount": "100",
        "expires_at": "2026-03-31T12:00:00Z",
        "days": 7,
    }


def test_a_batch_that_never_had_so_many_days_is_not_told_by_them(db: Engine) -> None:
    want(expiring_days=[7, 1])
    wallet.grant(100, "g", expires_at=3)
    for day in (0, 1, 2, 2.5):
        look_ahead(day)

    assert expiring(db) == [(1, "100")]


def test_after_a_downtime_the_nearest_number_alone_is_told(db: Engine) -> None:
    want(expiring_days=[7, 3, 1])
    wallet.grant(100, "g", expires_at=30)
    look_ahead(28)
    look_ahead(28.5)

    assert expiring(db) == [(3, "100")]
    look_ahead(29)
    assert expiring(db) == [(3, "100"), (1, "100")]


def test_a_chunk_that_ends_within_a_batch_tells_the_nearest_number_alone(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "EXPIRING_CHUNK", 1)
    want(expiring_days=[7, 3, 1])
    wallet.grant(100, "g", expires_at=30)

    assert look_ahead(28)["finished"] is True
    assert expiring(db) == [(3, "100")]


def test_nothing_is_told_of_what_has_nothing_free_or_never_ends(db: Engine) -> None:
    want(expiring_days=[7])
    wallet.grant(10, "a", expires_at=10)
    wallet.grant(10, "b", day=0.1)
    wallet.grant(10, "c", tenant_id="bolt", expires_at=10)
    wallet.consume(10, "spent", day=1)
    wallet.grant(10, "d", day=1, expires_at=10)
    wallet.hold(20, day=4, days=6)

    assert look_ahead(5)["told"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("run", [look, look_ahead], ids=["low", "expiring"])
def test_dying_in_the_middle_of_a_look_tells_it_once_later(db: Engine, run: Any) -> None:
    wallet.grant(100, "g", expires_at=5)
    want(50, expiring_days=[2])
    wallet.consume(60, "c", day=1)

    for number in range(20):
        if not ends_by_kill(die_before(number), lambda: run(4)):
            break
        assert [*lows(db), *expiring(db)] == []

    assert number >= 3
    assert len(lows(db)) + len(expiring(db)) == 1
    run(4)
    assert len(lows(db)) + len(expiring(db)) == 1


AMOUNTS = st.integers(0, 40)
STEPS = st.lists(
    st.one_of(st.just("look"), AMOUNTS.map(lambda n: ("grant", n)), AMOUNTS.map(lambda n: -n)),
    min_size=1,
    max_size=15,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS, st.sets(st.integers(0, 60), min_size=1, max_size=4))
def test_any_story_is_told_as_one_who_looks_would_tell_it(
    db: Engine, steps: list[Any], thresholds: set[int]
) -> None:
    tenant_id = f"story-{next(_tenants)}"
    want(*thresholds, tenant_id=tenant_id)
    available = seen = 0
    expected: list[tuple[int, int]] = []
    for number, step in enumerate([*steps, "look"]):
        day = 1 + number / 100
        if step == "look":
            look(day)
            expected += [
                (t, available) for t in sorted(thresholds, reverse=True) if seen > t >= available
            ]
            seen = available
        elif isinstance(step, tuple):
            if step[1]:
                wallet.grant(step[1], f"k{number}", day=day, tenant_id=tenant_id)
                available += step[1]
        elif step and wallet.consume(-step, f"k{number}", day=day, tenant_id=tenant_id)["consumed"]:
            available += step
    told = [
        (int(one["data"]["threshold"]), int(one["data"]["available"]))
        for one in wallet.events(db, "billing.low_credits")
        if one["tenant_id"] == tenant_id
    ]
    assert sorted(told) == sorted(expected)


@given(st.sets(st.decimals(0, 100, places=2)), *[st.decimals(0, 100, places=2)] * 3)
def test_a_crossing_is_told_whichever_steps_lead_there(
    thresholds: set[Decimal], a: Decimal, b: Decimal, c: Decimal
) -> None:
    high, middle, low = sorted((a, b, c), reverse=True)

    at_once_ = rules.crossed(thresholds, before=high, now=low)

    first = rules.crossed(thresholds, before=high, now=middle)
    then = rules.crossed(thresholds, before=middle, now=low)
    assert first + then == at_once_
    assert rules.crossed(thresholds, before=low, now=high) == []


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"low": ["-1"]}, "low"),
        ({"low": ["1"] * 11}, "low"),
        ({"expiring_days": [0]}, "expiring_days"),
        ({"expiring_days": [366]}, "expiring_days"),
        ({"product_key": "NONE"}, "'NONE'"),
        ({"product_key": "ACCESS", "low": ["1"]}, "'period'"),
    ],
)
def test_a_bad_argument_is_refused_by_its_name(
    db: Engine, changed: dict[str, Any], reason: str
) -> None:
    wallet.product("ACCESS", "period")
    arguments: Any = {"tenant_id": "acme", "product_key": "CALLS"}
    with pytest.raises(Refusal, match=reason):
        set_notices(**{**arguments, **changed})
    with pytest.raises(Refusal):
        get_notices(tenant_id="nobody")
    assert contract.InvalidMessage.code == "message.invalid"
