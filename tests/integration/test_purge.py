"""What was told long ago leaves, and what is still owed never does."""

import dataclasses
import datetime as dt
import itertools
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, text

from models import database
from models.rules import ids
from models.store import delivery_purge, partition
from tasks import config
from tasks.delivery import deliver_webhooks
from tasks.endpoint_secrets import rotate_endpoint_secret
from tasks.purge import purge
from tasks.replays import replay_delivery
from tasks.upkeep import prepare_partitions
from tests.integration.outbox_world import deliveries, emit, execute, subscribe, take
from tests.receiver import receiver

NOW = dt.datetime(2026, 11, 1, 12, tzinfo=dt.UTC)

OPEN = ("pending", "sending", "held")
CLOSED = ("delivered", "cancelled", "dead")


def ago(days: float) -> dt.datetime:
    return NOW - dt.timedelta(days=days)


def event(db: Engine, days: float, *, queued: bool = False) -> UUID:
    """An event that happened so many days ago."""
    message_id = ids.uuid7(ago(days))
    execute(
        db,
        "INSERT INTO outbox_messages (id, type, tenant_id, schema_version, sequence, body, "
        "created_at) VALUES (:id, 'billing.ping', 'acme', 1, 1, '{}', :at)",
        id=message_id,
        at=ago(days),
    )
    if queued:
        execute(db, "INSERT INTO outbox_pending VALUES (:id)", id=message_id)
    return message_id


def delivery(db: Engine, message_id: UUID, endpoint_id: str, state: str, ended: float) -> None:
    """A delivery in a state, which ended so many days ago if that is its end."""
    leased = state == "sending"
    execute(
        db,
        "WITH made AS (INSERT INTO deliveries (message_id, endpoint_id, state, due_at, "
        "completed_at) VALUES (:message, :endpoint, :state, :at, :ended) RETURNING *) "
        "INSERT INTO delivery_leases SELECT id, endpoint_id, :token, :until FROM made "
        "WHERE :leased",
        message=message_id,
        endpoint=endpoint_id,
        state="pending" if leased else state,
        at=ago(ended),
        ended=None if state in OPEN else ago(ended),
        token=uuid4(),
        until=NOW,
        leased=leased,
    )


def left(db: Engine, table: str = "outbox_messages") -> set[Any]:
    with db.connect() as connection:
        return set(connection.scalars(text(f"SELECT id FROM {table}")))  # noqa: S608


def test_after_a_purge_is_left_what_a_naive_reader_of_the_rules_would_leave(db: Engine) -> None:
    """Three hundred events of every age, with deliveries in every mixture of states."""
    chance = random.Random(20_261_121)
    endpoints = [subscribe()["endpoint_id"] for _ in range(3)]
    ages = (1, 29, 31, 89, 91, 400)
    stays, kept_dead = set(), 0
    for number in range(300):
        age = chance.choice(ages)
        queued = number % 17 == 0
        message_id = event(db, age, queued=queued)
        owed, dead_kept = queued, 0
        for endpoint_id in endpoints[: 0 if queued else chance.randrange(4)]:
            state = chance.choice(OPEN + CLOSED * 8)
            ended = age * chance.choice((0.2, 0.9))
            delivery(db, message_id, endpoint_id, state, ended)
            is_kept = state == "dead" and ended <= 90
            owed |= state in OPEN or is_kept
            dead_kept += is_kept
        kept_dead += dead_kept
        if age <= 90 or owed:
            stays.add(message_id)

    answer = purge(as_of=NOW)

    assert left(db) == stays
    assert answer["is_done"] is True
    assert answer["events"] == 300 - len(stays) > 30
    found = deliveries(db)
    assert sum(row.state == "dead" for row in found) == kept_dead > 5
    assert {row.message_id for row in found} <= stays
    assert purge(as_of=NOW) == {**answer, "events": 0, "deliveries": 0, "dead": 0}
    assert left(db) == stays


@pytest.mark.parametrize("state", OPEN)
def test_what_is_owed_stays_however_old_it_is(db: Engine, state: str) -> None:
    made = subscribe()["endpoint_id"]
    message_id = event(db, 3_000)
    delivery(db, message_id, made, state, 3_000)

    purge(as_of=NOW)

    assert left(db) == {message_id}
    assert [row.state for row in deliveries(db)] == [state]


def test_an_event_that_nobody_has_relayed_yet_stays(db: Engine) -> None:
    message_id = event(db, 3_000, queued=True)

    purge(as_of=NOW)

    assert left(db) == {message_id}


def test_a_dead_delivery_goes_after_its_own_time_and_its_event_stays_for_its_own(
    db: Engine,
) -> None:
    made = subscribe()["endpoint_id"]
    config.use(
        dataclasses.replace(
            config.current(), webhook_retention=config.WebhookRetention(dead=dt.timedelta(days=30))
        )
    )
    message_id = event(db, 60)
    delivery(db, message_id, made, "dead", 31)
    other = event(db, 60)
    delivery(db, other, made, "dead", 29)

    answer = purge(as_of=NOW)

    assert (answer["dead"], answer["events"]) == (1, 0)
    assert left(db) == {message_id, other}
    assert [row.message_id for row in deliveries(db)] == [other]


def test_a_dead_delivery_that_is_brought_back_before_it_is_deleted_stays(db: Engine) -> None:
    made = subscribe()["endpoint_id"]
    for _ in range(2):
        delivery(db, event(db, 60), made, "dead", 31)
    with database.transaction() as session:
        found = delivery_purge.find_dead(session, before=ago(30))
    replay_delivery(delivery_id=found[0], idempotency_key="r")

    with database.transaction() as session:
        assert delivery_purge.delete_dead(session, found, before=ago(30)) == 1

    assert [(row.id, row.state) for row in deliveries(db)] == [(found[0], "pending")]


