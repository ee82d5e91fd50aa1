"""A process killed between any two statements has used nothing, and the same call then works."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine

from tasks.quota_counts import count_quotas, recount_quotas
from tests.integration.allowance import NOON, allow, record, use, used
from tests.integration.billing_world import said
from tests.integration.contents import rows_of
from tests.integration.test_credit_crashes import die_before, ends_by_kill

TABLES = (
    "idempotency_keys",
    "outbox_messages",
    "outbox_pending",
    "quota_arrivals",
    "quota_counters",
    "usage_events",
    "usage_touched_days",
)

MOST_STATEMENTS = 20

CALLS: dict[str, Callable[[], Any]] = {
    "fits": lambda: use(3, "fits"),
    "does not fit": lambda: use(3, "does not fit"),
    "count_quotas": lambda: count_quotas(as_of=NOON),
}


def contents(engine: Engine) -> dict[str, list[str]]:
    return rows_of(engine, TABLES)


@pytest.mark.slow
@pytest.mark.parametrize(("call", "least"), [("fits", 7), ("does not fit", 7), ("count_quotas", 6)])
def test_a_kill_between_two_statements_leaves_nothing(db: Engine, call: str, least: int) -> None:
    allow(5, soft=call == "count_quotas")
    record(6 if call == "count_quotas" else 2, "before")
    if call == "does not fit":
        record(3, "as well")
    before = contents(db)

    for number in range(MOST_STATEMENTS):
        if not ends_by_kill(die_before(number), CALLS[call]):
            break
        assert contents(db) == before
    else:
        pytest.fail(f"{call} needs more than {MOST_STATEMENTS} statements")

    assert number >= least
    assert contents(db) != before
    assert len(said("billing.quota_exceeded")) == (call != "fits")
    assert used() == {"fits": 5, "does not fit": 5, "count_quotas": 6}[call]
    if call == "fits":
        assert use(3, call)["used"] == "5"
        assert used() == 5
    count_quotas(as_of=NOON)
    assert recount_quotas(as_of=NOON)["drifted"] == 0
