"""A process that dies while usage follows a merged tenant leaves nothing half done."""

import pytest
from sqlalchemy import Engine

from models.store import merge_usage
from tasks.merging import move_merged_usage
from tests.integration.contents import rows_of
from tests.integration.test_credit_crashes import die_after_commit, die_before, ends_by_kill
from tests.integration.test_merging import MARCH, event, merge, record, totals
from tests.integration.wallet import rows

MOST_STATEMENTS = 40

TABLES = ("usage_events", "usage_voids", "usage_touched_days", "tenant_merges", "rejected_messages")

pytestmark = pytest.mark.slow


@pytest.fixture
def merged(db: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three chunks of usage are to follow; one event is known, one is a conflict."""
    monkeypatch.setattr(merge_usage, "CHUNK", 3)
    record(event("acme", "2"), event("acme", "4", "9"))
    record(*(event("anon", str(number), day=number + 1) for number in range(4)))
    record(event("anon", "4"), event("anon", "2b"), event("anon", "2c"))
    merge()
    # What both sent under one key is the same only if it is of the same instant.
    assert totals() == {"acme": 10, "anon": 7}


def contents(engine: Engine) -> dict[str, list[str]]:
    return rows_of(engine, TABLES)


@pytest.mark.usefixtures("merged")
def test_dying_between_two_statements_leaves_whole_chunks_and_the_next_run_goes_on(
    db: Engine,
) -> None:
    seen = []
    for number in range(MOST_STATEMENTS):
        if not ends_by_kill(die_before(number), lambda: move_merged_usage(as_of=MARCH)):
            break
        seen.append(contents(db))
        (moved,) = rows(db, "SELECT count(*) FROM usage_events WHERE tenant_id = 'acme'")
        ((remembered,),) = rows(db, "SELECT events_moved FROM tenant_merges")
        assert moved[0] - 2 == remembered
    else:
        pytest.fail(f"it needs more than {MOST_STATEMENTS} statements")

    assert number >= 3
    assert_all_has_followed(db)


@pytest.mark.usefixtures("merged")
def test_dying_after_a_commit_moves_nothing_twice(db: Engine) -> None:
    died = 0
    while ends_by_kill(die_after_commit, lambda: move_merged_usage(as_of=MARCH)):
        died += 1
        if died > 10 or rows(db, "SELECT 1 FROM tenant_merges WHERE usage_moved_at IS NOT NULL"):
            break

    assert died == 3
    assert_all_has_followed(db)


def assert_all_has_followed(db: Engine) -> None:
    move_merged_usage(as_of=MARCH)
    figures = "events_moved, events_duplicate, events_conflict, events_left"
    assert rows(db, f"SELECT {figures} FROM tenant_merges") == [(5, 1, 1, 0)]  # noqa: S608
    assert totals() == {"acme": 15, "anon": 2}
    assert rows(db, "SELECT count(*) FROM rejected_messages") == [(1,)]
