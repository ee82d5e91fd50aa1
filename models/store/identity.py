"""Identities: by which name at which provider a tenant is known, and finding it by that."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from models.identity import TenantIdentity
from models.rules import ids
from models.rules.refusal import Refusal
from models.store import alias, tenant

NEW = "tn_"
"""Before the ids of tenants that an identity was the first word of."""


class IdentityTaken(Refusal):
    """The identity is another tenant's."""

    code: ClassVar[str] = "tenant.identity_taken"


@dataclass(frozen=True, slots=True)
class Identity:
    """A name of a tenant at a provider, as `models.rules.identity` writes both."""

    provider: str
    external_id: str


@dataclass(frozen=True, slots=True)
class Resolved:
    """Whose an identity is, and whether the tenant was made for it."""

    tenant_id: str
    is_new: bool


def find(session: Session, identity: Identity) -> str | None:
    """Return whose an identity is; None if it is nobody's. Makes nothing."""
    return session.execute(
        select(TenantIdentity.tenant_id).where(
            TenantIdentity.provider == identity.provider,
            TenantIdentity.external_id == identity.external_id,
        )
    ).scalar_one_or_none()


def resolve(session: Session, identity: Identity, *, now: dt.datetime) -> Resolved:
    """Return whose an identity is; if nobody's, of a tenant that is made for it.

    However many ask at once, one tenant is made: they wait for one another.
    """
    known = find(session, identity)
    if known is not None:
        return Resolved(known, is_new=False)
    _lock(session, identity)
    # A later statement: who made it a moment before us has committed, and is seen.
    known = find(session, identity)
    if known is not None:
        return Resolved(known, is_new=False)
    tenant_id = f"{NEW}{ids.uuid7(now).hex}"
    tenant.ensure(session, tenant_id, now=now)
    _add(session, identity, tenant_id, now)
    return Resolved(tenant_id, is_new=True)


def link(session: Session, identity: Identity, *, tenant_id: str, now: dt.datetime) -> bool:
    """Make an identity a tenant's; tell whether it was nobody's before. The tenant must exist.

    Raises:
        IdentityTaken: it is another tenant's.
    """
    _lock(session, identity)
    owner = find(session, identity)
    if owner is None:
        _add(session, identity, tenant_id, now)
        return True
    if owner != tenant_id:
        raise IdentityTaken(
            f"identity {identity.provider}:{identity.external_id} is tenant {owner!r}'s; unlink it "
            "there, or merge the two with billing.merge_customers",
            field="external_id",
        )
    return False


def unlink(session: Session, identity: Identity, *, tenant_id: str) -> bool:
    """Let an identity be nobody's; tell whether it was the tenant's.

    Raises:
        IdentityTaken: it is another tenant's.
    """
    _lock(session, identity)
    owner = find(session, identity)
    if owner is not None and owner != tenant_id:
        raise IdentityTaken(
            f"identity {identity.provider}:{identity.external_id} is tenant {owner!r}'s, not "
            f"{tenant_id!r}'s",
            field="external_id",
        )
    session.execute(
        text("DELETE FROM tenant_identities WHERE provider = :provider AND external_id = :id"),
        {"provider": identity.provider, "id": identity.external_id},
    )
    return owner is not None


def of_tenants(session: Session, tenant_ids: Sequence[str]) -> dict[str, list[Identity]]:
    """Return the identities of each tenant, by provider and id."""
    rows = session.execute(
        select(TenantIdentity)
        .where(TenantIdentity.tenant_id.in_(list(tenant_ids)))
        .order_by(TenantIdentity.provider, TenantIdentity.external_id)
    ).scalars()
    found: dict[str, list[Identity]] = {tenant_id: [] for tenant_id in tenant_ids}
    for row in rows:
        found[row.tenant_id].append(Identity(row.provider, row.external_id))
    return found


def _lock(session: Session, identity: Identity) -> None:
    session.execute(_LOCK, {"name": f"{identity.provider}:{identity.external_id}"})


def _add(session: Session, identity: Identity, tenant_id: str, now: dt.datetime) -> None:
    # Held: a merge that is under way moves it, or has it come to whom the tenant became.
    owner = alias.follow(session, tenant_id, hold=True)
    session.add(
        TenantIdentity(
            provider=identity.provider,
            external_id=identity.external_id,
            tenant_id=owner,
            created_at=now,
        )
    )
    session.flush()


# An advisory lock: there is no row yet that could be locked. The seed keeps it apart from others.
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 20))")
