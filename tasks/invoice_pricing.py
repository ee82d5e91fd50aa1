"""What invoices charge: usage and fees by the prices of their plans."""

from collections import defaultdict
from collections.abc import Sequence
from zoneinfo import ZoneInfo

from models import database
from models.invoice import InvoiceKind
from models.rules import billing, period
from models.rules.billing import Subscription
from models.rules.period import Moved
from models.store import invoice_line, price_version
from models.store import zones as tenant_zones
from models.store.invoice import Header
from tasks import adjusting, ahead, ahead_taker, costs
from tasks.invoice_target import Target


def price(
    session: database.Session,
    targets: Sequence[Target],
    subscriptions: Sequence[Subscription],
    versions: costs.Versions,
) -> list[list[billing.Line]]:
    """Return the lines of each target, in the same order, from usage as it was rolled up.

    Args:
        subscriptions: all of the targets' tenants.
        versions: of their plans' prices, see `versions_of`.
    """
    if not targets:
        return []
    of_tenant: dict[tuple[str, str], list[Subscription]] = defaultdict(list)
    for one in subscriptions:
        of_tenant[one.tenant_id, one.currency].append(one)
    moved = tenant_zones.moved(session, {target.tenant_id for target in targets})
    asked = [
        costs.Asked(
            of_tenant[target.tenant_id, target.currency],
            target.days,
            _zone_of(target, moved.get(target.tenant_id)),
        )
        if target.kind is InvoiceKind.subscription
        else None
        for target in targets
    ]
    priced = iter(costs.lines(session, [one for one in asked if one is not None], versions))
    return [[] if one is None else next(priced) for one in asked]


def fees(
    session: database.Session,
    takers: Sequence[ahead_taker.Taker],
    held: Sequence[Subscription],
    versions: costs.Versions,
) -> list[list[billing.Line]]:
    """Return what invoices charge ahead, in the same order.

    Args:
        held: the subscriptions of all of their tenants.
        versions: of their plans' prices, see `versions_of`.
    """
    moved = tenant_zones.moved(session, {one.tenant_id for one in takers})
    return ahead.lines(session, takers, held, versions, moved=moved)


def fees_again(
    session: database.Session,
    headers: Sequence[Header],
    held: Sequence[Subscription],
    versions: costs.Versions,
) -> list[list[billing.Line]]:
    """Return what drafts charge ahead, computed anew: they give up what they hold, and take it
    again."""
    owners = ahead.owners(held, versions)
    holding = [header.id for header in headers if adjusting.owner(header) in owners]
    holds = invoice_line.lines(session, holding) if holding else {}
    takers = [ahead_taker.of(header, holds.get(header.id, ())) for header in headers]
    return fees(session, takers, held, versions)


def versions_of(session: database.Session, subscriptions: Sequence[Subscription]) -> costs.Versions:
    """Return the versions of all prices of subscriptions' plans."""
    return price_version.versions(session, sorted({one.plan_key for one in subscriptions}))


def _zone_of(target: Target, moved: Moved | None) -> ZoneInfo:
    """By what an invoice counts its days: that of its tenant, if it is told in the zone of then.

    Others were made before it was kept where a tenant had been; they go on as they were.
    """
    if moved is not None and period.zone_of(target.days.after, moved).key == target.timezone:
        return moved
    return period.zone(target.timezone)
