"""Redis forgets everything, or dies: the month still closes and everything arrives."""

import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.acceptance import books, story, system
from tests.acceptance.story import TENANTS, Story

pytestmark = pytest.mark.slow

EVERY_SECONDS = 0.8
AWAY_SECONDS = 0.5


class Disturbance:
    """Does one thing after the other, some seconds apart."""

    def __init__(self, what: Sequence[Callable[[], None]]) -> None:
        self._next = time.monotonic()
        self.left = list(what)

    def __call__(self) -> None:
        if self.left and time.monotonic() >= self._next:
            self.left.pop(0)()
            self._next = time.monotonic() + EVERY_SECONDS


def play(running: system.System, told: Story, disturb: Disturbance) -> None:
    running.start_worker("worker")
    running.start_beat()
    running.await_ready()
    books.open_accounts(running)
    for tenant in TENANTS:
        calls = [*told.usage(tenant), *told.spendings(tenant)]
        running.producer.send_all(told.grants(tenant), meanwhile=disturb)
        running.producer.send_all(calls, pause=0.05, meanwhile=disturb)
        running.producer.send_all([told.subscribe(tenant)], meanwhile=disturb)
    running.wait(
        lambda: not disturb.left and books.is_closed(running),
        within=books.CLOSE_SECONDS,
        meanwhile=disturb,
    )
    books.await_deliveries(running)


def test_the_month_closes_though_redis_forgets_everything_and_dies(tmp_path: Path) -> None:
    told = story.build(5, chunks=6)
    with system.running(tmp_path) as running:
        flush = running.flush_redis
        crash = functools.partial(running.crash_redis, away=AWAY_SECONDS)
        disturb = Disturbance([*[flush] * 4, crash, *[flush] * 4, crash, flush])

        play(running, told, disturb)

        books.assert_exact(running, told)
        assert running.query("SELECT task, code FROM rejected_messages") == []


def test_a_task_runs_though_nobody_can_keep_its_answer(tmp_path: Path) -> None:
    told = story.build(7, chunks=1)
    with system.running(tmp_path, BILLING_RESULT_BACKEND="redis://127.0.0.1:1/0") as running:
        running.start_worker("worker")
        running.await_ready()
        for tenant in TENANTS:
            for name, arguments in told.usage(tenant):
                running.producer.send(name, arguments)

        wanted = [(len(told.events),)]
        running.wait(
            lambda: running.query("SELECT count(*) FROM usage_events") == wanted,
            within=books.CLOSE_SECONDS,
        )
