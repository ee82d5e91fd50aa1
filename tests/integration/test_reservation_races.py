"""Many at once on holds: one end each, exact to the unit, and nobody in another's way."""

import os
import random
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
from sqlalchemy import Engine, text

from models import database
from tasks.reservation_list import get_reservation
from tests.integration import waiting, wallet
from tests.integration.test_credit_races import at_once

THREADS = 64


@pytest.fixture(autouse=True)
def calls(db: Engine) -> None:
    """A quantity product to grant."""
    wallet.product()


@pytest.fixture
def many(db: Engine, database_url: str) -> Iterator[None]:
    """A connection for each of the threads."""
    database.configure(database.Options(url=database_url, pool_size=THREADS))
    yield
    database.dispose()


def live(number: int) -> Decimal:
    """Use credit in every way, by a seeded chance; return how much was charged."""
    chance = random.Random(number)
    return sum(
        (use(chance, f"{number}-{step}", chance.randint(1, 5)) for step in range(6)), Decimal(0)
    )


def use(chance: random.Random, key: str, amount: int) -> Decimal:
    match chance.randrange(5):
        case 0:
            return Decimal(amount if wallet.consume(amount, key, day=2)["consumed"] else 0)
        case 1:
            return Decimal(wallet.deduct(amount, key, day=2)["amount"])
        case 2:
            wallet.sweep(2)
            return Decimal(0)
    held = wallet.reserve(amount, key, day=2)
    if held["reserved"] and chance.random() < 0.5:
        wallet.release(held["reservation_id"], day=2)
    elif held["reserved"]:
        actual, above = chance.randint(0, 6), "take_available"
        done = wallet.commit(held["reservation_id"], actual, above=above, day=2)
        return Decimal(done["amount"])
    return Decimal(0)


@pytest.mark.usefixtures("many")
def test_sixty_four_threads_on_one_account_are_exact_to_the_unit(db: Engine) -> None:
    """Each does everything there is, with amounts of its own; credit expires in the middle."""
    for number in range(40):
        wallet.grant(50, f"g{number}", day=number / 100, expires_at=1 if number % 4 == 0 else None)

    charged = sum(at_once(THREADS, live), Decimal(0))
    while wallet.sweep(2)["passed_over"]:
        pass

    assert charged > 100
    assert wallet.balance(2)["balance"] == str(30 * 50 - charged)
    assert wallet.balance(2)["held"] == "0"
    wallet.assert_sound()


@pytest.mark.parametrize("pool_of", ["commits", "all three"])
def test_a_hold_has_one_end(db: Engine, pool_of: str) -> None:
    """Its time is over at the instant at which all of them try: any of them may be first."""
    wallet.grant(1_000, "g")
    for number in range(8):
        held = wallet.hold(8, f"h{number}")

        def end(thread: int, held: str = held) -> str:
            if pool_of == "commits" or thread % 3 == 0:
                answer = wallet.commit(held, 4, key=f"k{thread}", day=0.5)
                return "committed" if answer["committed"] else "lost"
            if thread % 3 == 1:
                answer = wallet.release(held, key=f"k{thread}", day=0.5)
                return "released" if answer["released"] else "lost"
            return "expired" if wallet.sweep_holds(1)["expired"] else "lost"

        ends = Counter(at_once(9, end))

        assert ends["lost"] == 8
        (won,) = ends.keys() - {"lost"}
        assert get_reservation(reservation_id=held)["state"] == won
    assert wallet.balance(1)["held"] == "0"
    told = Counter(event["type"] for event in wallet.events(db))
    ends_told = told["billing.reservation_committed"] + told["billing.reservation_released"]
    assert ends_told == 8
    wallet.assert_sound()


def test_eight_commits_with_one_key_charge_once(db: Engine) -> None:
    wallet.grant(100, "g")
    held = wallet.hold(8)

    answers = at_once(8, lambda _: wallet.commit(held, 5, day=0.1))

    assert all(answer == answers[0] for answer in answers)
    assert wallet.balance()["balance"] == "95"


def test_refunds_at_once_give_back_what_was_taken_and_no_more(db: Engine) -> None:
    wallet.grant(100, "g")
    wallet.consume(10, "c")

    answers = at_once(8, lambda n: wallet.refund(3, consume_key="c", key=f"r{n}", day=1))

    assert Counter(answer["refunded"] for answer in answers) == {True: 3, False: 5}
    assert wallet.balance(1)["balance"] == "99"
    wallet.assert_sound()


def test_grants_and_debts_at_once_come_to_their_sum(db: Engine) -> None:
    def move(number: int) -> None:
        for step in range(5):
            if number % 2:
                wallet.grant(3, f"{number}-{step}", day=1)
            else:
                wallet.deduct(4, f"{number}-{step}", day=1)

    at_once(16, move)

    assert wallet.balance(1)["balance"] == str(40 * 3 - 40 * 4)
    assert wallet.balance(1)["debt"] == "40"
    wallet.assert_sound()


def test_reserving_at_once_sets_aside_no_more_than_there_is(db: Engine) -> None:
    for number in range(5):
        wallet.grant(20, f"g{number}", day=number / 100)

    answers = at_once(16, lambda n: wallet.reserve(9, f"h{n}", day=1))

    assert Counter(answer["reserved"] for answer in answers) == {True: 11, False: 5}
    assert wallet.balance(1)["available"] == "1"
    wallet.assert_sound()


