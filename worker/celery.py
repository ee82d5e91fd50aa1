"""The Celery application and why each of its settings is what it is.

Work that the system owes itself is a row in PostgreSQL; a message only rings. What follows makes
the rings quick to come back when a worker dies, and bounds what a bad one can cost.
"""

import importlib
from typing import Any

from celery import Celery
from celery.loaders.app import AppLoader
from kombu.entity import Queue as KombuQueue
from kombu.transport import TRANSPORT_ALIASES

from tasks import contract
from tasks.queues import Queue
from worker import brokers, masking, messages, schedule, settings, trust

TASK_MODULES = (
    "tasks.adjustments",
    "tasks.aggregation",
    "tasks.allocations",
    "tasks.archiving",
    "tasks.auto_renew",
    "tasks.batch_list",
    "tasks.batches",
    "tasks.catalog",
    "tasks.catalog_import",
    "tasks.coupons",
    "tasks.credit_notes",
    "tasks.credit_upkeep",
    "tasks.credits",
    "tasks.delivery",
    "tasks.delivery_list",
    "tasks.draft_runs",
    "tasks.endpoint_list",
    "tasks.endpoint_secrets",
    "tasks.endpoint_stats",
    "tasks.endpoint_update",
    "tasks.endpoints",
    "tasks.entitlement_list",
    "tasks.entitlements",
    "tasks.erasure",
    "tasks.exchange",
    "tasks.identities",
    "tasks.invoice_list",
    "tasks.invoice_runs",
    "tasks.invoices",
    "tasks.issuing",
    "tasks.late_usage",
    "tasks.ledger",
    "tasks.legacy",
    "tasks.merging",
    "tasks.meters",
    "tasks.notices",
    "tasks.offer_grants",
    "tasks.offers",
    "tasks.order_list",
    "tasks.order_refunds",
    "tasks.orders",
    "tasks.parking",
    "tasks.payments",
    "tasks.pings",
    "tasks.plan_changes",
    "tasks.plan_list",
    "tasks.plans",
    "tasks.purge",
    "tasks.quota_counts",
    "tasks.quotas",
    "tasks.quotes",
    "tasks.recount",
    "tasks.referral_bonus",
    "tasks.referral_programs",
    "tasks.referrals",
    "tasks.refunds",
    "tasks.rejected",
    "tasks.replays",
    "tasks.reservation_list",
    "tasks.reservations",
    "tasks.stream",
    "tasks.subscription_list",
    "tasks.subscriptions",
    "tasks.syncs",
    "tasks.taxes",
    "tasks.tenant_list",
    "tasks.tenants",
    "tasks.trials",
    "tasks.unpaid",
    "tasks.upkeep",
    "tasks.usage",
    "tasks.usage_list",
    "tasks.usage_voids",
    "tasks.wallets",
)
"""Named one by one: autodiscovery of a package called `tasks` finds nothing, silently."""

TASK_TIME_LIMIT = 140
"""Seconds. Below half the usual visibility timeout: what still runs is not given out again."""

UNSET = "unset://"
"""The broker's URL when there is none: to connect is refused, anything else works."""

# Before the application is made: its routes and schemas are whole from the first look on.
for _module in TASK_MODULES:
    importlib.import_module(_module)


