"""Archivers beside producers and roll-ups, and archivers that die: nothing lost, nothing twice."""

import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy.event
from sqlalchemy import Engine

from models import database
from models.store import usage
from tasks.aggregation import aggregate_usage
from tests.integration import archive_world as world
from tests.integration.archive_world import event
from tests.integration.billing_world import query
from tests.integration.test_credit_crashes import Countdown, ends_by_kill

AT_ONCE = 4
MOST_DEATHS = 400


@pytest.fixture(autouse=True)
def folder(db: Engine, tmp_path: Path) -> Path:
    """A folder for archives, and the rule that usage goes there."""
    world.keep_in(tmp_path)
    return tmp_path


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.archiving.EVENTS_OF_A_FILE", 7)
    monkeypatch.setattr("tasks.purging.PURGE_CHUNK", 3)
    monkeypatch.setattr("models.store.archive_lines.CHUNK", 4)


def a_winter(*tenant_ids: str, count: int = 20) -> dict[str, world.Event]:
    """Usage of three months, invoiced for good; each event by its tenant and key."""
    events = [
        event(
            f"k{number}",
            f"2026-{1 + number % 3:02}-{1 + number:02}T10:00:00Z",
            str(number),
            metric=("api", "disk")[number % 2],
            tenant_id=tenant_id,
        )
        for tenant_id in tenant_ids
        for number in range(count)
    ]
    for tenant_id in tenant_ids:
        world.on_a_plan(tenant_id)
    world.record(*events)
    world.bill()
    return {f"{each['tenant_id']}/{each['idempotency_key']}": each for each in events}


def archived(folder: Path) -> Counter[str]:
    """How often each event is in a file."""
    return Counter(
        f"{line['tenant_id']}/{line['idempotency_key']}"
        for path in world.files(folder)
        for line in world.lines(path)
    )


def assert_purged_once(folder: Path, events: dict[str, world.Event]) -> None:
    assert world.keys() == 0
    assert world.keys("usage_purged_keys") == len(events)
    assert archived(folder) == Counter(events.keys())
    assert query("SELECT DISTINCT state FROM usage_archives") == [("purged",)]
    assert not [path for path in world.files(folder) if path.name.endswith(".unfinished")]
    answer = world.record(*events.values(), as_of=world.OLD)
    assert answer["duplicate"] == len(events)
    assert sum(row[3] for row in world.totals()) == sum(
        Decimal(each["amount"]) for each in events.values()
    )


def test_several_archivers_do_the_work_of_one(folder: Path, small_pieces: None) -> None:
    events = a_winter("ada", "bob", "cy")
    gate = threading.Barrier(AT_ONCE)

    def archive(_: int) -> Counter[str]:
        done: Counter[str] = Counter()
        gate.wait()
        while True:
            answer = world.archive()
            done.update({name: answer[name] for name in ("closed", "written", "purged")})
            if answer == world.NOTHING and not query(
                "SELECT 1 FROM usage_archives WHERE state <> 'purged'"
            ):
                return done

    with ThreadPoolExecutor(AT_ONCE) as pool:
        done = sum(pool.map(archive, range(AT_ONCE)), Counter[str]())

    assert done == Counter(closed=3, written=9, purged=60)
    assert_purged_once(folder, events)


@contextmanager
def recording(*events: world.Event) -> Iterator[None]:
    """Somebody is in the middle of recording events, and commits at the end of the block."""
    began, go_on = threading.Event(), threading.Event()

    def record() -> None:
        with database.transaction() as session:
            assert usage.record(session, list(events), now=world.ARRIVED).accepted == len(events)
            began.set()
            go_on.wait()

    with ThreadPoolExecutor(1) as pool:
        recorded = pool.submit(record)
        began.wait()
        try:
            yield
        finally:
            go_on.set()
        recorded.result()


def test_nothing_is_closed_under_somebody_who_records(folder: Path) -> None:
    events = a_winter("acme")
    late = event("late", "2026-01-31T00:00:00+00:00", "100")

    with recording(late):
        assert world.archive() == {**world.NOTHING, "finished": False}
        # Whoever comes meanwhile is not kept waiting.
        assert world.record(event("now", "2026-05-01"))["accepted"] == 1
    assert world.archive() == world.NOTHING, "it waits for the roll-up"
    aggregate_usage(as_of=world.OLD)
    assert world.archive() == world.NOTHING, "it waits to be billed"
    world.bill("2026-06-03")

    assert world.archive()["purged"] == 21
    assert archived(folder) == Counter([*events.keys(), "acme/late"])


