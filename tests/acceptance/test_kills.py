"""Processes are killed in the middle of everything, and every figure is exact afterwards."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tasks.queues import Queue
from tests.acceptance import books, story, system
from tests.acceptance.producer import Call
from tests.acceptance.story import TENANTS, Story

pytestmark = pytest.mark.slow

SEED = 11
KILLS = 14
EVERY = (0.2, 0.9)
"""Seconds between two kills."""

LOOKS, LOOK_SECONDS = 60, 0.005
"""How a child in the middle of its work is looked for."""

WORKERS = {"usage-billing": (Queue.usage, Queue.billing), "webhooks": (Queue.webhooks,)}


class Killer:
    """Kills -9 a pool child, a worker's main process or beat, now and then, by a seeded chance."""

    def __init__(self, running: system.System) -> None:
        self._running = running
        self._chance = random.Random(SEED)
        self._next = time.monotonic()
        self.children = self.mains = 0

    @property
    def kills(self) -> int:
        return self.children + self.mains

    def __call__(self) -> None:
        if time.monotonic() < self._next or self.kills >= KILLS:
            return
        self._next = time.monotonic() + self._chance.uniform(*EVERY)
        name = self._chance.choice(["usage-billing", "usage-billing", "webhooks", "beat"])
        if not self._running.is_ready(name):
            return
        if name == "beat" or self._chance.random() < 0.25:
            self._running.kill(name)
            self.mains += 1
        elif pool := self._running.pool_of(name):
            os.kill(self._chance.choice(busy_among(pool)), signal.SIGKILL)
            self.children += 1


def busy_among(pool: list[int]) -> list[int]:
    """Return those at work, or all of them when none is for a while: a kill is to hurt."""
    for _ in range(LOOKS):
        busy = [pid for pid in pool if system.state_of(pid) == "R"]
        if busy:
            return busy
        time.sleep(LOOK_SECONDS)
    return pool


def calls(told: Story) -> list[Call]:
    """Everything at once: the usage of a tenant beside the closing of the one before."""
    chance = random.Random(SEED)
    found: list[Call] = []
    for number, tenant in enumerate(TENANTS):
        part = [*told.usage(tenant), *told.spendings(tenant)]
        chance.shuffle(part)
        found += part
        if number:
            found.insert(len(found) - len(part) // 2, told.subscribe(TENANTS[number - 1]))
    return found


def test_no_figure_is_wrong_after_kills_at_random(tmp_path: Path) -> None:
    told = story.build(SEED, chunks=24, size=100)
    with system.running(tmp_path) as running:
        for name, queues in WORKERS.items():
            running.start_worker(name, queues=queues)
        running.start_beat()
        running.await_ready()
        books.open_accounts(running)
        killer = Killer(running)

        grants = [grant for tenant in TENANTS for grant in told.grants(tenant)]
        running.producer.send_all(grants, at_once=4, meanwhile=killer)
        running.producer.send_all(calls(told), at_once=6, pause=0.04, meanwhile=killer)
        running.producer.send_all([told.subscribe(TENANTS[-1])], meanwhile=killer)
        running.wait(
            lambda: killer.kills >= KILLS and books.is_closed(running),
            within=books.CLOSE_SECONDS,
            meanwhile=killer,
        )
        books.await_deliveries(running)

        assert killer.children >= 4
        assert killer.mains >= 4
        assert running.producer.resent >= 1
        books.assert_exact(running, told)
        codes = {code for (code,) in running.query("SELECT code FROM rejected_messages")}
        assert codes <= {"worker.lost"}