def configuration() -> dict[str, Any]:
    """Return Celery's settings; read when the application is first used, not when imported."""
    chosen = settings.load()
    trust.use(chosen.signing_keys(), demanded=chosen.message_signatures == "required")
    broker = _broker(chosen)
    return {
        "broker_url": broker,
        "broker_use_ssl": None if broker == UNSET else chosen.broker_ssl(),
        "result_backend": None if broker == UNSET else chosen.results(),
        "include": TASK_MODULES,
        # JSON only: a pickle from the broker would be code from the broker.
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        # Each task waits in the queue it names; a message for no known queue is an error.
        "task_queues": [
            KombuQueue(
                queue.value, queue_arguments=brokers.QUORUM if brokers.is_rabbitmq(broker) else None
            )
            for queue in Queue
        ],
        "task_routes": {
            name: {"queue": spec.queue.value} for name, spec in contract.REGISTRY.items()
        },
        "task_default_queue": Queue.billing.value,
        "task_create_missing_queues": False,
        # A task is acknowledged when it has ended, not when it starts: a worker killed in the
        # middle leaves its message to another. Every task is safe to run twice.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        # But a message that kills each worker that takes it runs three times and is then kept in
        # rejected_messages (unbounded, it was seen to run 25 times in 8 s).
        "task_retry_on_worker_lost": True,
        "task_annotations": {"*": {"max_retries": 2, "default_retry_delay": 1}},
        # Tasks are chunks of work: taking one at a time is fair and loses nothing.
        "worker_prefetch_multiplier": 1,
        # A message that can not be read is refused; Celery's own consumer ends with it.
        "worker_consumer": "worker.consumer:Consumer",
        "task_time_limit": TASK_TIME_LIMIT,
        "task_soft_time_limit": TASK_TIME_LIMIT - 20,
        # Answers are for those who wait, and nobody waits for an hour. Without the arguments:
        # they would double what Redis holds, and some are not for everyone.
        "result_expires": 3600,
        "result_extended": False,
        # Flower. 35 % of a no-op task's cost; ours are chunks, where it does not show.
        "worker_send_task_events": True,
        "task_send_sent_event": True,
        # Not that a task has begun: Celery writes it before the body, and when the write fails it
        # acknowledges the message of a task that never ran. Flower is told by events.
        "task_track_started": False,
        # SIGTERM (REMAP_SIGTERM=SIGQUIT makes it the soft one): finish what runs, give the rest
        # back. Without it messages were seen stuck until the visibility timeout.
        "worker_soft_shutdown_timeout": chosen.soft_shutdown_seconds,
        "worker_enable_soft_shutdown_on_idle": False,
        # A lost connection means our unacknowledged messages are given out again: stop them here.
        "worker_cancel_long_running_tasks_on_connection_loss": True,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_transport_options": brokers.transport_options(chosen, broker),
        "redis_socket_timeout": 30,
        "redis_socket_connect_timeout": 5,
        "redis_socket_keepalive": True,
        "redis_retry_on_timeout": True,
        "redis_backend_health_check_interval": 25,
        # We set up logging ourselves, once, in worker/logs.py.
        "worker_hijack_root_logger": False,
        "timezone": "UTC",
        "enable_utc": True,
        "beat_schedule": schedule.TIMETABLE,
        # What is due is found in the database; what was rung is remembered where `billing beat` is
        # told to, so that a restart leaves out no nightly check.
        "beat_scheduler": "worker.timekeeper:Scheduler",
        "beat_schedule_filename": "",
        "beat_max_loop_interval": 1,
    }


def _broker(chosen: settings.Settings) -> str:
    try:
        return chosen.broker()
    except settings.InvalidSettings:
        return UNSET


def _refuse_to_connect() -> str:
    raise settings.InvalidSettings(
        "BROKER_URL was not set and no embedded servers ran when Celery's settings were read; set "
        "it, or start them with `billing up`"
    )


# A task can be called in this process, and `celery report` run, without any broker.
TRANSPORT_ALIASES[UNSET.removesuffix("://")] = _refuse_to_connect  # type: ignore[assignment]
for _scheme in ("redis", "rediss"):
    TRANSPORT_ALIASES[_scheme] = "worker.consumer:Transport"


class Loader(AppLoader):  # type: ignore[misc]
    """Reads the environment when a setting is first needed: importing us needs no server."""

    def read_configuration(self) -> dict[str, Any]:
        """Return Celery's settings."""
        return configuration()


app = Celery(
    "billing", loader=Loader, amqp=masking.AMQP, task_cls=masking.Task, set_as_current=True
)
messages.use()
# In every thread: the current app of a thread that did not make it would be Celery's own default,
# and a message sent from there would go to a broker nobody reads.
app.set_default()
