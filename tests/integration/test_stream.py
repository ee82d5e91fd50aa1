"""The stream of single events: each stored once, whoever dies when, and a bad one alone is kept."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import OperationalError

from models import database
from tasks import config, stream, stream_run
from tasks.producer import StreamProducer
from tasks.producer.stream import STREAM
from tasks.stream import drain_usage_stream

pytestmark = pytest.mark.usefixtures("db")


class Died(BaseException):
    """What stands for the end of the process: nothing may catch it."""


@pytest.fixture
def redis(broker_url: str, task_config: config.Config) -> Iterator[Redis]:
    """The Redis whose stream is drained, with nothing on it."""
    config.use(replace(task_config, stream_url=broker_url))
    client = Redis.from_url(broker_url)
    client.delete(STREAM, stream_run.TRIES)
    yield client
    client.delete(STREAM, stream_run.TRIES)
    client.close()


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was given out is taken over at once."""
    monkeypatch.setattr(stream_run, "IDLE_SECONDS", 0)


def add(redis: Redis, *keys: str, **changed: Any) -> None:
    for key in keys:
        plain = {"tenant_id": "acme", "metric": "api", "amount": "2", "idempotency_key": key}
        redis.xadd(STREAM, {"event": json.dumps(plain | changed)})


def rows(statement: str) -> list[Any]:
    with database.transaction() as session:
        return list(session.execute(text(statement)).all())


def stored() -> list[str]:
    return [row[0] for row in rows("SELECT idempotency_key FROM usage_events ORDER BY 1")]


def kept() -> list[Any]:
    return rows("SELECT code, errors->0->>'reason', payload FROM rejected_messages ORDER BY id")


@contextmanager
def dying(engine: Engine, moment: str, when: Callable[[Any], bool] = lambda _: True) -> Any:
    """Die at a moment of the database connection, when something holds for its parameters."""

    def die(*arguments: Any) -> None:
        if when(arguments[3] if len(arguments) > 3 else None):
            raise Died

    event.listen(engine, moment, die)
    try:
        yield
    finally:
        event.remove(engine, moment, die)


def test_entries_are_stored_and_deleted(redis: Redis) -> None:
    add(redis, "k1", "k2", "k1")

    assert drain_usage_stream() == {
        "entries": 3,
        "accepted": 2,
        "duplicate": 1,
        "conflict": 0,
        "rejected": 0,
    }
    assert stored() == ["k1", "k2"]
    assert redis.xlen(STREAM) == 0
    assert redis.xpending(STREAM, stream_run.GROUP)["pending"] == 0


def test_nothing_happens_where_no_stream_is_drained() -> None:
    assert config.current().stream_url is None
    assert drain_usage_stream()["entries"] == 0
    assert stream.backlog() is None


def test_what_was_added_before_anybody_drained_counts(redis: Redis) -> None:
    add(redis, "early")
    drain_usage_stream()
    redis.delete(STREAM)  # as a FLUSHALL does, group and all
    add(redis, "late")

    assert drain_usage_stream()["accepted"] == 1
    assert stored() == ["early", "late"]


def test_more_than_a_chunk_is_drained_in_one_run(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_run, "LARGEST_CHUNK", 40)
    monkeypatch.setattr(stream_run, "FIRST_CHUNK", 7)
    monkeypatch.setattr(stream_run, "TIME_BUDGET", 60.0)
    with StreamProducer(config.current().stream_url or "", pipelined=50) as producer:
        for number in range(200):
            producer.record(tenant_id="acme", metric="api", amount=number)

    assert drain_usage_stream()["accepted"] == 200
    assert rows("SELECT sum(amount)::int FROM usage_events") == [(199 * 100,)]


def test_a_run_ends_when_its_time_is_over_and_the_next_goes_on(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_run, "FIRST_CHUNK", 2)
    monkeypatch.setattr(stream_run, "TIME_BUDGET", 0.0)
    add(redis, "k1", "k2", "k3")

    assert [drain_usage_stream()["entries"] for _ in range(3)] == [2, 1, 0]


def test_an_entry_that_can_not_be_stored_costs_only_itself(redis: Redis) -> None:
    add(redis, "good")
    redis.xadd(STREAM, {"event": b"\xff{"})
    redis.xadd(STREAM, {"event": '{"amount": NaN}'})
    redis.xadd(STREAM, {"tenant_id": "acme", "metric": "api"})
    redis.xadd(STREAM, {"event": "[1]"})
    add(redis, "negative", amount=-1)
    add(redis, "huge", metadata={"n": 2**70})
    add(redis, "good", amount="3")
    add(redis, "last")

    assert drain_usage_stream() == {
        "entries": 9,
        "accepted": 2,
        "duplicate": 0,
        "conflict": 1,
        "rejected": 6,
    }
    assert stored() == ["good", "last"]
    assert redis.xlen(STREAM) == 0
    payloads = [payload for _, _, payload in kept()]
    assert {"events": ["\\xff{"]} in payloads
    assert {"events": ['{"amount": NaN}']} in payloads
    assert {"events": [{"tenant_id": "acme", "metric": "api"}]} in payloads
    assert len(payloads) == 7


def test_a_cloud_event_is_taken_beside_our_own_shape(redis: Redis) -> None:
    add(redis, "ours")
    cloud = {
        "specversion": "1.0",
        "id": "7",
        "source": "/gateway",
        "type": "api",
        "subject": "acme",
        "data": {"amount": "5", "model": "atlas"},
    }
    redis.xadd(STREAM, {"event": json.dumps(cloud)})

    assert drain_usage_stream()["accepted"] == 2
    assert rows("SELECT idempotency_key, amount::int, metadata FROM usage_events ORDER BY 2") == [
        ("ours", 2, {}),
        ("/gateway#7", 5, {"model": "atlas"}),
    ]


