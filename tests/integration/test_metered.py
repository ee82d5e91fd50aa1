"""Work is paid by what it came to, once, and what failed costs nothing."""

import asyncio
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from models import database
from models.rules.refusal import Refusal
from tasks.catalog import set_product
from tasks.credit_upkeep import audit, expire_reservations
from tasks.credits import add_credits, get_balance
from tasks.hold import Hold
from tasks.metered import AboveHold, HoldEnded, TooLittleCredit, metered
from tasks.reservations import commit_reserved_credits, release_reserved_credits
from tests.processes import eventually


@pytest.fixture(autouse=True)
def tokens(db: Engine) -> None:
    """Acme has 100 tokens."""
    set_product(product_key="TOKENS", name="Tokens", type="quantity")
    add_credits(tenant_id="acme", product_key="TOKENS", amount="100", idempotency_key="g")


def standing() -> tuple[str, str]:
    """Balance and what of it is held."""
    found = get_balance(tenant_id="acme", product_key="TOKENS")
    assert audit()["ok"]
    return found["balance"], found["held"]


def query(statement: str) -> list[tuple[Any, ...]]:
    with database.transaction() as session:
        return [tuple(row) for row in session.execute(text(statement))]


def charged(hold: Hold) -> tuple[str, ...]:
    """What was charged, what was used beyond it, and what became debt."""
    return tuple(str(amount) for amount in (hold.charged, hold.uncovered, hold.overdraft))


def states() -> list[str]:
    return [state for (state,) in query("SELECT state FROM reservations ORDER BY id")]


def test_what_was_used_is_charged_and_the_rest_goes_back() -> None:
    with metered("acme", "TOKENS", 60) as hold:
        inside = standing()
        hold.actual = "12.5"

    assert inside == ("100", "60")
    assert standing() == ("87.5", "0")
    assert charged(hold) == ("12.5", "0", "0")


def test_the_estimate_is_charged_where_nothing_else_is_said() -> None:
    with metered("acme", "TOKENS", 60) as hold:
        pass

    assert hold.charged == 60
    assert standing() == ("40", "0")


def test_nothing_used_is_nothing_charged() -> None:
    with metered("acme", "TOKENS", 60) as hold:
        hold.actual = 0

    assert hold.charged == 0
    assert standing() == ("100", "0")


def _fail(hold: Hold, used: int) -> None:
    hold.actual = used
    raise ZeroDivisionError


def _fail_without_database(hold: Hold) -> None:
    database.configure(database.Options(url="postgresql://nobody@127.0.0.1:1/none"))
    _fail(hold, 1)


def test_work_that_raises_costs_nothing() -> None:
    with pytest.raises(ZeroDivisionError), metered("acme", "TOKENS", 60) as hold:
        _fail(hold, 5)

    assert hold.charged is None
    assert standing() == ("100", "0")
    assert query("SELECT state, release_reason FROM reservations") == [
        ("released", "failed: ZeroDivisionError")
    ]


@pytest.mark.parametrize(
    ("estimate", "reason", "available"),
    [(101, "insufficient_funds", 100), (1, "quota_exhausted", 0)],
)
def test_with_too_little_the_work_does_not_begin(
    estimate: int, reason: str, available: int
) -> None:
    tenant_id = "acme" if available else "bolt"
    with pytest.raises(TooLittleCredit) as refused, metered(tenant_id, "TOKENS", estimate):
        pytest.fail("it began")

    error = refused.value
    assert error.reason == reason
    assert [error.available, error.estimate] == [available, estimate]
    assert (error.tenant_id, error.product_key) == (tenant_id, "TOKENS")
    assert states() == []


def test_more_than_was_set_aside_is_charged_as_far_as_there_is_any() -> None:
    with metered("acme", "TOKENS", 60) as hold:
        hold.actual = 90
    with metered("acme", "TOKENS", 5) as scarce:
        scarce.actual = 30

    assert charged(hold) == ("90", "0", "0")
    assert charged(scarce) == ("10", "20", "0")
    assert standing() == ("0", "0")


def test_overdraft_only_where_it_is_asked_for() -> None:
    with metered("acme", "TOKENS", 60, above="overdraft") as hold:
        hold.actual = 130

    assert charged(hold) == ("130", "0", "30")
    assert standing()[0] == "-30"


def test_more_than_was_set_aside_can_be_refused() -> None:
    with pytest.raises(AboveHold) as refused, metered("acme", "TOKENS", 60, above="refuse") as hold:
        hold.actual = 61

    assert [refused.value.estimate, refused.value.used] == [60, 61]
    assert standing() == ("100", "60")
    commit_reserved_credits(
        reservation_id=hold.reservation_id, actual_amount="60", idempotency_key="enough"
    )
    assert standing() == ("40", "0")


def _end(hold: Hold, how: str) -> None:
    hold.actual = 7
    if how == "expired":
        assert expire_reservations(as_of=hold.expires_at)["expired"] == 1
    elif how == "released":
        release_reserved_credits(reservation_id=hold.reservation_id, idempotency_key="x")
    else:
        commit_reserved_credits(reservation_id=hold.reservation_id, idempotency_key="x")


@pytest.mark.parametrize("ended", ["expired", "released", "committed"])
def test_a_hold_that_ended_before_the_work_says_so(ended: str) -> None:
    with pytest.raises(HoldEnded) as refused, metered("acme", "TOKENS", 60) as hold:
        _end(hold, ended)

    assert refused.value.reason == ended
    assert refused.value.used == 7
    assert standing() == ("40" if ended == "committed" else "100", "0")


