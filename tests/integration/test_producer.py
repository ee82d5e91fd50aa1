"""The buffered producer: what it keeps, sends again, refuses and leaves behind."""

import base64
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from redis import Redis
from sqlalchemy import Engine, text

from models import database
from tasks import producer as producers
from tasks.producer import Limits, RefusedEvent, UsageProducer
from tasks.producer.segments import Folder
from tasks.usage import record_usage
from tests.processes import SECONDS, ForgetfulRedis, eventually, free_port

QUICK = Limits(chunk_events=10, chunk_seconds=0.05, answer_seconds=0.5)
"""What has no answer is soon sent again, also when the worker is merely slow."""

NEVER = Limits(chunk_events=10, chunk_seconds=0.05, answer_seconds=3_600)
"""Nothing is sent twice."""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForgetfulRedis]:
    """A Redis of this module's own: nobody else reads its queue."""
    with ForgetfulRedis(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def redis(broker: ForgetfulRedis) -> Iterator[Redis]:
    """A client of that Redis, which is empty."""
    with Redis.from_url(broker.url) as client:
        client.flushall()
        yield client


Fate = Callable[[int], str]
"""What a worker does with its n-th message, from 1: "work", "lose" it, or "fail"."""


@contextmanager
def working(redis: Redis, fate: Fate = lambda _: "work") -> Iterator[None]:
    """Carry out messages in this process, as a worker does, with the given fate."""
    stop = threading.Event()

    def work() -> None:
        count = 0
        while not stop.is_set():
            popped: Any = redis.brpop(["usage"], timeout=0.1)
            if popped is None:
                continue
            count += 1
            message = json.loads(popped[1])
            assert message["headers"]["task"] == record_usage.name
            args, kwargs, _ = json.loads(base64.b64decode(message["body"]))
            assert args == []
            match fate(count):
                case "work":
                    answer(message, "SUCCESS", record_usage(**kwargs))
                case "fail":
                    answer(message, "FAILURE", {"exc_type": "RuntimeError", "exc_message": ["no"]})

    def answer(message: Any, status: str, result: Any) -> None:
        task_id = message["headers"]["id"]
        stored = {"task_id": task_id, "status": status, "result": result, "children": []}
        redis.set(f"celery-task-meta-{task_id}", json.dumps(stored))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def rows(statement: str) -> list[Any]:
    with database.transaction() as session:
        return list(session.execute(text(statement)).all())


def record(producer: UsageProducer, *amounts: int, **changed: Any) -> list[str]:
    return [
        producer.record(**{"tenant_id": "acme", "metric": "api", "amount": amount} | changed)
        for amount in amounts
    ]


def test_events_arrive_stamped_with_an_instant_and_a_key(
    db: Engine, redis: Redis, broker: ForgetfulRedis
) -> None:
    before = datetime.now(UTC)
    with working(redis), UsageProducer(broker.url, limits=NEVER) as producer:
        (key,) = record(producer, 1, amount=Decimal("1.5"), metadata={"model": "atlas"})
        given = record(producer, 2, at=datetime(2026, 5, 1, 10), idempotency_key="mine")  # noqa: DTZ001
        assert producer.flush(SECONDS) == 0

    assert UUID(key).version == 7
    assert given == ["mine"]
    first, second = rows("SELECT * FROM usage_events ORDER BY amount")
    assert (first.idempotency_key, first.amount, first.metadata) == (
        key,
        Decimal("1.5"),
        {"model": "atlas"},
    )
    assert before <= first.at <= datetime.now(UTC)
    assert second.at == datetime(2026, 5, 1, 10, tzinfo=UTC)


def test_a_chunk_goes_by_number_by_size_or_by_age(redis: Redis, broker: ForgetfulRedis) -> None:
    limits = Limits(chunk_events=3, chunk_bytes=600, chunk_seconds=3_600)
    producer = UsageProducer(broker.url, limits=limits)
    record(producer, 1, 2, 3)
    eventually(lambda: redis.llen("usage") == 1)
    record(producer, 4, 5, metadata={"padding": "x" * 300})
    eventually(lambda: redis.llen("usage") == 2)
    assert producer.statistics.sent == 4
    producer.close(timeout=0)

    young = UsageProducer(broker.url, limits=NEVER)
    record(young, 1)
    eventually(lambda: young.statistics.sent == 1)
    young.close(timeout=0)


def test_answers_are_read_and_deleted(db: Engine, redis: Redis, broker: ForgetfulRedis) -> None:
    with working(redis), UsageProducer(broker.url, limits=NEVER) as producer:
        record(producer, *range(25))
        assert producer.flush(SECONDS) == 0

        statistics = producer.statistics

    assert (statistics.recorded, statistics.accepted, statistics.pending) == (25, 25, 0)
    assert redis.keys("celery-task-meta-*") == []


def test_a_message_that_is_lost_is_sent_again(
    db: Engine, redis: Redis, broker: ForgetfulRedis
) -> None:
    def fate(count: int) -> str:
        return "lose" if count <= 3 else "work"

    with working(redis, fate), UsageProducer(broker.url, limits=QUICK) as producer:
        record(producer, *range(20))

    # One that was merely slow is sent again too, and then known.
    assert producer.statistics.accepted + producer.statistics.duplicate == 20
    assert rows("SELECT count(*), sum(amount)::int FROM usage_events") == [(20, 190)]


def test_an_answer_that_is_lost_makes_duplicates_and_no_doubles(
    db: Engine, redis: Redis, broker: ForgetfulRedis
) -> None:
    stored = threading.Event()

    def fate(count: int) -> str:
        if count == 1:
            return "lose"
        assert stored.wait(SECONDS)
        return "work"

    with working(redis, fate), UsageProducer(broker.url, limits=QUICK) as producer:
        keys = record(producer, 7, idempotency_key="k")
        record_usage(events=producer.unanswered()[:1])
        stored.set()

    assert keys == ["k"]
    assert (producer.statistics.accepted, producer.statistics.duplicate) == (0, 1)
    assert rows("SELECT count(*) FROM usage_events") == [(1,)]


def test_a_chunk_at_which_workers_fail_for_a_while_is_stored_in_the_end(
    db: Engine, redis: Redis, broker: ForgetfulRedis
) -> None:
    def fate(count: int) -> str:
        return "fail" if count <= 2 else "work"

    with working(redis, fate), UsageProducer(broker.url, limits=NEVER) as producer:
        record(producer, 1, 2)

    assert producer.statistics.accepted == 2


def test_a_chunk_at_which_workers_always_fail_is_given_up_and_told(
    db: Engine, redis: Redis, broker: ForgetfulRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producers.sender, "SHORTEST_PAUSE", 0.001)
    told: list[RefusedEvent] = []
    with (
        working(redis, lambda _: "fail"),
        UsageProducer(broker.url, limits=NEVER, on_refused=told.append) as producer,
    ):
        record(producer, 1, 2)

    assert [each.verdict for each in told] == ["failed", "failed"]
    assert told[0].reason == "workers failed at it: RuntimeError"
    assert producer.statistics.refused == 2


def test_refused_events_are_told_with_their_reason_and_logged_without_payload(
    db: Engine, redis: Redis, broker: ForgetfulRedis, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[RefusedEvent] = []

    def tell(each: RefusedEvent) -> None:
        told.append(each)
        raise RuntimeError("the caller's own fault")

    with (
        working(redis),
        UsageProducer(broker.url, limits=NEVER, on_refused=tell) as producer,
    ):
        record(producer, 1, idempotency_key="k", metadata={"secret": "hunter2"})
        record(producer, 2, idempotency_key="k", metadata={"secret": "hunter2"})
        record(producer, -3, metadata={"secret": "hunter2"})
        assert producer.flush(SECONDS) == 0

    assert [(each.verdict, each.field) for each in told] == [
        ("conflict", "amount"),
        ("rejected", "amount"),
    ]
    assert told[0].event["amount"] == "2"
    assert told[1].reason == "must be 0 or more: the metric's meter allows no corrections"
    assert all(each.rejected_message_id for each in told)
    assert (producer.statistics.accepted, producer.statistics.refused) == (1, 2)
    assert "usage_producer.refused" in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"amount": 1.5}, "amount"),
        ({"amount": True}, "amount"),
        ({"at": "2026-05-01"}, "at"),
        ({"metadata": {"x": float("nan")}}, "metadata"),
        ({"metadata": {"x": object()}}, "metadata"),
        ({"metadata": {"x": "y" * 17_000}}, "metadata"),
        ({"tenant_id": "\ud800"}, "event"),
        ({"metric": "m" * 70_000}, "event"),
    ],
)
def test_what_can_not_be_written_is_refused_at_once(
    broker: ForgetfulRedis, changed: dict[str, Any], field: str
) -> None:
    producer = UsageProducer(broker.url)

    with pytest.raises(producers.InvalidEvent) as refused:
        record(producer, 1, **changed)

    assert refused.value.field == field
    assert producer.close(timeout=0).recorded == 0