def test_dying_before_the_commit_leaves_the_entries_for_another_run(
    db: Engine, redis: Redis, no_patience: None
) -> None:
    add(redis, "k1", "k2")
    with dying(db, "commit"), pytest.raises(Died):
        drain_usage_stream()
    assert stored() == []

    assert drain_usage_stream()["accepted"] == 2
    assert stored() == ["k1", "k2"]
    assert redis.xlen(STREAM) == 0


def test_dying_between_the_commit_and_the_deletion_counts_nothing_twice(
    redis: Redis, no_patience: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(redis, "k1", "k2")

    def die(*_: Any, **__: Any) -> None:
        raise Died

    with monkeypatch.context() as patched:
        patched.setattr(Redis, "pipeline", die)
        with pytest.raises(Died):
            drain_usage_stream()
    assert stored() == ["k1", "k2"]

    assert drain_usage_stream()["duplicate"] == 2
    assert rows("SELECT count(*) FROM usage_events") == [(2,)]
    assert redis.xlen(STREAM) == 0


def test_entries_of_a_live_run_are_not_taken_over(db: Engine, redis: Redis) -> None:
    add(redis, "k1")
    with dying(db, "commit"), pytest.raises(Died):
        drain_usage_stream()

    assert drain_usage_stream()["entries"] == 0
    assert redis.xlen(STREAM) == 1


def test_an_entry_that_the_database_refuses_costs_only_itself(db: Engine, redis: Redis) -> None:
    with db.begin() as connection:
        connection.execute(
            text("""
            CREATE FUNCTION refuse_poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                RAISE EXCEPTION 'poison' USING ERRCODE = '22000';
            END $$;
            CREATE TRIGGER refuse_poison BEFORE INSERT ON usage_events
            FOR EACH ROW WHEN (NEW.idempotency_key = 'poison') EXECUTE FUNCTION refuse_poison()
            """)
        )
    try:
        add(redis, *(f"k{number}" for number in range(9)), "poison", "k9")

        answer = drain_usage_stream()
    finally:
        with db.begin() as connection:
            connection.execute(text("DROP FUNCTION refuse_poison CASCADE"))

    assert (answer["entries"], answer["accepted"], answer["rejected"]) == (11, 10, 1)
    assert stored() == [f"k{number}" for number in range(10)]
    ((code, reason, payload),) = kept()
    assert (code, reason) == ("unexpected", "DataError: see the log")
    assert payload["events"][0]["idempotency_key"] == "poison"


def test_an_entry_that_ends_each_worker_is_refused_after_a_few_tries(
    db: Engine, redis: Redis, no_patience: None
) -> None:
    add(redis, "k1", "killer", "k2")
    deaths = 0
    with dying(db, "before_cursor_execute", lambda parameters: "killer" in str(parameters)):
        for _ in range(20):
            try:
                drain_usage_stream()
            except Died:
                deaths += 1
            if not redis.xlen(STREAM):
                break

    assert deaths == 2 + stream_run.MOST_TRIES
    assert stored() == ["k1", "k2"]
    ((code, _, payload),) = kept()
    assert code == "worker.lost"
    assert payload["events"][0]["idempotency_key"] == "killer"
    assert redis.hlen(stream_run.TRIES) == 0


def test_entries_wait_while_the_database_is_away_and_are_stored_when_it_is_back(
    db: Engine, redis: Redis
) -> None:
    add(redis, "k1", "k2")
    url = db.url.render_as_string(hide_password=False)
    database.configure(database.Options(url="postgresql://nobody@127.0.0.1:1/none"))
    with pytest.raises(OperationalError):
        drain_usage_stream()
    database.configure(database.Options(url=url))

    assert drain_usage_stream()["accepted"] == 2
    assert kept() == []


def test_runs_side_by_side_store_each_entry_once(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_run, "LARGEST_CHUNK", 50)
    monkeypatch.setattr(stream_run, "FIRST_CHUNK", 50)
    add(redis, *(f"k{number % 600}" for number in range(800)))

    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(drain_usage_stream) for _ in range(4)]

    assert sum(answer.result()["entries"] for answer in answers) == 800
    assert sum(answer.result()["accepted"] for answer in answers) == 600
    assert rows("SELECT count(*), sum(amount)::int FROM usage_events") == [(600, 1200)]


def test_the_backlog_is_what_waits_and_since_when(redis: Redis) -> None:
    assert stream.backlog() == stream.Backlog(0, None)
    add(redis, "k1", "k2")

    found = stream.backlog()

    assert found is not None
    assert found.waiting == 2
    assert found.oldest is not None
    assert timedelta(0) <= datetime.now(UTC) - found.oldest < timedelta(minutes=1)


def test_what_a_producer_stamps_is_the_same_event_when_it_is_sent_again(redis: Redis) -> None:
    with StreamProducer(config.current().stream_url or "") as producer:
        at = datetime(2026, 5, 1, 12, tzinfo=UTC)
        key = producer.record(tenant_id="acme", metric="api", amount=1, at=at)
        producer.record(tenant_id="acme", metric="api", amount=1, at=at, idempotency_key=key)

    answer = drain_usage_stream()

    assert (answer["accepted"], answer["duplicate"]) == (1, 1)
