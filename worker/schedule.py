"""Beat's timetable. An entry only says "look": what is due is found in the database.

A tick that is missed is caught up by the next one, and a tick that comes twice finds nothing to do.
"""

from typing import Any

from celery.schedules import crontab


def _entry(task: str, schedule: Any, *, expires: float) -> dict[str, Any]:
    """One entry; its message is dropped unread when the next tick has come anyway."""
    return {"task": task, "schedule": schedule, "options": {"expires": expires}}


TIMETABLE: dict[str, dict[str, Any]] = {
    "roll up touched days": _entry("billing.aggregate_usage", 10.0, expires=60),
    "count usage again": _entry(
        "billing.recount_usage", crontab(hour="3", minute="40"), expires=3000
    ),
    "archive old usage": _entry(
        "billing.archive_usage", crontab(hour="1-4", minute="*/5"), expires=240
    ),
    "count arrivals in quotas": _entry("billing.count_quotas", 10.0, expires=60),
    "count quotas again": _entry(
        "billing.recount_quotas", crontab(hour="3", minute="50"), expires=3000
    ),
    "drain the usage stream": _entry("billing.drain_usage_stream", 1.0, expires=5),
    "move merged tenants' usage": _entry("billing.move_merged_usage", 5.0, expires=30),
    "deliver what is due": _entry("billing.deliver_webhooks", 1.0, expires=10),
    "expire credit batches": _entry("billing.expire_batches", 60.0, expires=300),
    "expire holds": _entry("billing.expire_reservations", 15.0, expires=60),
    "renew plans' credit": _entry("billing.renew_subscriptions", 60.0, expires=300),
    "tell of low credit": _entry("billing.notify_low_credits", 5.0, expires=10),
    "tell of expiring credit": _entry("billing.notify_expiring_credits", 600.0, expires=3000),
    "invoice closed periods": _entry(
        "billing.generate_invoices", crontab(minute="*/10"), expires=3000
    ),
    "compute drafts anew": _entry("billing.refresh_drafts", 60.0, expires=300),
    "finalize invoices": _entry(
        "billing.finalize_invoices", crontab(minute="5-55/10"), expires=3000
    ),
    "send invoices to the provider": _entry("billing.sync_invoices", 10.0, expires=30),
    "bill late usage": _entry("billing.bill_late_usage", crontab(minute="50"), expires=3000),
    "audit credit": _entry("billing.audit", crontab(hour="4", minute="10"), expires=3000),
    "purge what was told long ago": _entry("billing.purge", crontab(minute="35"), expires=3000),
    "prepare partitions": _entry("billing.prepare_partitions", 3600.0, expires=3000),
}
