"""Endpoints given other values, under their lock."""

import datetime as dt
from collections.abc import Mapping
from typing import Any, ClassVar

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from models.outbox import DeliveryLease, Endpoint
from models.rules.refusal import Refusal
from models.rules.states import EndpointState
from models.store import endpoint_health


class NotAtRest(Refusal):
    """What is asked can be done only to a disabled endpoint that nothing is under way to."""

    code: ClassVar[str] = "endpoint.not_at_rest"


def change(
    session: Session, endpoint: Endpoint, changes: Mapping[str, Any], *, now: dt.datetime
) -> list[str]:
    """Give a locked endpoint other values; return the names of those that are not as before.

    At another URL it begins with a clean record: what failed there says nothing of here.

    Args:
        changes: columns and their values. `ordered` only of an endpoint at rest: what waits
            changes its place in the order with it.

    Raises:
        NotAtRest: `ordered` would change, and it is enabled or something is under way.
    """
    changed = [name for name, value in changes.items() if getattr(endpoint, name) != value]
    if "ordered" in changed:
        _require_rest(session, endpoint)
    for name in changed:
        setattr(endpoint, name, changes[name])
    if changed:
        endpoint.updated_at = now
        session.flush()
    if "url" in changed:
        endpoint_health.forget(session, endpoint.id)
    return changed


def _require_rest(session: Session, endpoint: Endpoint) -> None:
    under_way = exists().where(DeliveryLease.endpoint_id == endpoint.id)
    is_busy = endpoint.unsettled or session.scalar(select(under_way))
    if endpoint.state != EndpointState.disabled:
        raise NotAtRest(
            f"ordered can be changed only while the endpoint is disabled, and {endpoint.id} is "
            f"{endpoint.state}; disable it, change it, enable it: what is due meanwhile is held",
            field="ordered",
        )
    if is_busy:
        raise NotAtRest(
            f"deliveries to endpoint {endpoint.id} are still under way or being put on hold; try "
            "again in a moment",
            field="ordered",
        )
