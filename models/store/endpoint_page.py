"""Endpoints found, a page at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.outbox import Endpoint
from models.rules.states import EndpointState


@dataclass(frozen=True, slots=True)
class Filter:
    """Which endpoints are meant; None is any.

    Args:
        tenant_id: whose.
        operator: the operator's alone, or tenants' alone.
        state: enabled or disabled; None is both.
        topics: asked for at least one of these patterns, as they were given.
    """

    tenant_id: str | None = None
    operator: bool | None = None
    state: EndpointState | None = None
    topics: Sequence[str] | None = None


def list_page(
    session: Session, wanted: Filter, *, after: UUID | None, most: int
) -> Sequence[Endpoint]:
    """Return endpoints that were not deleted, by id.

    Args:
        after: the last id of the page before.
        most: endpoints on one page.
    """
    statement = select(Endpoint).where(Endpoint.state != EndpointState.deleted)
    if wanted.tenant_id is not None:
        statement = statement.where(Endpoint.tenant_id == wanted.tenant_id)
    if wanted.operator is not None:
        statement = statement.where(Endpoint.operator == wanted.operator)
    if wanted.state is not None:
        statement = statement.where(Endpoint.state == wanted.state)
    if wanted.topics is not None:
        statement = statement.where(Endpoint.topics.bool_op("&&")(list(wanted.topics)))
    if after is not None:
        statement = statement.where(Endpoint.id > after)
    return session.scalars(statement.order_by(Endpoint.id).limit(most)).all()
