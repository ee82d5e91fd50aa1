"""Freshness: from sending an event to seeing it in its day's total, worker and beat running."""

import random
import time
from statistics import median

from benchmarks import rounds, servers
from benchmarks.report import Measure
from benchmarks.servers import Stage
from tasks.queues import Queue
from tasks.usage import record_usage

JOB = "freshness"

SENT = 12

LONGEST_PAUSE = 10.0
"""Seconds between two events: any moment between two rings of beat."""

COMMITTED = "SELECT count(*) FROM usage_events WHERE metric = '{}'"
VISIBLE = "SELECT count(*) FROM usage_aggregates WHERE metric = '{}' AND total > 0"


def measure(stage: Stage, scale: float) -> list[Measure]:
    """Send events one by one to an idle system, and look until each is there."""
    chance = random.Random(1)
    committed, visible = [], []
    with stage.worker(Queue.usage, concurrency=1), stage.beat():
        for number in range(rounds.scaled(SENT, scale, least=1)):
            time.sleep(chance.uniform(0, LONGEST_PAUSE * min(1.0, scale)))
            metric = f"fresh-{number}"
            begun = time.perf_counter()
            record_usage.delay(tenant_id="acme", metric=metric, amount=1, idempotency_key=metric)
            committed.append(_seconds_until(stage, COMMITTED.format(metric), begun))
            visible.append(_seconds_until(stage, VISIBLE.format(metric), begun))
    ratios = [seen / stored for seen, stored in zip(visible, committed, strict=True)]
    return [
        Measure(
            name=f"{JOB}: sent → in the total",
            rate=median(visible),
            unit="s",
            floor="sent → committed",
            floor_rate=median(committed),
            ratio=median(ratios),
            aim=None,
            rounds=len(visible),
        )
    ]


def _seconds_until(stage: Stage, query: str, begun: float) -> float:
    servers.wait_until(lambda: bool(stage.value(query)))
    return time.perf_counter() - begun
