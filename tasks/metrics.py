"""What is counted for whoever watches, by the names that they see.

Tasks count; nobody listens until the process says who does (`use`). Counts are of this process's
work since it began: facts that must not be lost stand in the database.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Counter:
    """Something that only grows.

    Args:
        name: as it is shown, which ends in "_total".
        says: what is counted, a line.
        labels: names of its labels. Their values are few and known: never a tenant, never a key.
        values: all that its only label can be. They are shown from the start, as 0: of a counter
            that comes up with its first count, Prometheus does not see that it has grown.
    """

    name: str
    says: str
    labels: tuple[str, ...] = ()
    values: tuple[str, ...] = ()

    def add(self, amount: float = 1, **labels: str) -> None:
        """Count `amount`, 0 or more, under values for all of the labels."""
        _listener(self, amount, labels)


@dataclass(frozen=True, slots=True)
class Duration:
    """How long something took, as a histogram. Name and labels as of a `Counter`.

    Args:
        in_ms: whether it is shown in milliseconds, as its name says then; else in seconds.
    """

    name: str
    says: str
    labels: tuple[str, ...] = ()
    in_ms: bool = False

    def take(self, seconds: float, **labels: str) -> None:
        """Note one that took so long."""
        _listener(self, seconds * 1000 if self.in_ms else seconds, labels)


@dataclass(frozen=True, slots=True)
class Gauge:
    """How something stands, looked up when somebody asks. Name and labels as of a `Counter`."""

    name: str
    says: str
    labels: tuple[str, ...] = ()


Metric = Counter | Duration
"""What tasks count themselves."""

Listener = Callable[[Metric, float, Mapping[str, str]], None]

USAGE_INGEST: Final = Counter(
    "billing_usage_ingest_total",
    "Usage events by verdict: accepted, duplicate, conflict, rejected.",
    ("verdict",),
    ("accepted", "duplicate", "conflict", "rejected"),
)
USAGE_DRIFT: Final = Counter(
    "billing_usage_drift_total",
    "Days whose total was not what their events come to, found by the nightly re-count. Must be 0.",
)
QUOTA_DRIFT: Final = Counter(
    "billing_quota_drift_total",
    "Counters of quotas that were not what their events come to. Must be 0.",
)
CREDIT_FINDINGS: Final = Counter(
    "billing_credit_findings_total",
    "Findings of the audit of credit, by what was compared. Must be 0.",
    ("check",),
    (
        "ledger",
        "batches",
        "debt",
        "held",
        "holds",
        "slices",
        "batch",
        "remaining",
        "set_aside",
        "chain",
    ),
)
AGGREGATE_MS: Final = Duration(
    "billing_aggregate_duration_ms",
    "How long a chunk of touched days took to be counted, in milliseconds.",
    in_ms=True,
)
INVOICES: Final = Counter(
    "billing_invoice_generated_total",
    "Invoices by what was made of them: draft, finalized.",
    ("state",),
    ("draft", "finalized"),
)
EVENTS: Final = Counter(
    "billing_events_total", "Events written to the outbox, by topic.", ("topic",)
)
DELIVERIES: Final = Counter(
    "billing_deliveries_total",
    "Attempts to deliver a webhook by outcome: delivered, or what was wrong.",
    ("outcome",),
)
DELIVERY_SECONDS: Final = Duration(
    "billing_delivery_duration_seconds",
    "How long attempts to deliver a webhook took, by outcome.",
    ("outcome",),
)
SYNC_STEPS: Final = Counter(
    "billing_sync_steps_total",
    "Tries to tell the provider of invoices, by step; done, later, blocked or refused.",
    ("step", "outcome"),
)
REFUSED: Final = Counter(
    "billing_messages_refused_total",
    "Messages that nobody with a key has sent, or not as they came, by code.",
    ("code",),
    ("message.unsigned", "message.badly_signed"),
)
TASKS: Final = Counter(
    "billing_tasks_total", "Tasks that ended, by name and how.", ("task", "outcome")
)
TASK_SECONDS: Final = Duration(
    "billing_task_duration_seconds", "How long tasks ran, by name.", ("task",)
)

ALL: Final[tuple[Metric, ...]] = (
    USAGE_INGEST,
    USAGE_DRIFT,
    QUOTA_DRIFT,
    CREDIT_FINDINGS,
    AGGREGATE_MS,
    INVOICES,
    EVENTS,
    DELIVERIES,
    DELIVERY_SECONDS,
    SYNC_STEPS,
    REFUSED,
    TASKS,
    TASK_SECONDS,
)


def _nobody(metric: Metric, amount: float, labels: Mapping[str, str]) -> None:
    """Nobody asked."""


_listener: Listener = _nobody


def use(listener: Listener) -> None:
    """Let `listener` be told of everything that is counted in this process from now on."""
    global _listener  # noqa: PLW0603 (the process has one)
    _listener = listener
