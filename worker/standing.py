"""How the whole system stands: looked up in the database and the broker when it is scraped."""

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import structlog
from amqp.exceptions import ChannelError  # type: ignore[import-untyped]
from celery import Celery
from kombu.connection import Connection
from kombu.exceptions import OperationalError
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from models import database, failures
from models.store import due, health
from tasks import config, stream
from tasks.metrics import Gauge
from tasks.queues import Queue

log = structlog.get_logger(__name__)

DATABASE_UP: Final = Gauge(
    "billing_database_up", "1 if the database answers, or 0; then what it knows is not told."
)
BROKER_UP: Final = Gauge(
    "billing_broker_up", "1 if the broker answers, or 0; then what it knows is not told."
)
DUE: Final = Gauge(
    "billing_job_due", "How much a periodic job has to do, at most 100,000.", ("job",)
)
OVERDUE: Final = Gauge(
    "billing_job_overdue_seconds", "For how long the oldest work of a periodic job waits.", ("job",)
)
OUTBOX: Final = Gauge("billing_outbox_pending", "Messages that wait to be given to endpoints.")
OUTBOX_AGE: Final = Gauge("billing_outbox_oldest_seconds", "For how long the oldest of them waits.")
TOUCHED: Final = Gauge("billing_touched_days", "Entries of the log of days to be counted anew.")
DEAD: Final = Gauge("billing_deliveries_dead", "Deliveries given up that wait for an operator.")
RESTING: Final = Gauge("billing_endpoints_resting", "Endpoints that are left alone: they failed.")
REJECTED: Final = Gauge("billing_rejected_messages_open", "Messages that wait for an operator.")
PARKED: Final = Gauge("billing_tenants_parked", "Tenants that can not be billed, by a fault.")
QUEUED: Final = Gauge("billing_queue_messages", "Messages that wait in a queue.", ("queue",))
STREAMED: Final = Gauge("billing_usage_stream_entries", "Usage events that wait on the stream.")

ALL: Final = (
    DATABASE_UP,
    BROKER_UP,
    DUE,
    OVERDUE,
    OUTBOX,
    OUTBOX_AGE,
    TOUCHED,
    DEAD,
    RESTING,
    REJECTED,
    PARKED,
    QUEUED,
    STREAMED,
)

ANSWER_SECONDS: Final = 2.0
"""How long the broker gets to answer."""


class Standing(Collector):
    """What one scrape tells. A server that does not answer costs the other's figures nothing."""

    def __init__(self, app: Celery, *, now: Callable[[], dt.datetime]) -> None:
        """Look where `models.database`, `tasks.config` and the app are configured to."""
        self._app = app
        self._now = now

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Name what is told, without looking: a registry asks for it at first."""
        return iter(_family(gauge, {}) for gauge in ALL)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Look."""
        yield from self._of_database()
        yield from self._of_broker()

    def _of_database(self) -> Iterator[GaugeMetricFamily]:
        now = self._now()
        try:
            with database.transaction() as session:
                backlog = health.backlog(session, now=now)
                closed_by = now - config.current().invoice_grace
                jobs = due.by_job(session, now=now, closed_by=closed_by)
        except Exception as error:
            if not failures.is_unreachable(error):
                raise
            log.warning("metrics.database_away", reason=type(error).__name__)
            yield _plain(DATABASE_UP, 0)
            return
        yield _plain(DATABASE_UP, 1)
        yield _family(DUE, {job: one.waiting for job, one in jobs.items()})
        aged = {job: one for job, one in jobs.items() if one.oldest or not one.waiting}
        yield _family(OVERDUE, {job: _age(one.oldest, now) for job, one in aged.items()})
        yield _plain(OUTBOX, backlog.outbox_pending)
        yield _plain(OUTBOX_AGE, _age(backlog.outbox_oldest, now))
        yield _plain(TOUCHED, backlog.touched_days)
        yield _plain(DEAD, backlog.deliveries_dead)
        yield _plain(RESTING, backlog.endpoints_resting)
        yield _plain(REJECTED, backlog.rejected_open)
        yield _plain(PARKED, backlog.tenants_parked)

    def _of_broker(self) -> Iterator[GaugeMetricFamily]:
        try:
            with self._app.connection_for_read(connect_timeout=ANSWER_SECONDS) as connection:
                connection.ensure_connection(max_retries=1, timeout=ANSWER_SECONDS)
                queues = queued(connection)
            streamed = stream.backlog()
        except (OperationalError, RedisError, OSError) as error:
            log.warning("metrics.broker_away", reason=type(error).__name__)
            yield _plain(BROKER_UP, 0)
            return
        yield _plain(BROKER_UP, 1)
        yield _family(QUEUED, queues)
        if streamed is not None:
            yield _plain(STREAMED, streamed.waiting)


def queued(connection: Connection) -> dict[str, float]:
    """Return how many messages wait in each queue, asked on an open connection to the broker."""
    return {queue.value: _waiting(connection, queue) for queue in Queue}


def _waiting(connection: Connection, queue: Queue) -> int:
    # A channel of its own: a broker may close one on which something was asked for in vain.
    with connection.channel() as channel:  # type: ignore[no-untyped-call]
        try:
            count: int = channel.queue_declare(queue.value, passive=True).message_count
        except ChannelError:
            return 0  # On Redis an empty queue is not there; nor is one that nobody used yet.
        return count


def _age(since: dt.datetime | None, now: dt.datetime) -> float:
    return 0.0 if since is None else max(0.0, (now - since).total_seconds())


def _plain(gauge: Gauge, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(gauge.name, gauge.says, value=value)


def _family(gauge: Gauge, values: Mapping[str, float]) -> GaugeMetricFamily:
    found = GaugeMetricFamily(gauge.name, gauge.says, labels=gauge.labels)
    for label, value in values.items():
        found.add_metric([label], value)
    return found
