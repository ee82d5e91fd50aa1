"""Invoices to be made: for whom, in what, for which days; and those there are already."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from zoneinfo import ZoneInfo

from models import database
from models.invoice import InvoiceKind
from models.rules import period
from models.rules.billing import Days
from models.store import invoice
from models.store.invoice import Header
from tasks import ahead_taker

NEARBY: Final = dt.timedelta(days=2)
"""How far the same local day can lie apart in two zones, and a little more."""


Key = tuple[str, str, Days, InvoiceKind]
"""Tenant, currency, local days and kind of an invoice."""


@dataclass(frozen=True, slots=True)
class Target:
    """An invoice to be made: a tenant, a currency, and whole local days of a zone."""

    tenant_id: str
    currency: str
    timezone: str
    days: Days
    kind: InvoiceKind = InvoiceKind.subscription

    @property
    def key(self) -> Key:
        """What there is one invoice for, also after the tenant moved to another zone."""
        return self.tenant_id, self.currency, self.days, self.kind

    @property
    def period(self) -> period.Period:
        """Its days as instants."""
        return self.days.period(period.zone(self.timezone))


def in_zone(
    tenant_id: str,
    currency: str,
    zone: ZoneInfo,
    days: Days,
    kind: InvoiceKind = InvoiceKind.subscription,
) -> Target:
    """Return an invoice to be made, told in the zone in which its period ends."""
    return Target(tenant_id, currency, period.zone_of(days.after, zone).key, days, kind)


def of(header: Header) -> Target:
    """Return what an invoice was made for."""
    return Target(header.tenant_id, header.currency, header.timezone, header.days, header.kind)


def taker(target: Target) -> ahead_taker.Taker:
    """Return an invoice to be made as what takes fees that are charged ahead."""
    return ahead_taker.Taker(
        target.tenant_id, target.currency, target.timezone, target.kind, target.days
    )


def existing(session: database.Session, targets: Sequence[Target]) -> list[Header]:
    """Return the invoices there are for targets, and maybe neighbours of theirs."""
    if not targets:
        return []
    ends = [target.period.end for target in targets]
    return invoice.ending_between(
        session,
        sorted({target.tenant_id for target in targets}),
        start=min(ends) - NEARBY,
        end=max(ends) + NEARBY,
        kinds=sorted({target.kind for target in targets}),
    )
