"""What a sender does beside sending, now and then: lost leases, long failures, long backlogs."""

import datetime as dt
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import structlog

from models import database
from models.store import chores, delivery, endpoint, following
from tasks import endpoints, recording

RECLAIM: Final = 500
"""Deliveries of dead senders made pending in one transaction."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Tended:
    """Deliveries made pending again after their sender died, and moved after their endpoint."""

    reclaimed: int = 0
    followed: int = 0


def tend(*, now: dt.datetime) -> Tended:
    """Do what is due: of each kind a chunk at most."""
    with database.transaction() as session:
        due = chores.due(session, now=now)
    if due.reviews:
        _review(now)
    return Tended(
        reclaimed=_reclaim(now) if due.lost_leases else 0,
        followed=_follow(now) if due.unsettled else 0,
    )


def disable_failing(endpoint_id: UUID, *, now: dt.datetime) -> None:
    """Disable an endpoint that has failed for too long, if it still has."""
    with database.transaction() as session:
        locked = endpoint.lock(session, endpoint_id)
        if not recording.must_disable(session, endpoint_id, now=now):
            return
        disabled = endpoints.disable(session, locked, reason="failing", as_of=now)
    if disabled:
        log.warning("endpoint.disabled", endpoint_id=str(endpoint_id), reason="failing")


def disable_gone(endpoint_id: UUID, *, now: dt.datetime) -> None:
    """Disable an endpoint that asked never to be called again."""
    with database.transaction() as session:
        locked = endpoint.lock(session, endpoint_id)
        disabled = endpoints.disable(session, locked, reason="gone", as_of=now)
    if disabled:
        log.warning("endpoint.disabled", endpoint_id=str(endpoint_id), reason="gone")


def _reclaim(now: dt.datetime) -> int:
    with database.transaction() as session:
        reclaimed = delivery.reclaim(session, most=RECLAIM, now=now)
    if reclaimed:
        log.warning("delivery.leases_lost", deliveries=reclaimed)
    return reclaimed


def _review(now: dt.datetime) -> None:
    """Tell of endpoints that have failed for long, and disable those that have for too long."""
    with database.transaction() as session:
        disabling = recording.review(session, now=now)
    for endpoint_id in disabling:
        disable_failing(endpoint_id, now=now)


def _follow(now: dt.datetime) -> int:
    with database.transaction() as session:
        return following.go_on(session, now=now)
