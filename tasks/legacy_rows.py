"""What rows of a system before this one look like, kind by kind, and how each is taken over."""

import abc
import datetime as dt
from dataclasses import replace
from decimal import Decimal
from typing import Any, ClassVar, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models import database
from models.rules import billing, period
from models.rules.billing import Subscription
from models.rules.refusal import Refusal
from models.store import (
    allocation_due,
    credit,
    identity,
    plan,
    plan_credit,
    price_version,
    subscription,
    subscription_change,
    tenant,
)
from models.store.allocation_due import Progress
from models.store.identity import Identity
from tasks import fields, granting, subscribing

CAUSE = "migration"
"""The kind of cause of what is entered, and the source of batches; which one is the row's id."""


class ChargedAhead(Refusal):
    """What the system before has charged ahead of a running period can not be taken over."""

    code: ClassVar[str] = "legacy.charged_ahead"


class NotAPeriod(Refusal):
    """A period was billed in part: what the rest of it costs nobody could say."""

    code = "legacy.not_a_period"


class LegacyRow(BaseModel, abc.ABC):
    """A row, known by its id in the system it comes from. An empty cell is none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: ClassVar[str]

    migration_source_id: fields.IdempotencyKey
    tenant_id: fields.TenantId

    @model_validator(mode="before")
    @classmethod
    def _without_empty_cells(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {name: value for name, value in given.items() if value not in ("", None)}

    @abc.abstractmethod
    def take_over(self, session: database.Session, *, owner: str, now: dt.datetime) -> str | None:
        """Make of it what it is here, for a tenant that exists; return the id of that, if any."""


class LegacyIdentity(LegacyRow):
    """A name that a provider knows a tenant by."""

    kind = "identity"

    provider: fields.Provider
    external_id: fields.ExternalId

    def take_over(self, session: database.Session, *, owner: str, now: dt.datetime) -> str | None:
        """Link it."""
        one = Identity(self.provider, self.external_id)
        identity.link(session, one, tenant_id=owner, now=now)
        return None


class LegacyBalance(LegacyRow):
    """What was left of a product; never again after `expires_at`."""

    kind = "balance"

    product_key: fields.ProductKey
    amount: fields.Amount
    expires_at: fields.Instant | None = None

    def take_over(self, session: database.Session, *, owner: str, now: dt.datetime) -> str | None:
        """Grant one batch of it."""
        lot = granting.Lot(self.product_key, self.amount, self.expires_at, CAUSE)
        cause = credit.Cause(CAUSE, self.migration_source_id)
        (done,) = granting.grant(session, [lot], tenant_id=owner, cause=cause, details={}, now=now)
        return str(done.granted.batch_id)


class LegacySubscription(LegacyRow):
    """A tenant on a plan. `billed_until` is the first local day that is not invoiced yet.

    What was invoiced there had its setup fee and its plan's credit there, that of the period that
    runs too: what is left of it comes as a balance. Without `billed_until` nothing was invoiced.
    """

    kind = "subscription"

    plan_key: fields.PlanKey
    currency: fields.Currency | None = None
    quantity: fields.Amount = Field(default=Decimal(1))
    effective_at: fields.Instant
    ended_at: fields.Instant | None = None
    billed_until: dt.date | None = None

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> Self:
        if self.ended_at is not None and self.ended_at <= self.effective_at:
            raise ValueError("ended_at must be after effective_at")
        return self

    def take_over(self, session: database.Session, *, owner: str, now: dt.datetime) -> str | None:
        """Put the tenant on the plan, as far as it is billed."""
        zone = period.zone(subscription.hold_tenant(session, owner) or "UTC")
        wanted = subscription.new(
            tenant_id=owner,
            plan=plan.get(session, self.plan_key),
            currency=self.currency or tenant.get(session, owner).currency,
            quantity=self.quantity,
            effective_at=self.effective_at,
            ended_at=self.ended_at,
            anchored_on=period.local_day(self.effective_at, zone),
            now=now,
        )
        if self.billed_until is None:
            wanted = replace(wanted, next_invoice_at=billing.due_at(wanted, zone))
            subscribing.begin(session, wanted, details={}, zone=zone, now=now)
            return str(wanted.id)
        _check_billed_until(session, wanted, self.billed_until, zone)
        wanted = replace(wanted, billed_until=self.billed_until, owes_setup=False)
        wanted = replace(wanted, next_invoice_at=billing.due_at(wanted, zone))
        subscribing.check_priced(session, wanted)
        subscription_change.check_free(session, wanted)
        subscription_change.add(session, wanted, details={}, now=now)
        subscribing.announce_set(session, wanted, version=1, now=now)
        _skip_credit_given(session, wanted, zone, now)
        return str(wanted.id)


KINDS: dict[str, type[LegacyRow]] = {
    one.kind: one for one in (LegacyIdentity, LegacyBalance, LegacySubscription)
}


def _check_billed_until(
    session: database.Session, wanted: Subscription, billed_until: dt.date, zone: ZoneInfo
) -> None:
    """Refuse a day up to which the system before can not have charged everything."""
    if price_version.has_ahead(session, wanted.plan_key, wanted.currency):
        raise ChargedAhead(
            f"plan {wanted.plan_key!r} charges fees ahead, and the system before has charged "
            f"that of the period from {billed_until}, which would be charged again; leave "
            "billed_until out and give as effective_at the first day that it has not charged",
            field="billed_until",
        )
    days = wanted.cycle.containing(billed_until, zone)
    if days.first != billed_until:
        raise NotAPeriod(
            f"billed_until {billed_until} is within the period of {days.first} to "
            f"{days.after - dt.timedelta(days=1)}; give the first day of a period",
            field="billed_until",
        )


def _skip_credit_given(
    session: database.Session, wanted: Subscription, zone: ZoneInfo, now: dt.datetime
) -> None:
    """Let the plan's credit begin with the next period: that of this one was given before."""
    if plan_credit.versions(session, wanted.plan_key):
        today = max(period.local_day(now, zone), wanted.days(zone).first)
        after = wanted.cycle.containing(today, zone).after
        next_at = billing.midnight(after, zone)
        allocation_due.open_(session, wanted.id, next_at=next_at)
        allocation_due.move(session, Progress(wanted.id, after, next_at))
