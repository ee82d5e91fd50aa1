"""The queues, and what each carries."""

from enum import StrEnum


class Queue(StrEnum):
    """Where a task waits. Each queue has workers of its own, so that none starves another."""

    usage = "usage"  # ingest and roll-up: many, short, set-based
    billing = "billing"  # credits, subscriptions, invoices
    webhooks = "webhooks"  # deliveries: waits on other people's servers