def test_a_full_buffer_refuses_at_once_where_the_caller_chose_so(
    redis: Redis, broker: ForgetfulRedis
) -> None:
    limits = Limits(chunk_events=100, chunk_seconds=3_600, pending_bytes=64 * 1024)
    producer = UsageProducer(broker.url, limits=limits, block_seconds=0)

    with pytest.raises(producers.BufferFull):
        record(producer, *range(2_000))

    taken = producer.statistics.recorded
    assert 100 < taken < 2_000
    assert len(producer.unanswered()) == taken
    producer.close(timeout=0)


def test_a_full_buffer_makes_the_caller_wait_until_there_is_room(
    db: Engine, redis: Redis, broker: ForgetfulRedis
) -> None:
    limits = Limits(chunk_events=100, chunk_seconds=0.05, pending_bytes=64 * 1024)
    with working(redis), UsageProducer(broker.url, limits=limits) as producer:
        record(producer, *range(2_000))

    assert producer.statistics.accepted == 2_000


def test_waiting_for_room_ends_when_its_time_is_over(redis: Redis, broker: ForgetfulRedis) -> None:
    limits = Limits(pending_bytes=64 * 1024)
    producer = UsageProducer(broker.url, limits=limits, block_seconds=0.2)
    began = time.monotonic()

    with pytest.raises(producers.BufferFull, match="is a worker running"):
        record(producer, *range(2_000))

    assert time.monotonic() - began >= 0.2
    producer.close(timeout=0)


