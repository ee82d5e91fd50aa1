"""Published cases of credit and of holds on it, through the real path.

Every row of the two files is either run here or listed with why not.
"""

import json
import random
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from tasks.contract import InvalidMessage
from tests.integration import test_invoice_vectors, test_rollover_vectors, wallet
from tests.integration.test_credit_races import at_once

FOLDER = Path(__file__).parents[1] / "vectors"
NOW = 10

ELSEWHERE = {
    **{row["id"]: "credit pays an invoice" for row in test_invoice_vectors.SUPPORTED},
    **{row["id"]: "a plan gives it" for row in test_rollover_vectors.RUN},
}
"""Rows of these files that other modules run, and why they do."""

REFUSED = {
    "V118": "a float's artefact has more than 12 decimals: refused by name, never rounded",
}
"""Rows that are run, and come to something else than was published."""

BURNED = {"credit_burn_down", "credit_fifo", "rollover"}
FINALIZED = {"reserve_then_finalize"}
ALONE = {"reserve_duplicate_key", "reserve_stress"}


def rows() -> list[dict[str, Any]]:
    return [
        row
        for category in ("credits", "reservation")
        for row in json.loads((FOLDER / f"{category}.json").read_text(encoding="utf-8"))
    ]


def of(models: set[str]) -> Any:
    chosen = [row for row in rows() if row["model"] in models and row["id"] not in ELSEWHERE]
    return pytest.mark.parametrize("row", chosen, ids=[row["id"] for row in chosen])


def test_every_row_is_run() -> None:
    for row in rows():
        run = row["model"] in BURNED | FINALIZED | ALONE
        assert run or row["id"] in ELSEWHERE.keys() | REFUSED.keys(), row["id"]


@pytest.fixture(autouse=True)
def calls(db: Engine) -> None:
    """A quantity product to grant."""
    wallet.product()


def left(db: Engine) -> dict[str, Decimal]:
    """What remains of each batch, by the name it was granted under."""
    batches = "SELECT source, remaining_amount FROM credit_batches"
    return dict(wallet.rows(db, batches))


def give(name: str, amount: Any, **terms: Any) -> None:
    wallet.grant(amount, name, source=name, **terms)


def expected_left(row: dict[str, Any]) -> dict[str, Decimal]:
    expected = row["expected"].get("remaining") or row["expected"].get("balances")
    return {name: Decimal(amount) for name, amount in expected.items()}


def only(*chosen: str) -> Any:
    found = [row for row in rows() if row["id"] in chosen]
    return pytest.mark.parametrize("row", found, ids=[row["id"] for row in found])


@only("V199", "V200", "V204")
def test_a_published_order_of_priorities_and_ages_comes_out(
    db: Engine, row: dict[str, Any]
) -> None:
    lots = row["params"].get("grants") or row["params"]["wallets"]
    for place, lot in enumerate(lots):
        age = int(lot.get("created", "day 0").removeprefix("day "))
        priority = lot.get("priority", int(lot.get("kind") == "purchased"))
        # Those of one day in the order they are named in.
        give(lot["id"], lot["amount"], priority=priority, day=NOW / 2 + age + place / 100)
    names = dict(wallet.rows(db, "SELECT CAST(id AS text), source FROM credit_batches"))

    for number, amount in enumerate(row["input"]["consume"]):
        answer = wallet.consume(amount, f"c{number}", day=NOW)
        paid = [[names[part["batch_id"]], part["amount"]] for part in answer["batches"]]
        if "funding" in row["expected"]:
            assert paid == row["expected"]["funding"][number]

    assert left(db) == expected_left(row)
    assert wallet.balance(NOW)["balance"] == row["expected_amount"]
    wallet.assert_sound()


@only("V189", "V190")
def test_what_expires_first_is_burned_first(db: Engine, row: dict[str, Any]) -> None:
    wallet.product(burn_policy="soonest_expiry_first")
    # The later ones are older, so that age alone would choose another.
    give("g2", 100, expires_at=40)
    for number in range(5 if row["id"] == "V190" else 0):
        give(f"other{number}", 100, day=number / 10, expires_at=50)
    give("g1", 100, day=1, expires_at=20)

    wallet.consume(row["input"]["usage"], "c", day=NOW)

    if row["id"] == "V189":
        assert left(db) == expected_left(row)
    else:
        assert left(db) == {
            "g1": Decimal(row["expected"]["soonest"]),
            **{name: Decimal(row["expected"]["others"]) for name in left(db) if name != "g1"},
        }


@only("V192")
@pytest.mark.parametrize("terms", [{"valid_from": 20}, {"expires_at": 5}])
def test_credit_that_is_not_in_its_time_covers_nothing(
    db: Engine, row: dict[str, Any], terms: dict[str, int]
) -> None:
    give("g1", 100, **terms)

    answer = wallet.deduct(row["input"]["usage"], "d", day=NOW)

    assert answer["overdraft"] == row["expected"]["overage"]
    assert wallet.balance(NOW)["available"] == row["expected_amount"]


