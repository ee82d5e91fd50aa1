"""Tax rates, and which of them a tenant pays from when on."""

import datetime as dt
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from sqlalchemy import delete, func, insert, select
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import Session

from models.rules import ids
from models.rules.coupon import Scope
from models.rules.refusal import Refusal
from models.rules.waterfall import TaxRate as Rate
from models.store import scope
from models.tax import TaxProfile, TaxProfileRate, TaxRate


class UnknownTaxRate(Refusal):
    """There is no tax rate by this key."""

    code: ClassVar[str] = "tax.unknown"


class TaxRateFixed(Refusal):
    """A tax rate's terms do not change: a new percentage is a new rate."""

    code: ClassVar[str] = "tax.rate_fixed"


@dataclass(frozen=True, slots=True)
class Profile:
    """How a tenant is taxed from an instant on: by rates, or not at all and why."""

    effective_at: dt.datetime
    rates: Sequence[Rate] = ()
    exempt_note: str | None = None


def set_rate(
    session: Session,
    tax_key: str,
    *,
    name: str,
    percent: Decimal,
    inclusive: bool,
    covers: Scope,
    now: dt.datetime,
) -> None:
    """Make a tax rate; one that is there must be the same, but for its name.

    Raises:
        TaxRateFixed: it has other terms.
    """
    terms = {"percent": percent, "inclusive": inclusive, "scope": scope.write(covers)}
    session.execute(
        pg_insert(TaxRate)
        .values(tax_key=tax_key, name=name, created_at=now, **terms)
        .on_conflict_do_nothing()
    )
    found = session.scalars(
        select(TaxRate).where(TaxRate.tax_key == tax_key).with_for_update(key_share=True)
    ).one()
    changed = [field for field, value in terms.items() if getattr(found, field) != value]
    if changed:
        raise TaxRateFixed(
            f"tax {tax_key!r} has other terms: {', '.join(changed)}; they stay as they are, make "
            "one with another key and give it to tenants from the day on which it holds",
            field=changed[0],
        )
    found.name = name
    session.flush()


def listed_rates(session: Session) -> list[TaxRate]:
    """Return the tax rates by key."""
    return list(
        session.scalars(
            select(TaxRate).order_by(TaxRate.tax_key).execution_options(populate_existing=True)
        )
    )


def set_profile(
    session: Session,
    tenant_id: str,
    *,
    tax_keys: Sequence[str],
    exempt_note: str | None,
    effective_at: dt.datetime,
    now: dt.datetime,
) -> None:
    """Say how a tenant is taxed from an instant on; the tenant must be locked.

    Raises:
        UnknownTaxRate: one of the keys names none.
    """
    _check_known(session, tax_keys)
    profile_id = session.scalars(
        pg_insert(TaxProfile)
        .values(
            id=ids.uuid7(now),
            tenant_id=tenant_id,
            effective_at=effective_at,
            exempt_note=exempt_note,
            created_at=now,
        )
        .on_conflict_do_update(
            index_elements=["tenant_id", "effective_at"], set_={"exempt_note": exempt_note}
        )
        .returning(TaxProfile.id)
    ).one()
    session.execute(delete(TaxProfileRate).where(TaxProfileRate.profile_id == profile_id))
    rows = [
        {"profile_id": profile_id, "position": position, "tax_key": tax_key}
        for position, tax_key in enumerate(tax_keys, start=1)
    ]
    if rows:
        session.execute(insert(TaxProfileRate), rows)


def profiles(session: Session, tenant_ids: Sequence[str]) -> Mapping[str, Sequence[Profile]]:
    """Return the tax profiles of tenants, by tenant, oldest first."""
    rows = session.execute(
        select(
            TaxProfile.tenant_id,
            TaxProfile.effective_at,
            TaxProfile.exempt_note,
            TaxRate.tax_key,
            TaxRate.name,
            TaxRate.percent,
            TaxRate.inclusive,
            TaxRate.scope,
        )
        .outerjoin(TaxProfileRate, TaxProfileRate.profile_id == TaxProfile.id)
        .outerjoin(TaxRate, TaxRate.tax_key == TaxProfileRate.tax_key)
        .where(TaxProfile.tenant_id == func.any(list(tenant_ids)))
        .order_by(TaxProfile.tenant_id, TaxProfile.effective_at, TaxProfileRate.position)
    ).all()
    rates: dict[tuple[str, dt.datetime, str | None], list[Rate]] = defaultdict(list)
    for row in rows:
        of_profile = rates[row.tenant_id, row.effective_at, row.exempt_note]
        if row.tax_key is not None:
            covers = scope.read(row.scope)
            of_profile.append(Rate(row.tax_key, row.name, row.percent, row.inclusive, covers))
    found: dict[str, list[Profile]] = defaultdict(list)
    for (tenant_id, effective_at, note), of_profile in rates.items():
        found[tenant_id].append(Profile(effective_at, of_profile, note))
    return found


def in_force(held: Sequence[Profile], period_end: dt.datetime) -> Profile | None:
    """Return the last profile that holds on the last instant of a period, of those oldest first."""
    before = [profile for profile in held if profile.effective_at < period_end]
    return before[-1] if before else None


def _check_known(session: Session, tax_keys: Sequence[str]) -> None:
    known = set(
        session.scalars(select(TaxRate.tax_key).where(TaxRate.tax_key == func.any(list(tax_keys))))
    )
    missing = [tax_key for tax_key in tax_keys if tax_key not in known]
    if missing:
        raise UnknownTaxRate(
            f"tax_key {missing[0]!r} is unknown; make it with billing.set_tax_rate",
            field="tax_keys",
        )
