"""The zones of tenants as their days are told by: those they were in before, too."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from zoneinfo import ZoneInfo

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models.rules import period
from models.rules.period import Moved
from models.tenant import Tenant, TenantZone


def of_tenants(session: Session, timezones: Mapping[str, str]) -> dict[str, ZoneInfo]:
    """Return the zone of each tenant.

    Args:
        timezones: where they are now.

    Raises:
        UnknownTimezone: somebody is in a zone that there is not.
    """
    left = moved(session, timezones)
    return {
        tenant_id: left.get(tenant_id) or period.zone(timezone)
        for tenant_id, timezone in timezones.items()
    }


def of_tenant(session: Session, tenant_id: str, timezone: str) -> ZoneInfo:
    """Return the zone of a tenant that is in `timezone` now."""
    return of_tenants(session, {tenant_id: timezone})[tenant_id]


def moved(session: Session, tenant_ids: Collection[str]) -> dict[str, Moved]:
    """Return the zones of those tenants that moved after they had been billed: of very few."""
    rows = session.execute(
        select(TenantZone.tenant_id, TenantZone.left_at, TenantZone.timezone, Tenant.timezone)
        .join(Tenant, Tenant.tenant_id == TenantZone.tenant_id)
        .where(TenantZone.tenant_id == func.any(list(tenant_ids)))
        .order_by(TenantZone.tenant_id, TenantZone.left_at)
    )
    moves = defaultdict(list)
    present = {}
    for tenant_id, left_at, timezone, now in rows:
        moves[tenant_id].append((left_at, timezone))
        present[tenant_id] = now
    found = {}
    for tenant_id, left in moves.items():
        following = [*(timezone for _, timezone in left[1:]), present[tenant_id]]
        zone = period.zone(left[0][1])
        for (left_at, _), timezone in zip(left, following, strict=True):
            zone = period.moved(period.zone(timezone), at=left_at, before=zone)
        found[tenant_id] = zone
    return {tenant_id: zone for tenant_id, zone in found.items() if isinstance(zone, Moved)}