def test_who_waited_for_the_lock_sees_what_the_holder_did(db: Engine) -> None:
    """The batches are read with the lock, before it was had: they must be read again."""
    wallet.grant(10, "g1")
    wallet.grant(10, "g2", day=0.1)
    with db.connect() as connection, ThreadPoolExecutor(1) as threads:
        with connection.begin():
            connection.execute(
                text("UPDATE credit_balances SET balance = 10, version = version + 1")
            )
            connection.execute(
                text(
                    "UPDATE credit_batches SET remaining_amount = 0, state = 'EXHAUSTED',"
                    " closed_at = now() WHERE created_at = '2026-03-01 12:00Z'"
                )
            )
            connection.execute(
                text(
                    "INSERT INTO ledger_entries (tenant_id, product_key, direction, amount,"
                    " action, batch_id, balance_after, cause_type, cause_id, created_at)"
                    " SELECT tenant_id, product_key, 'DEBIT', 10, 'adjust', id, 10, 'test', '1',"
                    " now() FROM credit_batches WHERE state = 'EXHAUSTED'"
                )
            )
            waits = threads.submit(wallet.consume, 12, "c", day=1)
            waiting.until_somebody_waits()
        assert waits.result(timeout=30)["available"] == "10"
    wallet.assert_sound()


def test_one_tenant_never_waits_for_another(impatient: Engine) -> None:
    for tenant_id in ("acme", "bolt"):
        wallet.grant(20, "g", tenant_id=tenant_id)
        wallet.consume(2, "used", tenant_id=tenant_id)
    holds = {name: wallet.hold(2, name, tenant_id="bolt") for name in ("commit", "release", "over")}

    locks = (
        "SELECT 1 FROM credit_balances WHERE tenant_id = 'acme' FOR UPDATE",
        "SELECT 1 FROM credit_batches WHERE tenant_id = 'acme' FOR UPDATE",
        "SELECT 1 FROM reservations WHERE tenant_id = 'acme' FOR UPDATE",
    )
    with impatient.connect() as connection, connection.begin():
        for lock in locks:
            connection.execute(text(lock))
        assert wallet.reserve(1, "h", tenant_id="bolt")["reserved"] is True
        assert wallet.commit(holds["commit"], 9, above="overdraft")["amount"] == "9"
        assert wallet.release(holds["release"])["released"] is True
        assert wallet.deduct(30, "d", tenant_id="bolt")["overdraft"] != "0"
        assert wallet.grant(1, "g2", tenant_id="bolt")["repaid"] == "1"
        assert wallet.refund(consume_key="used", tenant_id="bolt")["refunded"] is True
        assert wallet.sweep_holds(2) == {"expired": 2, "passed_over": 0, "finished": True}
    wallet.assert_sound()


PROCESSES, THREADS_EACH = 8, 8


def spend(number: int) -> int:
    """Hold, charge half of it, and use one more, six times; return how much that took."""
    taken = 0
    for step in range(6):
        held = wallet.reserve(2, f"{number}-{step}", day=1)
        if held["reserved"]:
            taken += int(wallet.commit(held["reservation_id"], 1, day=1)["amount"])
        taken += wallet.consume(1, f"{number}-{step}", day=1)["consumed"]
    return taken


def spending(process: int, url: str) -> tuple[int, int]:
    """Fork a process whose threads spend; return its id, and where it tells what they took."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # The child only talks to PostgreSQL, by connections of its own.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            database.configure(database.Options(url=url, pool_size=THREADS_EACH))
            threads = range(process * THREADS_EACH, (process + 1) * THREADS_EACH)
            taken = sum(at_once(THREADS_EACH, lambda thread: spend(threads[thread])))
            os.write(writing, str(taken).encode())
        except BaseException:  # noqa: BLE001 (a child of pytest must not go on as one)
            os._exit(3)
        os._exit(0)
    os.close(writing)
    return child, reading


def test_sixty_four_workers_in_eight_processes_are_exact_to_the_unit(
    db: Engine, database_url: str
) -> None:
    for number in range(10):
        wallet.grant(13, f"g{number}", day=number / 100)

    taken = 0
    for child, reading in [spending(number, database_url) for number in range(PROCESSES)]:
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        taken += int(os.read(reading, 100))
        os.close(reading)

    # 768 units were wanted of 130; who got none of the last ones left nothing held.
    assert taken == 130
    left = wallet.balance(1)
    assert (left["balance"], left["held"], left["available"]) == ("0", "0", "0")
    wallet.assert_sound()


def test_a_sweep_and_a_commit_that_need_the_same_account_do_not_wait_in_a_circle(
    db: Engine,
) -> None:
    for tenant_id in ("acme", "bolt"):
        wallet.grant(1_000, "g", tenant_id=tenant_id)
    stop = threading.Event()

    def sweep() -> None:
        while not stop.is_set():
            wallet.sweep_holds(1)

    def live(number: int) -> None:
        tenant_id = "acme" if number % 2 else "bolt"
        for step in range(8):
            held = wallet.hold(2, f"{number}-{step}", days=0.5, tenant_id=tenant_id)
            wallet.commit(held, 1, key=f"{number}-{step}", day=0.4)

    with ThreadPoolExecutor(1) as sweeper:
        sweeping = sweeper.submit(sweep)
        try:
            at_once(8, live)
        finally:
            stop.set()
        sweeping.result(timeout=30)
    wallet.sweep_holds(1)

    ends = dict(wallet.rows(db, "SELECT state, count(*) FROM reservations GROUP BY state"))
    assert sum(ends.values()) == 64
    assert ends.keys() <= {"committed", "expired"}
    wallet.assert_sound()