def test_attempts_leave_by_the_day_and_those_without_a_partition_one_by_one(db: Engine) -> None:
    made = subscribe()["endpoint_id"]
    for days in (40, 32):
        prepare_partitions(as_of=ago(days))
    for age in (100, 39.9, 31.4, 30.6, 29.5, 1):
        execute(
            db,
            "INSERT INTO delivery_attempts (id, attempted_at, delivery_id, endpoint_id, "
            "attempt_number, outcome, latency_ms) VALUES (:id, :at, 1, :endpoint, 1, 'x', 1)",
            id=uuid4(),
            at=ago(age),
            endpoint=made,
        )

    answer = purge(as_of=NOW)

    assert answer["days"] == [f"{ago(days):%Y-%m-%d}" for days in range(40, 30, -1)]
    assert answer["stray_attempts"] == 1
    with db.connect() as connection:
        kept = connection.scalars(
            text("SELECT attempted_at FROM delivery_attempts ORDER BY 1")
        ).all()
    assert kept == [ago(29.5), ago(1)]
    assert purge(as_of=NOW)["days"] == []


def test_attempts_without_a_partition_leave_in_chunks_until_none_is_left(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.purge.STRAY", 2)
    execute(
        db,
        "INSERT INTO delivery_attempts (id, attempted_at, delivery_id, endpoint_id, "
        "attempt_number, outcome, latency_ms) "
        "SELECT gen_random_uuid(), :at, n, :endpoint, 1, 'x', 1 FROM generate_series(1, 5) AS n",
        at=ago(100),
        endpoint=subscribe()["endpoint_id"],
    )

    answer = purge(as_of=NOW)

    assert (answer["stray_attempts"], answer["is_done"]) == (5, True)


def test_a_day_that_somebody_reads_is_left_for_the_next_run(db: Engine) -> None:
    subscribe()
    prepare_partitions(as_of=ago(40))
    with db.begin() as reader:
        reader.execute(text("SELECT count(*) FROM delivery_attempts"))
        busy = purge(as_of=NOW)
    done = purge(as_of=NOW)

    assert (busy["days"], busy["is_done"]) == ([], False)
    assert len(done["days"]) == 8
    assert done["is_done"] is True


def test_eight_at_once_delete_each_event_once(db: Engine) -> None:
    made = subscribe()["endpoint_id"]
    for number in range(40):
        delivery(db, event(db, 100 + number), made, "delivered", 50)
    gate = threading.Barrier(8)

    def run(_: int) -> Any:
        gate.wait()
        return purge(as_of=NOW)

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(run, range(8)))

    assert sum(answer["events"] for answer in answers) == 40
    assert sum(answer["deliveries"] for answer in answers) == 40
    assert left(db) == set()


def test_a_delivery_that_is_replayed_meanwhile_keeps_its_event(db: Engine) -> None:
    """The purge has chosen it; the replay commits first."""
    made = subscribe()["endpoint_id"]
    message_id = event(db, 100)
    delivery(db, message_id, made, "delivered", 99)
    [row] = deliveries(db)
    gone: list[Any] = []

    def run() -> None:
        gone.append(purge(as_of=NOW))

    with db.begin() as replaying:
        replaying.execute(
            text("UPDATE deliveries SET state = 'pending', completed_at = NULL WHERE id = :id"),
            {"id": row.id},
        )
        purging = threading.Thread(target=run)
        purging.start()
        _until_someone_waits(db)
    purging.join()

    assert gone[0]["events"] == gone[0]["deliveries"] == 0
    assert left(db) == {message_id}
    assert [found.state for found in deliveries(db)] == ["pending"]


def _until_someone_waits(db: Engine) -> None:
    for _ in itertools.count():
        with db.connect() as connection:
            waiting = connection.scalar(
                text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
            )
        if waiting:
            return
        threading.Event().wait(0.01)


def test_a_chunk_begins_behind_the_one_before(db: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_purge, "CHUNK", 3)
    made = subscribe()["endpoint_id"]
    owed = [event(db, 200 + number) for number in range(4)]
    for message_id in owed:
        delivery(db, message_id, made, "held", 1)
    for number in range(5):
        event(db, 100 + number)

    answer = purge(as_of=NOW)

    assert answer["events"] == 5
    assert left(db) == set(owed)


def test_what_is_told_today_goes_its_way_through_a_purge(db: Engine) -> None:
    with receiver() as peer:
        made = subscribe(peer)
        emit(count=3)
        deliver_webhooks()
        emit(count=2)
        take()
        purge()

        [row] = [row for row in deliveries(db) if row.state == "delivered"][:1]
        replay_delivery(delivery_id=row.id, idempotency_key="again")
        deliver_webhooks()

        assert len(peer.requests) == 4
    assert len(left(db)) == 5
    assert made["secret"]


def test_keys_that_expired_a_day_ago_are_destroyed(db: Engine) -> None:
    made = subscribe()
    rotate_endpoint_secret(
        endpoint_id=UUID(made["endpoint_id"]), keep_old_seconds=60, idempotency_key="r"
    )
    at = dt.datetime.now(dt.UTC)

    soon = purge(as_of=at + dt.timedelta(hours=23))
    later = purge(as_of=at + dt.timedelta(hours=25))

    assert (soon["keys"], later["keys"]) == (0, 1)
    assert len(left(db, "endpoint_secrets")) == 1


def test_the_partition_of_today_is_never_dropped(db: Engine) -> None:
    prepare_partitions(as_of=NOW)
    with database.transaction() as session:
        assert partition.days_before(session, NOW.date()) == []
        assert partition.drop_day(session, dt.date(2020, 1, 1)) is False
