"""By which names tenants are known elsewhere: resolve one to a tenant, look it up, link, unlink."""

import datetime as dt
from typing import Annotated, Any, Self, TypedDict

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models import database
from models.store import alias, identity, tenant, tenant_page
from models.store.identity import Identity
from models.tenant import Tenant
from tasks import contract, fields, paging, tenants
from tasks.queues import Queue
from tasks.tenants import TenantAnswer

LONGEST_PAGE = 1_000
"""Tenants in one answer."""

Removed = Annotated[str, Field(pattern=r"^(name|address|tax_number|metadata\..{1,200})$")]


class Profile(BaseModel):
    """What is known of a tenant. What is absent or null stays; `remove` names what goes.

    Many clients write null for what they do not know, so null wipes nothing.

    Args:
        metadata: merged over what is stored, key by key.
        remove: name, address, tax_number, or metadata.KEY.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: fields.Name | None = None
    timezone: fields.Timezone | None = None
    currency: fields.Currency | None = None
    address: fields.Lines | None = None
    tax_number: fields.Name | None = None
    metadata: fields.Metadata | None = None
    remove: list[Removed] = Field(default=[], max_length=100)

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        given = {name for name, value in self if value is not None and name != "metadata"}
        given |= {f"metadata.{key}" for key in self.metadata or {}}
        if both := given & set(self.remove):
            raise ValueError(f"{min(both)} is both given and removed; leave out one of them")
        return self


class IdentityAnswer(TypedDict):
    """A name that a provider knows a tenant by."""

    provider: str
    external_id: str


class KnownTenant(TenantAnswer):
    """What is known of a tenant, and by which names; `aliases` became part of it."""

    identities: list[IdentityAnswer]
    aliases: list[str]
    created_at: dt.datetime
    erased_at: dt.datetime | None


class Identified(TypedDict):
    """Whose an identity is. `created`: it was nobody's, and the tenant is new."""

    tenant_id: str
    created: bool
    tenant: TenantAnswer


class Found(TypedDict):
    """Whose an identity is; None if it is nobody's."""

    tenant_id: str | None
    tenant: KnownTenant | None


class Linked(TypedDict):
    """An identity and whose it is; `changed` says whether it was not so before."""

    tenant_id: str
    provider: str
    external_id: str
    changed: bool


class ListedTenant(TypedDict):
    """A tenant of a list. `merged_into` is who it became part of."""

    tenant_id: str
    name: str | None
    timezone: str
    currency: str
    merged_into: str | None
    identities: list[IdentityAnswer]
    created_at: dt.datetime
    erased_at: dt.datetime | None


class TenantList(TypedDict):
    """One page of tenants, by id. `next_cursor` leads to the next page, None on the last one."""

    tenants: list[ListedTenant]
    next_cursor: str | None


@contract.command("billing.identify", queue=Queue.billing)
def identify(
    session: database.Session,
    *,
    provider: fields.Provider,
    external_id: fields.ExternalId,
    profile: Profile | None = None,
    as_of: fields.Instant = contract.NOW,
) -> Identified:
    """Resolve a name that a provider knows somebody by to a tenant; make the tenant if need be.

    Runs when a producer sends it, such as at a sign-in. Twice is harmless, and so is at once: one
    identity is one tenant, however many ask. If it dies half way nothing has changed. Readers use
    `billing.find_tenant`, which makes nothing.

    Args:
        provider: such as "google" or "our-app": stripped and in lower case.
        external_id: the provider's id, stripped; upper and lower case are two ids.
        profile: what is known; what is absent or null stays, `remove` names what goes.
    """
    found = identity.resolve(session, Identity(provider, external_id), now=as_of)
    if profile is None:
        known = tenant.get(session, found.tenant_id)
    else:
        known = tenant.change(
            session,
            found.tenant_id,
            now=as_of,
            name=profile.name,
            timezone=profile.timezone,
            currency=profile.currency,
            address=profile.address,
            tax_number=profile.tax_number,
            details=profile.metadata,
            removed=profile.remove,
        )
    return {
        "tenant_id": known.tenant_id,
        "created": found.is_new,
        "tenant": tenants.answer(known),
    }


@contract.command("billing.find_tenant", queue=Queue.billing)
def find_tenant(
    session: database.Session, *, provider: fields.Provider, external_id: fields.ExternalId
) -> Found:
    """Look up whose an identity is.

    Runs when somebody asks. It changes nothing: an identity that is nobody's stays so.
    """
    tenant_id = identity.find(session, Identity(provider, external_id))
    if tenant_id is None:
        return {"tenant_id": None, "tenant": None}
    return {"tenant_id": tenant_id, "tenant": _known(session, tenant.get(session, tenant_id))}


