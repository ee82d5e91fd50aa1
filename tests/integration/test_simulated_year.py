"""A year of many tenants, by chance: whatever they do, and whatever happens to the runs, each day
of each subscription and each event is billed once, and the books are right.

`BILLING_YEAR_TENANTS` makes it larger, `BILLING_YEAR_SEED` another one ("random": a new one).
"""

import datetime as dt
import os
import random
import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine

from tasks import invoice_runs
from tasks.aggregation import aggregate_usage
from tasks.draft_runs import refresh_drafts
from tasks.invoice_runs import finalize_invoices, generate_invoices
from tasks.late_usage import bill_late_usage
from tests.integration import wallet, year_recount
from tests.integration import year_catalogue as catalogue
from tests.integration.billing_world import assert_reconciled, query
from tests.integration.test_credit_crashes import begin, die_after_commit, die_before, was_killed
from tests.integration.year_story import FIRST, LAST, Story, close_shop, tell

TENANTS = int(os.environ.get("BILLING_YEAR_TENANTS", "200"))
SEED = os.environ.get("BILLING_YEAR_SEED", "2026")

AFTER = [
    dt.datetime(year, month, day, tzinfo=dt.UTC)
    for year, month, day in ((2027, 1, 20), (2028, 1, 20), (2029, 3, 1), (2029, 3, 3), (2029, 3, 5))
]
"""When everybody has left: the last periods end, and what is late comes in."""

DOWN = (dt.datetime(2026, 5, 20, tzinfo=dt.UTC), dt.datetime(2026, 8, 5, tzinfo=dt.UTC))

MOST_STATEMENTS = 60

FIGURES = """
    SELECT (SELECT count(*) FROM invoice_lines), (SELECT count(*) FROM credit_notes),
           (SELECT count(*) FROM ledger_entries), (SELECT count(*) FROM outbox_messages)
"""
INVOICES = "SELECT id, version, number, total_minor, credit_minor FROM invoices ORDER BY id"


def run(now: dt.datetime) -> None:
    """What beat rings."""
    aggregate_usage(as_of=now)
    generate_invoices(as_of=now)
    refresh_drafts(as_of=now)
    bill_late_usage(as_of=now)
    finalize_invoices(as_of=now)


def run_twice_at_once(now: dt.datetime) -> None:
    gate = threading.Barrier(2)

    def one(_: int) -> None:
        gate.wait()
        run(now)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(one, range(2)))


def run_beside_another(now: dt.datetime) -> None:
    child = begin(lambda _: None, lambda: run(now))
    run(now)
    assert not was_killed(child)


def run_and_die(now: dt.datetime, chance: random.Random) -> bool:
    """Whether the run was killed before it had ended."""
    if chance.random() < 0.3:
        return was_killed(begin(die_after_commit, lambda: run(now)))
    return was_killed(begin(die_before(chance.randrange(MOST_STATEMENTS)), lambda: run(now)))


def ticks(chance: random.Random) -> Iterator[dt.datetime]:
    """When beat rings; for months it does not."""
    at = FIRST
    while (at := at + dt.timedelta(hours=chance.randrange(24, 800))) < LAST:
        if not DOWN[0] < at < DOWN[1]:
            yield at


def live(story: Story, chance: random.Random) -> int:
    """Play the year; return how many runs were killed."""
    killed = 0
    for at in ticks(chance):
        story.play(at)
        match chance.randrange(8):
            case 0:
                run_twice_at_once(at)
            case 1:
                run_beside_another(at)
            case 2 | 3:
                killed += run_and_die(at, chance)
            case _:
                run(at)
    story.play(LAST)
    close_shop(story, LAST)
    for at in AFTER:
        story.play(at)
        run(at)
    return killed


def figures() -> list[object]:
    return [*query(FIGURES), *query(INVOICES)]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_year_of_many_tenants_is_billed_to_the_day_and_to_the_event(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = secrets.randbits(32) if SEED == "random" else int(SEED)
    print(f"BILLING_YEAR_SEED={seed} BILLING_YEAR_TENANTS={TENANTS}")  # noqa: T201 (shown if it fails)
    chance = random.Random(seed)
    monkeypatch.setattr(invoice_runs, "CHUNK", 61)
    monkeypatch.setattr(invoice_runs, "DRAFTS", 53)
    catalogue.open_shop()
    story = tell(chance, TENANTS)

    killed = live(story, chance)

    print(dict(story.counts), f"{killed} runs killed")  # noqa: T201
    assert killed
    assert query("SELECT tenant_id, reason FROM parked_tenants") == []
    assert query("SELECT count(*) FROM invoices WHERE state = 'draft'") == [(0,)]
    year_recount.check_days(story)
    year_recount.check_lines(story)
    year_recount.check_ahead(story)
    year_recount.check_invoices(story)
    year_recount.check_coupons(story)
    year_recount.check_credit(story)
    year_recount.check_events()
    assert_reconciled()
    wallet.assert_sound()
    before = figures()
    run(AFTER[-1] + dt.timedelta(days=2))
    assert figures() == before
