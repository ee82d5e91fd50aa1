"""Partitions of delivery attempts: made ahead, once, and rows that came early move in."""

import datetime as dt
import threading
import time
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from models import database, failures
from models.store import partition
from tasks.upkeep import prepare_partitions

NOON = dt.datetime(2026, 3, 10, 12, tzinfo=dt.UTC)

ATTEMPT = text(
    "INSERT INTO delivery_attempts (id, attempted_at, delivery_id, endpoint_id, attempt_number, "
    "outcome, latency_ms) VALUES (gen_random_uuid(), :at, 1, gen_random_uuid(), 1, 'timeout', 5)"
)


def attempt(db: Engine, at: dt.datetime) -> None:
    with db.begin() as connection:
        connection.execute(ATTEMPT, {"at": at})


def wait_until_one_waits_for_a_lock(db: Engine) -> None:
    waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    for _ in range(1000):
        with db.connect() as connection:
            if connection.scalar(waiting):
                return
        time.sleep(0.01)
    raise AssertionError("nobody waits")


def places(db: Engine) -> list[Any]:
    with db.connect() as connection:
        return [
            tuple(row)
            for row in connection.execute(
                text(
                    "SELECT tableoid::regclass::text, count(*) FROM delivery_attempts "
                    "GROUP BY 1 ORDER BY 1"
                )
            )
        ]


def test_today_and_seven_days_ahead_are_made_once(db: Engine) -> None:
    first = prepare_partitions(as_of=NOON)
    again = prepare_partitions(as_of=NOON)
    tomorrow = prepare_partitions(as_of=NOON + dt.timedelta(days=1))

    assert first["created"][0] == "2026-03-10"
    assert len(first["created"]) == 8
    assert again == {"created": [], "moved": 0}
    assert tomorrow["created"] == ["2026-03-18"]


def test_a_day_is_utc_whatever_zone_the_call_names(db: Engine) -> None:
    late_evening = dt.datetime(2026, 3, 9, 23, tzinfo=dt.timezone(dt.timedelta(hours=-5)))

    assert prepare_partitions(as_of=late_evening)["created"][0] == "2026-03-10"


def test_rows_that_came_before_their_partition_move_into_it(db: Engine) -> None:
    midnight = NOON.replace(hour=0)
    for at in [NOON, midnight, midnight - dt.timedelta(microseconds=1)]:
        attempt(db, at)

    assert prepare_partitions(as_of=NOON)["moved"] == 2
    attempt(db, NOON)

    assert places(db) == [
        ("delivery_attempts_20260310", 3),
        ("delivery_attempts_default", 1),
    ]


def test_a_row_on_its_way_while_its_partition_is_made_may_be_written_again(db: Engine) -> None:
    errors: list[BaseException] = []

    def write() -> None:
        try:
            attempt(db, NOON)
        except IntegrityError as error:
            errors.append(error)

    writer = threading.Thread(target=write)
    with database.transaction() as session:
        partition.ensure_day(session, NOON.date())
        writer.start()
        wait_until_one_waits_for_a_lock(db)
    writer.join()
    attempt(db, NOON)

    assert [failures.is_retryable(error) for error in errors] == [True]
    assert places(db) == [("delivery_attempts_20260310", 1)]


def test_a_check_of_our_own_that_fails_is_not_tried_again(db: Engine) -> None:
    with pytest.raises(IntegrityError) as caught, db.begin() as connection:
        connection.execute(text("INSERT INTO tenants (tenant_id, currency) VALUES ('a', 'usd')"))

    assert not failures.is_retryable(caught.value)


def test_several_makers_at_once_make_each_day_once(db: Engine) -> None:
    answers: list[Any] = []
    makers = [
        threading.Thread(target=lambda: answers.append(prepare_partitions(as_of=NOON)))
        for _ in range(4)
    ]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()

    assert sum(len(answer["created"]) for answer in answers) == 8


def test_a_new_partition_has_the_indexes_of_its_parent(db: Engine) -> None:
    prepare_partitions(as_of=NOON)

    with db.connect() as connection:
        attached = connection.scalar(
            text(
                "SELECT count(*) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
                "WHERE c.relkind = 'i' AND c.relname LIKE 'delivery_attempts_20260310%'"
            )
        )
    assert attached == 3