def test_many_threads_lose_nothing(db: Engine, redis: Redis, broker: ForgetfulRedis) -> None:
    # By number alone: by age there would be more chunks the slower the machine is.
    limits = Limits(chunk_events=20, chunk_seconds=3_600, answer_seconds=3_600)
    with working(redis), UsageProducer(broker.url, limits=limits) as producer:
        threads = [threading.Thread(target=record, args=(producer, *range(100))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert producer.flush(SECONDS) == 0

    assert rows("SELECT count(*), sum(amount)::int FROM usage_events") == [(800, 8 * 4950)]


def test_closing_tells_what_is_left_and_a_block_does_not_end_silently(
    redis: Redis, broker: ForgetfulRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producers.buffered.UsageProducer.close, "__defaults__", (0.1,))
    producer = UsageProducer(broker.url, limits=NEVER)

    with pytest.raises(producers.EventsLeft, match="3 events"), producer:
        record(producer, 1, 2, 3)

    assert [event["amount"] for event in producer.unanswered()] == ["1", "2", "3"]
    with pytest.raises(producers.ProducerClosed):
        record(producer, 4)


def test_a_broker_that_is_away_is_waited_for(
    db: Engine, redis: Redis, broker: ForgetfulRedis
) -> None:
    broker.kill()
    producer = UsageProducer(broker.url, limits=QUICK)
    record(producer, 1, 2)
    assert producer.flush(timeout=0.5) == 2
    broker.start()

    with working(redis):
        statistics = producer.close(SECONDS)

    assert statistics.accepted + statistics.duplicate == 2
    assert statistics.pending == 0


def test_closing_is_not_held_up_by_a_broker_that_is_away() -> None:
    producer = UsageProducer(f"redis://127.0.0.1:{free_port()}/0", limits=QUICK)
    record(producer, 1)

    assert producer.close(timeout=0.3).pending == 1


def test_a_producer_that_can_not_hear_answers_is_refused() -> None:
    with pytest.raises(producers.NoAnswers):
        UsageProducer("amqp://127.0.0.1//")


@pytest.mark.parametrize("wrong", [{"chunk_events": 0}, {"chunk_events": 10_001}, {"in_flight": 0}])
def test_limits_that_could_not_work_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="it must be"):
        Limits(**wrong)


def test_what_was_left_on_disk_is_sent_by_the_next_producer(
    db: Engine, redis: Redis, broker: ForgetfulRedis, tmp_path: Path
) -> None:
    before = UsageProducer(broker.url, limits=NEVER, spill=tmp_path)
    record(before, *range(25))
    assert before.close(timeout=0.1).pending == 25
    redis.flushall()

    with working(redis), UsageProducer(broker.url, limits=NEVER, spill=tmp_path) as after:
        record(after, 25)

    statistics = after.statistics
    assert (statistics.recovered, statistics.recorded, statistics.accepted) == (25, 1, 26)
    assert rows("SELECT count(*), sum(amount)::int FROM usage_events") == [(26, 325)]
    assert list(tmp_path.iterdir()) == []


def test_what_a_live_producer_has_on_disk_is_left_to_it(
    redis: Redis, broker: ForgetfulRedis, tmp_path: Path
) -> None:
    first = UsageProducer(broker.url, limits=NEVER, spill=tmp_path)
    record(first, 1, 2)
    second = UsageProducer(broker.url, limits=NEVER, spill=tmp_path)

    assert second.statistics.recovered == 0
    second.close(timeout=0)
    first.close(timeout=0)
    third = UsageProducer(broker.url, limits=NEVER, spill=tmp_path)
    assert third.statistics.recovered == 2
    third.close(timeout=0)


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    writer = folder.write()
    for line in (b'{"a":1}', b'{"a":2}'):
        writer.append(line)
    segment = writer.seal()
    folder.close()
    whole = segment.path.read_bytes()

    for length in range(len(whole) + 1):
        segment.path.write_bytes(whole[:length])
        complete = whole[:length].count(b"}")
        assert len(segment.lines()) == complete

    segment.path.write_bytes(whole + b"\0" * 100)
    assert segment.lines() == [b'{"a":1}', b'{"a":2}']


def test_nothing_on_disk_is_readable_by_others(
    redis: Redis, broker: ForgetfulRedis, tmp_path: Path
) -> None:
    producer = UsageProducer(broker.url, limits=NEVER, spill=tmp_path / "spill")
    record(producer, 1)

    modes = {path.stat().st_mode & 0o077 for path in (tmp_path / "spill").rglob("*")}
    assert modes == {0}
    producer.close(timeout=0)


# Newer Pythons warn of forks beside threads: that it works is what is tested.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_starts_empty_and_sends_only_what_is_its_own(
    db: Engine, redis: Redis, broker: ForgetfulRedis, tmp_path: Path
) -> None:
    patient = Limits(chunk_events=100, chunk_seconds=3_600, answer_seconds=3_600)
    producer = UsageProducer(broker.url, limits=patient, spill=tmp_path)
    record(producer, *range(10), tenant_id="parent")
    child = fork(lambda: in_the_child(producer))

    with working(redis):
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        statistics = producer.close()

    assert (statistics.recorded, statistics.accepted, statistics.duplicate) == (10, 10, 0)
    assert rows("SELECT tenant_id, count(*)::int FROM usage_events GROUP BY 1 ORDER BY 1") == [
        ("child", 5),
        ("parent", 10),
    ]
    assert list(tmp_path.iterdir()) == []


def in_the_child(producer: UsageProducer) -> bool:
    assert producer.statistics.recorded == 0
    record(producer, *range(5), tenant_id="child")
    return producer.close().accepted == 5


def fork(work: Callable[[], bool]) -> int:
    """Run something in a forked child, and end that with 0 if it holds."""
    child = os.fork()
    if child == 0:
        held = False
        try:
            held = work()
        finally:
            # Nothing of the tests may run on in the child.
            os._exit(0 if held else 1)
    return child
