"""A process killed between any two statements has used nothing, and the same call then works."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from tasks.quota_counts import count_quotas, recount_quotas
from tests.integration import allowance
from tests.integration.allowance import NOON, allow, record, use, used
from tests.integration.billing_world import said

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

# For each number that it reads a child is forked, which dies by a real SIGKILL before its n-th
# statement, or before the commit, and it says how the child ended. What opens a connection is not
# counted.
PROGRAM = """
import os, signal, sys
from sqlalchemy import event
from models import database
from tasks import config
from tasks.quota_counts import count_quotas
from tests.integration import allowance

config.use(config.Config(kick=False))

def run(url, call, number):
    database.configure(database.Options(url=url))
    with database.transaction():
        pass
    engine, passed = database.engine(), 0

    def count(*_):
        nonlocal passed
        if passed == number:
            os.kill(os.getpid(), signal.SIGKILL)
        passed += 1

    event.listen(engine, "before_cursor_execute", count)
    event.listen(engine, "commit", count)
    if call == "count_quotas":
        count_quotas(as_of=allowance.NOON)
    else:
        allowance.use(3, call)

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        run(sys.argv[1], sys.argv[2], int(line))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@contextmanager
def crashing(db: Engine, checkout: Path, call: str) -> Iterator[Callable[[int], int]]:
    """Yield what runs the call, dying before a statement, and returns how the process ended."""
    url = db.url.render_as_string(hide_password=False)
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, url, call],
        cwd=checkout,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        told, said = process.stdin, process.stdout

        def run(number: int) -> int:
            told.write(f"{number}\n")
            told.flush()
            return int(said.readline())

        yield run


def contents() -> dict[str, list[tuple[Any, ...]]]:
    return {table: sorted(allowance.rows(f"TABLE {table}"), key=str) for table in TABLES}


@pytest.mark.slow
@pytest.mark.parametrize(("call", "least"), [("fits", 7), ("does not fit", 7), ("count_quotas", 6)])
def test_a_kill_between_two_statements_leaves_nothing(
    db: Engine, checkout: Path, call: str, least: int
) -> None:
    allow(5, soft=call == "count_quotas")
    record(6 if call == "count_quotas" else 2, "before")
    if call == "does not fit":
        record(3, "as well")
    before = contents()

    with crashing(db, checkout, call) as run:
        for number in range(MOST_STATEMENTS):
            ended = run(number)
            if ended == 0:
                break
            assert ended == -signal.SIGKILL
            assert contents() == before
        else:
            pytest.fail(f"{call} needs more than {MOST_STATEMENTS} statements")

    assert number >= least
    assert contents() != before
    assert len(said("billing.quota_exceeded")) == (call != "fits")
    assert used() == {"fits": 5, "does not fit": 5, "count_quotas": 6}[call]
    if call == "fits":
        assert use(3, call)["used"] == "5"
        assert used() == 5
    count_quotas(as_of=NOON)
    assert recount_quotas(as_of=NOON)["drifted"] == 0
