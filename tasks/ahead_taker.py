"""What takes fees that are charged ahead: an invoice that is being computed."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from models.invoice import InvoiceKind
from models.rules import ahead
from models.rules.billing import Days, Line, PriceVersion, Subscription
from models.store.invoice import Header

Owner = tuple[str, str]
"""A tenant and a currency."""

Versions = Mapping[tuple[str, str], Sequence[PriceVersion]]
"""Of prices, by plan and currency."""

ONE_DAY: Final = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Taker:
    """An invoice that is being computed: it takes what is due until its period is over."""

    tenant_id: str
    currency: str
    timezone: str
    kind: InvoiceKind
    days: Days
    holds: Sequence[Line] = ()

    @property
    def owner(self) -> Owner:
        """Whom it bills in what."""
        return self.tenant_id, self.currency

    @property
    def until(self) -> date:
        """The last local day whose fees it takes: a period's is the first one after it."""
        return self.days.first if self.kind is InvoiceKind.advance else self.days.after

    @property
    def since(self) -> date:
        """The first local day that it looks at."""
        held = (ahead.stretch_of(line).first for line in self.holds if ahead.is_ahead(line))
        return min([self.days.first, *held])


def of(header: Header, holds: Sequence[Line] = ()) -> Taker:
    """Return an invoice as what takes fees; `holds`: its lines as they are stored."""
    return Taker(
        header.tenant_id, header.currency, header.timezone, header.kind, header.days, holds
    )


def key(taker: Taker) -> tuple[object, ...]:
    """Return what there is one taker for."""
    return taker.tenant_id, taker.currency, taker.kind, taker.days


def owner_of(one: Subscription) -> Owner:
    """Return whom a subscription is billed to, in what."""
    return one.tenant_id, one.currency
