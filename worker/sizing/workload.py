"""What is asked of an installation, and what one machine of it may be asked for."""

import dataclasses
from dataclasses import dataclass
from typing import Final

SECONDS_A_DAY: Final = 86_400


@dataclass(frozen=True, slots=True)
class Workload:
    """What comes in, at its busiest, and how long it is kept.

    Args:
        events: usage events a second.
        per_message: events of a message, 1 to 10,000.
        hours: of a day at that rate; the other hours bring nothing.
        tenants, metrics: how many use something on a day, and how many metrics each of them.
        subscribed: the share of totals that some endpoint hears of, 0 to 1.
        deliveries: webhooks a second beside those.
        answer: seconds until an endpoint answers.
        uses: of credit, a second.
        kept: days that events stay in the database: of a month that is archived after 35, up to 66.
        remembered: days that the key of an event is known after that.
        outage: minutes that messages must find room in the broker while nobody takes them.
    """

    events: float
    per_message: int = 1_000
    hours: float = 24.0
    tenants: int = 1_000
    metrics: int = 5
    subscribed: float = 0.1
    deliveries: float = 0.0
    answer: float = 0.1
    uses: float = 0.0
    kept: float = 66.0
    remembered: float = 400.0
    outage: float = 30.0

    @property
    def messages(self) -> float:
        """Messages of usage a second."""
        return self.events / self.per_message

    @property
    def pairs(self) -> int:
        """Metrics of all tenants together."""
        return self.tenants * self.metrics

    def shared_by(self, primaries: int) -> "Workload":
        """Return what one of so many primaries has of it, tenants spread evenly."""
        return dataclasses.replace(
            self,
            events=self.events / primaries,
            tenants=max(1, self.tenants // primaries),
            deliveries=self.deliveries / primaries,
            uses=self.uses / primaries,
        )

    @property
    def events_a_day(self) -> float:
        """Events of a day."""
        return self.events * self.hours * 3_600

    @property
    def rows(self) -> float:
        """Events that lie in the database."""
        return self.events_a_day * self.kept


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of each thing is used before it is called full, and what the program itself sets.

    Args:
        share: of a processor's time; what is busier than this waits too long, and leaves no room
            for the hour after an outage.
        database_cores: of the largest primary that one would run.
        wal: bytes a second that its disks, archive and replicas keep up with.
        reads: pages a second that its disks find at random.
        memory: bytes of that primary that hold its tables and indexes.
        commit: seconds that a commit waits for the disk.
        checkpoint: seconds between two.
        ring: seconds between two looks at touched days (worker/schedule.py).
        chunk: messages whose days one statement counts (tasks/aggregation.py).
        slots: attempts on the wire at once in a process (tasks/window.py).
        pool: connections of a process (BILLING_DATABASE_POOL_SIZE).
        connections: of PostgreSQL that are not worth a pooler.
        disk: bytes of one primary that can still be backed up and restored in a night.
    """

    share: float = 0.6
    database_cores: int = 64
    wal: float = 200e6
    reads: float = 20_000
    memory: float = 256e9
    commit: float = 0.002
    checkpoint: float = 900.0
    ring: float = 10.0
    chunk: int = 2_000
    slots: int = 32
    pool: int = 2
    connections: int = 200
    disk: float = 30e12
