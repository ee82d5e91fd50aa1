"""By which names tenants are known elsewhere: resolve one to a tenant, look it up, link, unlink."""

from typing import Annotated, Self, TypedDict

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models import database
from models.store import identity, tenant
from models.store.identity import Identity
from tasks import contract, fields, tenant_list, tenants
from tasks.queues import Queue
from tasks.tenant_list import KnownTenant
from tasks.tenants import TenantAnswer

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
    found = tenant_list.known(session, tenant.get(session, tenant_id))
    return {"tenant_id": tenant_id, "tenant": found}


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


def _linked(tenant_id: str, one: Identity, *, changed: bool) -> Linked:
    return {
        "tenant_id": tenant_id,
        "provider": one.provider,
        "external_id": one.external_id,
        "changed": changed,
    }