@contract.command("billing.get_tenant", queue=Queue.billing)
def get_tenant(session: database.Session, *, tenant_id: fields.TenantId) -> KnownTenant:
    """Return what is known of a tenant; of an alias, of the tenant it became part of.

    Runs when somebody asks. It changes nothing. Refused with code `tenant.unknown`.
    """
    return _known(session, tenant.get(session, tenant_id))


@contract.command("billing.link_identity", queue=Queue.billing)
def link_identity(
    session: database.Session,
    *,
    tenant_id: fields.TenantId,
    provider: fields.Provider,
    external_id: fields.ExternalId,
    as_of: fields.Instant = contract.NOW,
) -> Linked:
    """Let a tenant be known by one more name.

    Runs when a producer or an operator sends it. Twice is harmless. If it dies half way nothing has
    changed. Refused with code `tenant.unknown`, or `tenant.identity_taken` if the name is another
    tenant's: two tenants become one by `billing.merge_customers`.
    """
    owner = tenant.get(session, tenant_id).tenant_id
    one = Identity(provider, external_id)
    changed = identity.link(session, one, tenant_id=owner, now=as_of)
    return _linked(owner, one, changed=changed)


@contract.command("billing.unlink_identity", queue=Queue.billing)
def unlink_identity(
    session: database.Session,
    *,
    tenant_id: fields.TenantId,
    provider: fields.Provider,
    external_id: fields.ExternalId,
) -> Linked:
    """Let a tenant not be known by a name any more; who comes with it next is somebody new.

    Runs when a producer or an operator sends it. Twice is harmless. If it dies half way nothing has
    changed. Refused with code `tenant.unknown`, or `tenant.identity_taken` if it is another's.
    """
    owner = tenant.get(session, tenant_id).tenant_id
    one = Identity(provider, external_id)
    changed = identity.unlink(session, one, tenant_id=owner)
    return _linked(owner, one, changed=changed)


@contract.command("billing.list_tenants", queue=Queue.billing)
def list_tenants(
    session: database.Session,
    *,
    prefix: Annotated[str, Field(max_length=64)] = "",
    merged: bool | None = None,
    limit: Annotated[int, Field(ge=1, le=LONGEST_PAGE)] = 100,
    cursor: paging.Cursor | None = None,
) -> TenantList:
    """Return tenants by id, page after page.

    Runs when somebody asks. It changes nothing.

    Args:
        prefix: of their ids.
        merged: only those that became part of others, or only those that did not.
        limit: how many at most, 1 to 1,000.
        cursor: `next_cursor` of the page before, with the other arguments unchanged.
    """
    query = {"prefix": prefix, "merged": merged}
    behind = paging.read(cursor, query, str) or ""
    found = tenant_page.page(session, behind=behind, prefix=prefix, merged=merged, limit=limit + 1)
    shown = found[:limit]
    names = identity.of_tenants(session, [one.tenant_id for one in shown])
    more = len(found) > limit
    return {
        "tenants": [_listed(one, names[one.tenant_id]) for one in shown],
        "next_cursor": paging.write(query, shown[-1].tenant_id) if more else None,
    }


def _known(session: database.Session, known: Tenant) -> KnownTenant:
    names = identity.of_tenants(session, [known.tenant_id])[known.tenant_id]
    return {
        **tenants.answer(known),
        "identities": [_name(one) for one in names],
        "aliases": alias.family(session, known.tenant_id)[1:],
        "created_at": known.created_at,
        "erased_at": known.erased_at,
    }


def _listed(one: Tenant, names: list[Identity]) -> ListedTenant:
    return {
        "tenant_id": one.tenant_id,
        "name": one.name,
        "timezone": one.timezone,
        "currency": one.currency,
        "merged_into": one.merged_into,
        "identities": [_name(name) for name in names],
        "created_at": one.created_at,
        "erased_at": one.erased_at,
    }


def _name(one: Identity) -> IdentityAnswer:
    return {"provider": one.provider, "external_id": one.external_id}


def _linked(tenant_id: str, one: Identity, *, changed: bool) -> Linked:
    answer: dict[str, Any] = {"tenant_id": tenant_id, "changed": changed}
    return {**answer, **_name(one)}  # type: ignore[typeddict-item]
