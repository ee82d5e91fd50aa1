"""Dying between any two statements of a change or a run: nothing is charged twice, or left out."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine

from tasks.aggregation import aggregate_usage
from tasks.invoice_runs import finalize_invoices, generate_invoices
from tasks.late_usage import bill_late_usage
from tasks.plan_changes import undo_change
from tests.integration.billing_world import (
    assert_gapless,
    assert_reconciled,
    instant,
    make_plan,
    query,
    subscribe,
    usage_price,
)
from tests.integration.contents import rows_of
from tests.integration.test_credit_crashes import die_after_commit, die_before, ends_by_kill
from tests.integration.test_fees_ahead import ahead, lines, notes
from tests.integration.test_late_usage import close, used
from tests.integration.test_plan_changes import cancel, change

TABLES = (
    "credit_note_lines",
    "credit_notes",
    "idempotency_keys",
    "invoice_lines",
    "invoice_series",
    "invoices",
    "late_usage",
    "late_usage_credits",
    "outbox_messages",
    "parked_tenants",
    "subscription_quantities",
    "subscriptions",
)

MOST_STATEMENTS = 120

STRIDE, RUNS_STRIDE = 2, 7
"""Each second statement of a change and each seventh of a run: all of them (1 and 1) take four
minutes."""

pytestmark = pytest.mark.slow


def contents(engine: Engine) -> dict[str, list[str]]:
    return rows_of(engine, TABLES)


@pytest.fixture
def acme(db: Engine) -> Any:
    """Acme paid ahead until March; there is late usage of January."""
    make_plan(ahead("31"), usage_price("calls", "1"))
    make_plan(ahead("62"), usage_price("calls", "2"), plan_key="max")
    made = subscribe("acme", "2026-01-01", quantity="2")
    used("2026-01-10", "5")
    close("2026-02-05")
    used("2026-01-11", "3")
    aggregate_usage(as_of=instant("2026-02-06"))
    return made


COMMANDS: dict[str, Callable[[Any], Any]] = {
    "another plan": lambda acme: change(acme, "2026-02-15", plan_key="max"),
    "another plan instead": lambda acme: change(acme, "2026-02-16", plan_key="max"),
    "other seats": lambda acme: change(acme, "2026-02-15", quantity="5"),
    "cancelled": lambda acme: cancel(acme, "2026-02-15", when="now"),
    "taken back": lambda acme: undo_change(
        subscription_id=acme["subscription_id"], as_of=instant("2026-02-15")
    ),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_change_that_dies_has_changed_nothing_and_works_the_next_time(
    db: Engine, acme: Any, name: str
) -> None:
    if name in {"another plan instead", "taken back"}:
        change(acme, "2026-02-10", plan_key="max", quantity="3", when="period_end")
    before = contents(db)

    number = killed_until_done(
        lambda: COMMANDS[name](acme), lambda: contents(db) == before, stride=STRIDE
    )

    assert number >= 5
    done = contents(db)
    assert done != before
    assert not ends_by_kill(die_before(MOST_STATEMENTS), lambda: COMMANDS[name](acme))
    assert contents(db) == done


def killed_until_done(call: Callable[[], Any], check: Callable[[], bool], *, stride: int) -> int:
    """Kill a call before its first statement, a later one, ... until it comes through."""
    for number in range(0, MOST_STATEMENTS, stride):
        if not ends_by_kill(die_before(number), call):
            return number
        assert check(), number
    pytest.fail(f"it needs more than {MOST_STATEMENTS} statements")


def run(until: str) -> None:
    generate_invoices(as_of=instant(until))
    finalize_invoices(as_of=instant(until))
    bill_late_usage(as_of=instant(until))


@pytest.mark.parametrize("leaves", [False, True])
def test_runs_that_die_charge_and_give_back_once(db: Engine, acme: Any, leaves: bool) -> None:
    """February's late change is given back and charged, late usage is billed, then all is over."""
    if leaves:
        cancel(acme, "2026-02-15", when="now")
    else:
        change(acme, "2026-02-15", plan_key="max")
    for until in ("2026-02-15", "2026-02-20", "2026-03-05"):
        at = instant(until)
        # What is committed stays, so that the next run has less to do, and dies later in it.
        for step in (generate_invoices, finalize_invoices, bill_late_usage):
            killed_until_done(functools.partial(step, as_of=at), lambda: True, stride=RUNS_STRIDE)
    ends_by_kill(die_after_commit, lambda: run("2026-03-05"))
    done = contents(db)
    run("2026-03-05")

    assert contents(db) == done
    assert_reconciled()
    assert_gapless()
    # 13 and 14 of February's 28 days, of two seats; 3 calls of January.
    assert notes() == [(3100, 3100, 0, 0)]
    billed = sorted((line[1], line[4]) for line in lines())
    paid = [("fixed", 6200), ("fixed", 6200)]
    if leaves:
        assert billed == sorted([*paid, ("adjustment", 300), ("usage", 500), ("usage", 0)])
    else:
        later = [("fixed", 6200), ("fixed", 12400), ("usage", 0), ("usage", 0)]
        assert billed == sorted([*paid, *later, ("adjustment", 300), ("usage", 500)])
    assert query("SELECT count(*) FROM late_usage") == [(0,)]
    assert query("SELECT count(*) FROM parked_tenants") == [(0,)]
