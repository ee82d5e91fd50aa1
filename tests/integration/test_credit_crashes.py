"""Dying between any two statements leaves nothing behind, and the same call then works."""

import os
import signal
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

import pytest
from sqlalchemy import Engine, event

from models import database
from tasks.merging import merge_customers
from tests.integration import wallet
from tests.integration.contents import rows_of

TABLES = (
    "tenants",
    "credit_balances",
    "credit_batches",
    "ledger_entries",
    "reservations",
    "reservation_slices",
    "idempotency_keys",
    "outbox_messages",
    "outbox_pending",
    "tenant_merges",
)

MOST_STATEMENTS = 70

FEWEST = {
    "expire_batches": 3,
    "consume_quota": 3,
    "reserve_credits": 3,
    "commit less": 3,
    "release": 4,
}
"""Statements, with the commit, of a call that needs fewer than five."""

pytestmark = pytest.mark.slow


def kill(*_: Any) -> NoReturn:
    """End this process as a crash does: nothing is told, nothing is tidied up."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("nobody outlives that")


class Countdown:
    """Lets some events pass and then ends the process."""

    def __init__(self, passes: int) -> None:
        self._passes = passes

    def __call__(self, *_: Any) -> None:
        if self._passes == 0:
            kill()
        self._passes -= 1


def ends_by_kill(prepare: Callable[[Engine], None], call: Callable[[], Any]) -> bool:
    """Carry out a call in a child process; tell whether it was killed."""
    return was_killed(begin(prepare, call))


def begin(prepare: Callable[[Engine], None], call: Callable[[], Any]) -> int:
    """Begin to carry out a call in a child process, and return its id."""
    with warnings.catch_warnings():
        # The child only talks to PostgreSQL, by a connection of its own.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            prepare(_engine_of_child())
            call()
        except BaseException:  # noqa: BLE001 (a child of pytest must not go on as one)
            os._exit(3)
        os._exit(0)
    return child


def _engine_of_child() -> Engine:
    """The parent's engine with all that it has compiled, and none of its connections."""
    engine = database.engine() if database._engine is None else database._engine
    engine.dispose(close=False)
    database._engine_pid = os.getpid()
    return engine


def was_killed(child: int) -> bool:
    """Wait for a child process; tell whether it was killed."""
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, status
    return os.WIFSIGNALED(status)


def die_before(number: int) -> Callable[[Engine], None]:
    """So many statements are let through; the process ends before the next, or the commit."""

    def prepare(engine: Engine) -> None:
        countdown = Countdown(number)
        event.listen(engine, "before_cursor_execute", countdown)
        event.listen(engine, "commit", countdown)

    return prepare


def die_before_commit(engine: Engine) -> None:
    """It is all done, and nothing of it is kept."""
    event.listen(engine, "commit", kill)


def die_after_commit(engine: Engine) -> None:
    """It is all done, and nobody hears of it: its connection goes back to the pool."""
    event.listen(engine, "checkin", kill)


def contents(engine: Engine) -> dict[str, list[str]]:
    return rows_of(engine, TABLES)


@pytest.fixture
def held(db: Engine) -> str:
    """Two batches, a use, and a hold that spans both batches."""
    wallet.product()
    wallet.grant(1, "b1", tenant_id="bob")
    wallet.grant(7, "g1", expires_at=8)
    wallet.grant(7, "g2", day=1, expires_at=8)
    wallet.consume(2, "used", day=1)
    return wallet.hold(6, day=2, days=6)


CALLS: dict[str, Callable[[str], Any]] = {
    "add_credits": lambda _: wallet.grant(5, "new", day=3, tenant_id="newcomer"),
    "consume_quota": lambda _: wallet.consume(4, "c", day=3),
    "deduct_after_service": lambda _: wallet.deduct(40, "d", day=3),
    "reserve_credits": lambda _: wallet.reserve(4, "h2", day=3),
    "commit less": lambda held: wallet.commit(held, 2, day=3),
    "commit more": lambda held: wallet.commit(held, 90, day=3, above="overdraft"),
    "release": lambda held: wallet.release(held, day=3),
    "refund_use": lambda _: wallet.refund(consume_key="used", day=3),
    "expire_batches": lambda _: wallet.sweep(9),
    "expire_reservations": lambda _: wallet.sweep_holds(9),
    "merge_customers": lambda _: merge_customers(
        source="acme", target="bob", idempotency_key="m", as_of=wallet.at(3)
    ),
    "a use that ends holds": lambda _: wallet.consume(12, "c", day=8, product_key="OTHER"),
}


@pytest.mark.parametrize("name", CALLS)
def test_dying_between_two_statements_leaves_nothing(db: Engine, held: str, name: str) -> None:
    wallet.product("OTHER")
    wallet.grant(12, "other", day=2, product_key="OTHER")
    wallet.hold(9, "other", day=2, product_key="OTHER")
    before = contents(db)

    for number in range(MOST_STATEMENTS):
        if not ends_by_kill(die_before(number), lambda: CALLS[name](held)):
            break
        assert contents(db) == before
    else:
        pytest.fail(f"{name} needs more than {MOST_STATEMENTS} statements")

    assert number >= FEWEST.get(name, 5)
    assert contents(db) != before
    wallet.assert_sound()


@pytest.mark.parametrize("name", CALLS)
def test_dying_after_the_commit_leaves_all_and_the_call_comes_again(
    db: Engine, held: str, name: str
) -> None:
    wallet.product("OTHER")
    wallet.grant(12, "other", day=2, product_key="OTHER")
    wallet.hold(9, "other", day=2, product_key="OTHER")

    assert ends_by_kill(die_after_commit, lambda: CALLS[name](held))
    done = contents(db)
    CALLS[name](held)

    assert contents(db) == done
    wallet.assert_sound()