@only("V202")
def test_more_than_there_is_takes_nothing(db: Engine, row: dict[str, Any]) -> None:
    give("t1", 30)

    assert wallet.consume("30.01", "c", day=NOW)["consumed"] is False
    assert left(db) == expected_left(row)


@only("V205")
def test_credit_of_one_metric_does_not_pay_for_another(db: Engine, row: dict[str, Any]) -> None:
    for lot in row["params"]["wallets"]:
        wallet.product(lot["applies_to"])
        give(lot["id"], lot["amount"], product_key=lot["applies_to"])

    for metric, amount in row["input"]["consume"].items():
        wallet.consume(amount, metric, product_key=metric)

    assert left(db) == expected_left(row)


@only("V227")
def test_what_was_rolled_over_is_older_than_the_months_own(db: Engine, row: dict[str, Any]) -> None:
    give("rollover", row["params"]["rolled_over"])
    give("main", row["params"]["grant_per_month"], day=1)

    wallet.consume(row["input"]["use"], "c", day=NOW)

    assert left(db) == {name: Decimal(amount) for name, amount in row["expected"].items()}


@of(FINALIZED)
def test_a_published_hold_comes_to_what_was_published(db: Engine, row: dict[str, Any]) -> None:
    for place, bucket in enumerate(row["params"]["buckets"]):
        give(bucket["id"], bucket["amount"], day=place / 100 - 1)
    held = ""
    for number, step in enumerate(row["input"]["ops"]):
        held = play(step, held, f"step {number}", day=number)

    found = wallet.balance(9)
    assert (found["available"], found["held"]) == (row["expected_amount"], "0")
    for name, amount in row.get("expected", {}).items():
        assert left(db)[name] == Decimal(amount)
    wallet.assert_sound()


def play(step: str, held: str, key: str, *, day: float) -> str:
    """Carry out a step on the hold there is, and return the one there is then."""
    match step.split():
        case ["use", amount]:
            wallet.consume(amount, key, day=day)
        case ["reserve", amount]:
            return wallet.hold(amount, key, day=day, days=1.5)
        case ["confirm", amount]:
            wallet.commit(held, amount, key=key, day=day)
        case ["release"]:
            wallet.release(held, day=day)
        case ["expire"]:
            wallet.sweep_holds(day + 1)
        case ["expire", "||", "expire", "(concurrent)"]:
            at_once(2, lambda _: wallet.sweep_holds(day + 1))
            wallet.sweep_holds(day + 1)
        case ["confirm", amount, "||", "confirm", _, "(concurrent)"]:
            commit_twice(held, amount, day=day)
        case _:
            pytest.fail(f"unknown step {step!r}")
    return held


def commit_twice(held: str, amount: str, *, day: float) -> None:
    answers = at_once(2, lambda thread: wallet.commit(held, amount, key=f"{thread}", day=day))

    assert Counter(answer["committed"] for answer in answers) == {True: 1, False: 1}


@only("V118")
def test_an_amount_that_was_a_float_is_refused_by_name(db: Engine, row: dict[str, Any]) -> None:
    """Where others round it once, its sender hears of it: whoever holds a float loses units."""
    with pytest.raises(InvalidMessage) as refused:
        give("paid", row["input"]["paid_credits"])

    (fault,) = refused.value.errors
    assert fault["field"] == "amount"
    assert "12 decimal" in fault["reason"]
    give("paid", row["expected_amount"])
    assert wallet.balance(1)["balance"] == row["expected_amount"]


@only("V220")
def test_a_second_reservation_under_one_key_takes_nothing(db: Engine, row: dict[str, Any]) -> None:
    """Where others refuse it, the first answer is given again: a message may come twice."""
    for place, bucket in enumerate(row["params"]["buckets"]):
        give(bucket["id"], bucket["amount"], day=place / 100)

    first, second = (wallet.reserve(8, "k", day=1) for _ in range(2))

    assert first == second
    assert wallet.balance(1)["available"] == row["expected_amount"]


@pytest.mark.slow
@only("V221")
def test_many_holds_at_once_conserve_every_decimal(db: Engine, row: dict[str, Any]) -> None:
    """The second pool is in units here: 0.2 credits each."""
    rate = Decimal("0.2")
    give("pool1", 1_000)
    give("pool2", Decimal(2_000) / rate, day=0.1)

    def pair(thread: int) -> Decimal:
        chance = random.Random(thread)
        confirmed = Decimal(0)
        for number in range(row["params"]["pairs"] // 20):
            held = wallet.hold(Decimal(chance.randint(51, 299)) / 100, f"{thread}-{number}", day=1)
            actual = Decimal(chance.randint(10, 350)) / 100
            wallet.commit(held, actual, day=1, above="take_available")
            confirmed += actual
        return confirmed

    confirmed = sum(at_once(20, pair), Decimal(0))

    assert confirmed > 500
    assert left(db)["pool1"] == max(Decimal(0), 1_000 - confirmed)
    over = max(Decimal(0), confirmed - 1_000)
    assert left(db)["pool2"] * rate == 2_000 - rate * over
    wallet.assert_sound()