def test_work_that_raises_after_its_hold_ended_raises_its_own_error() -> None:
    with pytest.raises(ZeroDivisionError), metered("acme", "TOKENS", 60) as hold:
        _fail(hold, expire_reservations(as_of=hold.expires_at)["expired"])

    assert states() == ["expired"]


def test_the_same_work_done_twice_is_charged_once() -> None:
    for _ in range(2):
        with metered("acme", "TOKENS", 60, idempotency_key="job-1") as hold:
            hold.actual = 10

    assert hold.charged == 10
    assert standing() == ("90", "0")


@pytest.mark.parametrize("used", [1.5, -1, "many", "NaN", "Infinity", True, b"1"])
def test_what_is_no_amount_is_refused_where_it_is_said(used: Any) -> None:
    with (
        pytest.raises(ValueError, match="is no amount"),
        metered("acme", "TOKENS", 60) as hold,
    ):
        hold.actual = used

    assert standing() == ("100", "0")


def test_an_unknown_product_is_refused_by_name() -> None:
    with pytest.raises(Refusal, match="unknown"), metered("acme", "OTHER", 1):
        pytest.fail("it began")


def test_a_block_in_a_transaction_is_refused() -> None:
    with (
        pytest.raises(database.NestedTransaction),
        database.transaction(),
        metered("acme", "TOKENS", 1),
    ):
        pytest.fail("it began")


def test_a_coroutine_is_paid_too_and_does_not_block_its_loop() -> None:
    beats: list[float] = []

    async def beat() -> None:
        while True:
            beats.append(asyncio.get_running_loop().time())
            await asyncio.sleep(0)

    async def work() -> Hold:
        beating = asyncio.create_task(beat())
        # Somebody else has the balance: it can not be reserved until the loop lets them go.
        locked = threading.Event()
        let_go = asyncio.Event()
        holding = asyncio.create_task(asyncio.to_thread(_hold_balance, locked, let_go, loop()))
        await asyncio.to_thread(locked.wait)
        before = len(beats)
        asyncio.get_running_loop().call_later(0.2, let_go.set)
        async with metered("acme", "TOKENS", 60) as hold:
            assert len(beats) > before + 10
            hold.actual = 12
        await holding
        beating.cancel()
        return hold

    def loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    assert asyncio.run(work()).charged == 12
    assert standing() == ("88", "0")


def _hold_balance(
    locked: threading.Event, let_go: asyncio.Event, loop: asyncio.AbstractEventLoop
) -> None:
    with database.transaction() as session:
        session.execute(text("SELECT 1 FROM credit_balances FOR UPDATE"))
        locked.set()
        asyncio.run_coroutine_threadsafe(_wait(let_go), loop).result(30)


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


def test_a_coroutine_that_raises_or_is_cancelled_costs_nothing() -> None:
    async def fail() -> None:
        async with metered("acme", "TOKENS", 10):
            raise ZeroDivisionError

    async def hang(began: asyncio.Event) -> None:
        async with metered("acme", "TOKENS", 20):
            began.set()
            await asyncio.Event().wait()

    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            await fail()
        began = asyncio.Event()
        hanging = asyncio.create_task(hang(began))
        await began.wait()
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging

    asyncio.run(main())

    assert standing() == ("100", "0")
    assert states() == ["released", "released"]


def test_a_coroutine_cancelled_while_it_reserves_keeps_nothing() -> None:
    """The thread goes on and reserves; what it reserved is given back behind our back."""

    async def main() -> None:
        locked, let_go = threading.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        holding = asyncio.create_task(asyncio.to_thread(_hold_balance, locked, let_go, loop))
        await asyncio.to_thread(locked.wait)
        reserving = asyncio.create_task(_enter())
        while not await asyncio.to_thread(_somebody_waits):
            pass
        reserving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reserving
        let_go.set()
        await holding

    asyncio.run(main())
    eventually(lambda: states() == ["released"])

    assert standing() == ("100", "0")


async def _enter() -> None:
    async with metered("acme", "TOKENS", 60):
        pytest.fail("it began")


def _somebody_waits() -> bool:
    waiting = (
        "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = 'billing'"
    )
    return bool(query(waiting))


PROGRAM = """
import sys, threading
from models import database
from tasks import config
from tasks.metered import metered

config.use(config.Config(kick=False))
database.configure(database.Options(url=sys.argv[1]))
with metered("acme", "TOKENS", 60, ttl_seconds=3600) as hold:
    print(hold.expires_at.isoformat(), flush=True)
    threading.Event().wait()
"""


def test_a_process_that_is_killed_in_its_work_leaves_a_hold_that_ends_by_itself(
    db: Engine, checkout: Path
) -> None:
    url = db.url.render_as_string(hide_password=False)
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, url], cwd=checkout, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        expires_at = process.stdout.readline().strip()
        process.send_signal(signal.SIGKILL)
        assert process.wait(30) == -signal.SIGKILL

    assert standing() == ("100", "60")
    assert expire_reservations()["expired"] == 0
    assert expire_reservations(as_of=expires_at)["expired"] == 1
    assert standing() == ("100", "0")


def test_a_hold_that_can_not_be_given_back_ends_by_itself(
    db: Engine, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The error of the work is what is raised, not the one of giving back."""
    with pytest.raises(ZeroDivisionError), metered("acme", "TOKENS", 60) as hold:
        _fail_without_database(hold)
    database.configure(database.Options(url=database_url))

    assert "metered.not_released" in caplog.text
    assert standing() == ("100", "60")
    expire_reservations(as_of=hold.expires_at)
    assert standing() == ("100", "0")
