"""Tenants, looked up and listed, with the names they are known by."""

import datetime as dt
from typing import Annotated, TypedDict

from pydantic import Field

from models import database
from models.store import alias, identity, tenant, tenant_page
from models.store.identity import Identity
from models.tenant import Tenant
from tasks import contract, fields, paging, tenants
from tasks.queues import Queue
from tasks.tenants import TenantAnswer

LONGEST_PAGE = 1_000
"""Tenants in one answer."""


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


@contract.command("billing.get_tenant", queue=Queue.billing)
def get_tenant(session: database.Session, *, tenant_id: fields.TenantId) -> KnownTenant:
    """Return what is known of a tenant; of an alias, of the tenant it became part of.

    Runs when somebody asks. It changes nothing. Refused with code `tenant.unknown`.
    """
    return known(session, tenant.get(session, tenant_id))


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


def known(session: database.Session, found: Tenant) -> KnownTenant:
    """Return what is known of a tenant, by which names, and who became part of it."""
    names = identity.of_tenants(session, [found.tenant_id])[found.tenant_id]
    return {
        **tenants.answer(found),
        "identities": [_name(one) for one in names],
        "aliases": alias.family(session, found.tenant_id)[1:],
        "created_at": found.created_at,
        "erased_at": found.erased_at,
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
