"""How long webhooks and their attempts are kept."""

import datetime as dt

from pydantic import Field

from tasks.config import WebhookRetention
from worker.settings.group import Group


class Keeping(Group):
    """How long webhooks are kept."""

    attempts_days: int = Field(30, ge=7, le=3_650, validation_alias="BILLING_WEBHOOK_ATTEMPTS_DAYS")
    """How long each HTTP try is kept."""

    events_days: int = Field(90, ge=7, le=3_650, validation_alias="BILLING_WEBHOOK_EVENTS_DAYS")
    """How long an event is kept with its body, unless it is still owed to somebody."""

    dead_days: int = Field(90, ge=30, le=3_650, validation_alias="BILLING_WEBHOOK_DEAD_DAYS")
    """How long a delivery that spent its attempts waits for an operator."""

    def webhook_retention(self) -> WebhookRetention:
        """Return how long each of them is kept."""
        return WebhookRetention(
            attempts=dt.timedelta(days=self.attempts_days),
            events=dt.timedelta(days=self.events_days),
            dead=dt.timedelta(days=self.dead_days),
        )