def test_nothing_is_purged_under_somebody_who_began_before_its_keys_were_there(
    folder: Path,
) -> None:
    a_winter("acme")
    world.close_only()

    with recording(event("now", "2026-05-01T00:00:00+00:00")):
        assert world.archive() == {**world.NOTHING, "written": 3, "finished": False}
        assert world.keys("usage_purged_keys") == 20
        assert query("SELECT DISTINCT state FROM usage_archives") == [("verified",)]

    assert world.archive()["purged"] == 20


def test_producers_roll_ups_and_archivers_at_once_agree_in_the_end(
    folder: Path, small_pieces: None
) -> None:
    events = list(a_winter("ada", "bob", count=12).values())
    fresh = [
        event(
            f"n{number}",
            f"2026-{1 + number % 4:02}-{1 + number % 27:02}T12:00:00Z",
            str(number),
            tenant_id=("ada", "bob")[number % 2],
        )
        for number in range(120)
    ]
    done = threading.Event()

    def until_done(work: Callable[[], object]) -> None:
        while not done.is_set():
            work()

    def produce(seed: int) -> Counter[tuple[str, str]]:
        verdicts: Counter[tuple[str, str]] = Counter()
        mine = random.Random(seed).sample(fresh + events, len(fresh + events))
        for start in range(0, len(mine), 6):
            chunk = mine[start : start + 6]
            answer = world.record(*chunk, as_of=world.OLD)
            for each, verdict in zip(chunk, answer["verdicts"], strict=True):
                verdicts[f"{each['tenant_id']}/{each['idempotency_key']}", verdict] += 1
        return verdicts

    with ThreadPoolExecutor(8) as pool:
        background = [
            pool.submit(until_done, work)
            for work in (world.archive, world.archive, lambda: aggregate_usage(as_of=world.OLD))
        ]
        try:
            verdicts = sum(pool.map(produce, range(3)), Counter[tuple[str, str]]())
        finally:
            done.set()
        for each in background:
            each.result()
    aggregate_usage(as_of=world.OLD)
    while world.archive() != world.NOTHING:
        pass

    accepted = {key for (key, verdict), _ in verdicts.items() if verdict == "accepted"}
    assert all(verdicts[key, "accepted"] == 1 for key in accepted)
    assert not any(verdict == "conflict" for _, verdict in verdicts)
    # What was refused was refused for good, and never counted.
    refused = {key for (key, verdict), _ in verdicts.items() if verdict == "rejected"}
    kept = {f"{each['tenant_id']}/{each['idempotency_key']}": each for each in events + fresh}
    assert all(kept[key]["at"] < "2026-04-01" for key in refused)
    counted = accepted | {f"{each['tenant_id']}/{each['idempotency_key']}" for each in events}
    stored = Counter(
        f"{tenant}/{key}"
        for tenant, key in query("SELECT tenant_id, idempotency_key FROM usage_events")
    )
    assert stored + archived(folder) == Counter(counted)
    assert sum(row[3] for row in world.totals()) == sum(
        Decimal(kept[key]["amount"]) for key in counted
    )


def dies_at(step: Countdown) -> Callable[[Engine], None]:
    """A step is a statement, a commit, or a file that is synced or gets its name: whatever state
    dying there leaves on the disk and in the database, the next archiver finds."""

    def prepare(engine: Engine) -> None:
        sqlalchemy.event.listen(engine, "before_cursor_execute", step)
        sqlalchemy.event.listen(engine, "commit", step)
        sync, rename = os.fsync, Path.replace

        def counted_sync(descriptor: int) -> None:
            step()
            sync(descriptor)

        def counted_rename(path: Path, target: Path) -> Path:
            step()
            return rename(path, target)

        os.fsync = counted_sync  # type: ignore[assignment]
        Path.replace = counted_rename  # type: ignore[method-assign, assignment]

    return prepare


@pytest.mark.slow
def test_an_archiver_that_is_killed_anywhere_leaves_what_the_next_one_ends(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.archiving.EVENTS_OF_A_FILE", 2)
    monkeypatch.setattr("tasks.purging.PURGE_CHUNK", 1)
    monkeypatch.setattr("models.store.archive_lines.CHUNK", 1)
    events = a_winter("ada", count=9)

    # Dying comes ever later, since there is less and less to do before it: each of the first steps
    # is one to die at, and so is each of those that only a run which gets further takes.
    steps = deaths = 0
    while ends_by_kill(dies_at(Countdown(steps)), world.archive):
        deaths += 1
        assert deaths < MOST_DEATHS
        steps = steps + 1 if steps < 30 else 7 + deaths % 23
        held = world.keys() + len(
            query("SELECT id FROM usage_purged_keys EXCEPT SELECT id FROM usage_events")
        )
        assert held == len(events)

    assert deaths > 20
    assert_purged_once(folder, events)
