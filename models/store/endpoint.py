"""Endpoints: where events go, the secrets that sign for them, and how they are doing."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import delete as sql_delete
from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from models.outbox import Endpoint, EndpointSecret
from models.rules.refusal import Refusal
from models.rules.states import EndpointState
from models.store import endpoint_health, endpoint_secret, following


class UnknownEndpoint(Refusal):
    """There is no such endpoint, or it belongs to another tenant, or it was deleted."""

    code: ClassVar[str] = "endpoint.unknown"


class EndpointNotEnabled(Refusal):
    """Nothing is sent to the endpoint until it is enabled."""

    code: ClassVar[str] = "endpoint.disabled"


@dataclass(frozen=True, slots=True)
class Draft:
    """An endpoint to be created. Its repr shows neither headers nor the secret.

    Args:
        tenant_id: whose events it gets; None is the operator's, which gets every tenant's.
        topics: exact types, "prefix.*", or "*".
        ordered: oldest first, one at a time, none past one that has not arrived.
        rate_per_minute: 1 to 60,000; None for as fast as it answers.
        key: its first signing key, sealed for this endpoint's id.
    """

    id: UUID
    tenant_id: str | None
    url: str
    topics: Sequence[str]
    description: str | None
    headers: Mapping[str, str] = field(repr=False)
    details: Mapping[str, Any]
    key: endpoint_secret.Sealed
    ordered: bool = False
    rate_per_minute: int | None = None


def create(session: Session, draft: Draft, *, now: dt.datetime) -> None:
    """Store an enabled endpoint and its first secret."""
    session.execute(
        insert(Endpoint).values(
            id=draft.id,
            tenant_id=draft.tenant_id,
            operator=draft.tenant_id is None,
            url=draft.url,
            topics=list(draft.topics),
            description=draft.description,
            headers=dict(draft.headers),
            details=dict(draft.details),
            ordered=draft.ordered,
            rate_per_minute=draft.rate_per_minute,
            created_at=now,
            updated_at=now,
        )
    )
    endpoint_secret.add(session, draft.key, now=now)


def lock(session: Session, endpoint_id: UUID, *, tenant_id: str | None = None) -> Endpoint:
    """Return an endpoint locked until the transaction ends; a deleted one too.

    FOR UPDATE, and one endpoint a transaction: it waits for the fan-outs that are giving this
    endpoint deliveries, so that what follows its change includes theirs.

    Args:
        tenant_id: when given, only an endpoint of this tenant is found.

    Raises:
        UnknownEndpoint: there is none by that id.
    """
    statement = select(Endpoint).where(Endpoint.id == endpoint_id).with_for_update()
    if tenant_id is not None:
        statement = statement.where(Endpoint.tenant_id == tenant_id)
    found = session.scalars(statement.execution_options(populate_existing=True)).first()
    if found is None:
        raise _unknown(endpoint_id, tenant_id)
    return found


def lock_there(session: Session, endpoint_id: UUID, *, tenant_id: str | None = None) -> Endpoint:
    """Return an endpoint that was not deleted, locked as by `lock`.

    Raises:
        UnknownEndpoint: there is none by that id, or it was deleted.
    """
    found = lock(session, endpoint_id, tenant_id=tenant_id)
    if found.state == EndpointState.deleted:
        raise UnknownEndpoint(
            f"endpoint_id {str(endpoint_id)!r} was deleted; create a new endpoint",
            field="endpoint_id",
        )
    return found


def lock_enabled(session: Session, endpoint_id: UUID, *, tenant_id: str | None = None) -> Endpoint:
    """Return an endpoint that is sent what is due to it, locked as by `lock`.

    Raises:
        UnknownEndpoint: there is none by that id, or it was deleted.
        EndpointNotEnabled: it is disabled.
    """
    found = lock_there(session, endpoint_id, tenant_id=tenant_id)
    if found.state != EndpointState.enabled:
        raise EndpointNotEnabled(
            f"endpoint {endpoint_id} is {found.state}; enable it before it is sent anything",
            field="endpoint_id",
        )
    return found


def get(session: Session, endpoint_id: UUID, *, tenant_id: str | None = None) -> Endpoint:
    """Return an endpoint without a lock; a deleted one too.

    Args:
        tenant_id: when given, only an endpoint of this tenant is found.

    Raises:
        UnknownEndpoint: there is none by that id.
    """
    found = session.get(Endpoint, endpoint_id)
    if found is None or tenant_id not in (None, found.tenant_id):
        raise _unknown(endpoint_id, tenant_id)
    return found


def disable(session: Session, endpoint: Endpoint, *, now: dt.datetime) -> bool:
    """Disable a locked endpoint and hold its deliveries; tell whether it was enabled."""
    return _move(session, endpoint, {EndpointState.enabled}, EndpointState.disabled, now)


def enable(session: Session, endpoint: Endpoint, *, now: dt.datetime) -> bool:
    """Enable a locked endpoint, its held deliveries due now; tell whether it was disabled.

    It starts with a clean record: neither a hold nor failures are left.
    """
    if not _move(session, endpoint, {EndpointState.disabled}, EndpointState.enabled, now):
        return False
    endpoint_health.forget(session, endpoint.id)
    return True


def delete(session: Session, endpoint: Endpoint, *, now: dt.datetime) -> bool:
    """Delete a locked endpoint, cancelling what waits for it; tell whether it was there.

    Its secrets are destroyed; the row stays for the record.
    """
    before = {EndpointState.enabled, EndpointState.disabled}
    if not _move(session, endpoint, before, EndpointState.deleted, now):
        return False
    session.execute(sql_delete(EndpointSecret).where(EndpointSecret.endpoint_id == endpoint.id))
    endpoint_health.forget(session, endpoint.id)
    return True


def next_version(session: Session, endpoint_id: UUID) -> int:
    """Count an event about a locked endpoint, and return the sequence it has."""
    return session.scalars(
        update(Endpoint)
        .where(Endpoint.id == endpoint_id)
        .values(version=Endpoint.version + 1)
        .returning(Endpoint.version)
    ).one()


def _unknown(endpoint_id: UUID, tenant_id: str | None) -> UnknownEndpoint:
    return UnknownEndpoint(
        f"endpoint_id {str(endpoint_id)!r} is unknown"
        + (f" to tenant {tenant_id!r}" if tenant_id is not None else "")
        + "; billing.list_endpoints names those there are",
        field="endpoint_id",
    )


def _move(
    session: Session,
    endpoint: Endpoint,
    before: set[EndpointState],
    after: EndpointState,
    now: dt.datetime,
) -> bool:
    if endpoint.state not in before:
        return False
    endpoint.state, endpoint.updated_at = after, now
    endpoint.version += 1
    session.flush()
    following.begin(session, endpoint.id, now=now)
    return True
