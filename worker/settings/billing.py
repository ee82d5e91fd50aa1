"""How usage is taken, and when invoices and credit are made."""

from pydantic import Field

from worker.settings.group import Group


class Billing(Group):
    """Usage, invoices and credit."""

    furthest_future_minutes: int = Field(
        60, ge=0, le=525_600, validation_alias="BILLING_USAGE_FURTHEST_FUTURE_MINUTES"
    )
    """How far ahead of our clock a usage event may be."""

    invoice_grace_hours: int = Field(
        24, ge=0, le=2_160, validation_alias="BILLING_INVOICE_GRACE_HOURS"
    )
    """How long after its period's end an invoice stays a draft, for usage that comes late."""

    allocate_ahead_minutes: int = Field(
        60, ge=0, le=10_080, validation_alias="BILLING_ALLOCATE_AHEAD_MINUTES"
    )
    """How long before a period begins its plan's credit is granted, to be spent from then on: so
    that nobody waits at a month's first midnight for the renewal of a hundred thousand others."""
