"""From what comes in to what must be there: processes, processors, log, disk, memory."""

import math
from dataclasses import dataclass
from typing import Final

from worker.sizing import costs as paths
from worker.sizing import queueing, rollup
from worker.sizing.costs import Cost, Costs
from worker.sizing.rollup import RollUp
from worker.sizing.workload import SECONDS_A_DAY, Limits, Workload

PAGE: Final = 8_192

REMEMBERED_ROW: Final = 76
"""Bytes of the key of an event that was archived, beside its index."""

OTHERS: Final = 10
"""Connections of beat's checks, `billing metrics`, operators, backups and replicas."""

DRAFTED: Final = 5
"""Lines of an invoice: as many as were measured."""


@dataclass(frozen=True, slots=True)
class Pool:
    """The processes that take one queue.

    Args:
        processes: of all its workers together.
        workers: main processes, each with its share of them: one reads only so many messages.
        busy: the share of their time that they are.
        wait: seconds that a message waits at most, in 99 of 100 cases.
    """

    processes: int
    workers: int
    busy: float
    wait: float


@dataclass(frozen=True, slots=True)
class Broker:
    """Redis: the share of its one thread, bytes that come and go, bytes held after an outage."""

    busy: float
    network: float
    held: float


@dataclass(frozen=True, slots=True)
class Database:
    """PostgreSQL, all primaries together.

    Args:
        busy: processors that are busy; `cores` leaves what the limits say.
        ingest, roll_up, others: of `busy`, by what for.
        wal, whole_pages: bytes logged a second, and how many of them are pages logged whole.
        a_day, disk: bytes by which it grows a day, and that it comes to.
        remembered: of `disk`, the keys of events that were archived.
        key, memory: bytes of the unique key's index, and that should be memory for it to be quick.
        reads: pages of that key a second that are not in memory.
        connections: of all processes.
    """

    busy: float
    cores: int
    ingest: float
    roll_up: float
    others: float
    wal: float
    whole_pages: float
    a_day: float
    disk: float
    remembered: float
    key: float
    memory: float
    reads: float
    connections: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What an installation needs. `producers` are processors that are busy sending."""

    workload: Workload
    producers: float
    broker: Broker
    usage: Pool
    billing: Pool
    webhooks: Pool
    roll_up: RollUp
    database: Database
    billing_run: float
    """Seconds of the month's invoices of all tenants, by the processes for `billing`."""


def plan(workload: Workload, costs: Costs, limits: Limits | None = None) -> Plan:
    """Return what an installation needs for a workload."""
    limits = limits or Limits()
    rolled = rollup.roll_up(workload, costs, limits)
    event = costs.of_event(per_message=workload.per_message)
    sent = _deliveries(workload, rolled)
    use, delivery = costs.of(paths.USE), costs.of(paths.DELIVERY)
    usage = _usage(workload, event, rolled, limits)
    billing = _pool(workload.uses, use, limits)
    webhooks = _webhooks(workload, sent, delivery, limits)
    invoice = costs.of(paths.DRAFT).plus(costs.of(paths.FINALIZED))
    processes = usage.processes + billing.processes + webhooks.processes
    return Plan(
        workload=workload,
        producers=(workload.events * event.producer_us + workload.uses * use.producer_us) / 1e6,
        broker=_broker(workload, event, use),
        usage=usage,
        billing=billing,
        webhooks=webhooks,
        roll_up=rolled,
        database=_database(
            workload, costs, limits, rolled, sent=sent, connections=processes * limits.pool + OTHERS
        ),
        billing_run=workload.tenants
        * math.ceil(workload.metrics / DRAFTED)
        * invoice.service_us
        / 1e6
        / billing.processes,
    )


def _deliveries(workload: Workload, rolled: RollUp) -> float:
    return workload.deliveries + rolled.totals * workload.subscribed


def _pool(rate: float, cost: Cost, limits: Limits, *, units: float = 1.0) -> Pool:
    """Processes for messages of so many units each."""
    service = cost.service_us * units / 1e6 + limits.commit
    processes = queueing.processes_for(rate, service, share=limits.share)
    return Pool(
        processes=processes,
        workers=max(1, math.ceil(rate * cost.dispatcher_us * units / 1e6 / limits.share)),
        busy=rate * service / processes,
        wait=queueing.wait(rate, service, processes),
    )


def _usage(workload: Workload, event: Cost, rolled: RollUp, limits: Limits) -> Pool:
    """Processes for messages, and one that the roll-up has for as long as it looks."""
    pool = _pool(workload.messages, event, limits, units=workload.per_message)
    looking = min(1.0, rolled.worker_cores + rolled.database_cores)
    processes = pool.processes + 1
    return Pool(
        processes=processes,
        workers=min(processes, pool.workers),
        busy=(pool.busy * pool.processes + looking) / processes,
        wait=pool.wait,
    )


def _webhooks(workload: Workload, sent: float, cost: Cost, limits: Limits) -> Pool:
    """As many as have the processor time, and as many as have the slots."""
    by_time = sent * cost.service_us / 1e6
    by_slots = sent * workload.answer / limits.slots
    processes = max(1, math.ceil(max(by_time, by_slots) / limits.share - 1e-9))
    return Pool(processes, 1, by_time / processes, wait=0.0)


def _broker(workload: Workload, event: Cost, use: Cost) -> Broker:
    return Broker(
        busy=(workload.events * event.broker_us + workload.uses * use.broker_us) / 1e6,
        network=workload.events * event.network_bytes + workload.uses * use.network_bytes,
        held=workload.events * event.held_bytes * workload.outage * 60,
    )


def _database(
    workload: Workload,
    costs: Costs,
    limits: Limits,
    rolled: RollUp,
    *,
    sent: float,
    connections: int,
) -> Database:
    event = costs.of_event(per_message=workload.per_message)
    others = costs.of(paths.USE).times(workload.uses).plus(costs.of(paths.DELIVERY).times(sent))
    ingest = workload.events * event.database_us / 1e6
    busy = ingest + rolled.database_cores + others.database_us / 1e6
    key = costs.key_bytes * workload.rows
    whole = whole_pages(workload.events, key / PAGE, costs, limits)
    stored = event.heap_bytes + event.index_bytes
    of_others = (others.heap_bytes + others.index_bytes) * SECONDS_A_DAY
    gone = workload.events_a_day * workload.remembered * (REMEMBERED_ROW + costs.key_bytes)
    missing = max(0.0, 1 - limits.memory / key) if key else 0.0
    return Database(
        busy=busy,
        cores=max(2, math.ceil(busy / limits.share - 1e-9)),
        ingest=ingest,
        roll_up=rolled.database_cores,
        others=others.database_us / 1e6,
        wal=workload.events * event.wal_bytes + rolled.wal + others.wal_bytes + whole,
        whole_pages=whole,
        a_day=workload.events_a_day * stored + of_others,
        disk=workload.rows * stored + gone + of_others * workload.kept,
        remembered=gone,
        key=key,
        memory=key + workload.events_a_day * event.index_bytes,
        reads=workload.events * missing,
        connections=connections,
    )


def whole_pages(events: float, pages: float, costs: Costs, limits: Limits) -> float:
    """Return the bytes a second of the key's pages that are logged whole.

    A hash goes to any page of the key; the first change of a page after a checkpoint is logged as
    the whole page. So it is one page an event while the key has many more pages than events come
    between two checkpoints, and next to nothing while it has few.
    """
    draws = events * limits.checkpoint
    return paths.distinct(draws, pages) * costs.page_bytes / limits.checkpoint
