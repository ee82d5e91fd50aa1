"""What an operator looks at first: the server itself, and how much work waits."""

import datetime as dt
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, case, exists, func, literal_column, or_, select
from sqlalchemy import text as sql
from sqlalchemy.orm import Session

from models.inbox import RejectedMessage
from models.outbox import Delivery, DeliveryLease, EndpointHealth, OutboxMessage, OutboxPending
from models.parking import ParkedTenant
from models.rules.states import DeliveryState, RejectedState
from models.usage import UsageTouchedDay

MOST_COUNTED = 100_000
"""Counting stops here: a backlog of millions is not made worse by looking at it."""

PROBE_GRACE = dt.timedelta(minutes=1)
"""How late a probe of a failing endpoint may be: later, nobody sends."""

_IS_LEASED = exists().where(DeliveryLease.delivery_id == Delivery.id)


@dataclass(frozen=True, slots=True)
class Server:
    """The database server and our connection to it.

    Args:
        version: as 180006 for 18.6.
        role: who we are there.
        is_superuser: whether nothing there is forbidden to us.
        is_owner: whether the tables are ours, or of a role whose rights we have.
        encrypted: whether our connection is, be it to a pooler.
        read_only: whether it takes no changes, as a standby.
        connections, most_connections: of all clients, and how many there may be.
    """

    version: int
    clock: dt.datetime
    role: str
    is_superuser: bool
    is_owner: bool
    encrypted: bool
    read_only: bool
    connections: int
    most_connections: int


@dataclass(frozen=True, slots=True)
class Backlog:
    """How much waits. Each count is MOST_COUNTED when there is as much or more.

    `outbox_oldest` and `delivery_oldest` are when the oldest waiting message was written and when
    the oldest due delivery fell due; None when nothing waits. An endpoint rests while nothing is
    sent to it because of how it answered, be it for a while or but for a probe of its open circuit;
    what it has due waits for it, and not for a worker: it is not counted.
    """

    touched_days: int
    outbox_pending: int
    outbox_oldest: dt.datetime | None
    deliveries_due: int
    delivery_oldest: dt.datetime | None
    rejected_open: int
    deliveries_dead: int
    endpoints_resting: int
    tenants_parked: int


def server(session: Session) -> Server:
    """Return what the server says of itself."""
    driver: Any = session.connection().connection.driver_connection
    said = session.execute(_SERVER).one()._asdict()
    return Server(**said, encrypted=bool(driver.pgconn.ssl_in_use))


_SERVER = sql("""
    SELECT current_setting('server_version_num')::int AS version, clock_timestamp() AS clock,
           CAST(current_user AS text) AS role,
           (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS is_superuser,
           coalesce((SELECT pg_has_role(relowner, 'USAGE') FROM pg_class
                     WHERE oid = to_regclass('ledger_entries')), false) AS is_owner,
           current_setting('transaction_read_only')::boolean AS read_only,
           -- Not of pg_stat_activity, which hides the sessions of others from most roles.
           (SELECT sum(numbackends)::int FROM pg_stat_database) AS connections,
           current_setting('max_connections')::int AS most_connections
""")


def backlog(session: Session, *, now: dt.datetime) -> Backlog:
    """Count what waits for a worker or an operator."""
    rests = or_(EndpointHealth.hold_until > now, EndpointHealth.probe_at > now - PROBE_GRACE)
    due = (
        Delivery.state == DeliveryState.pending,
        Delivery.due_at <= now,
        ~_IS_LEASED,
        ~exists().where(EndpointHealth.endpoint_id == Delivery.endpoint_id, rests),
    )
    # UUIDs of version 7 sort by time: the smallest id is the oldest message.
    first = select(OutboxPending.message_id).order_by(OutboxPending.message_id).limit(1)
    oldest = select(OutboxMessage.created_at).where(OutboxMessage.id == first.scalar_subquery())
    return Backlog(
        touched_days=_count(session, select(UsageTouchedDay.id)),
        outbox_pending=_count(session, select(OutboxPending.message_id)),
        outbox_oldest=session.scalar(oldest),
        deliveries_due=_count(session, select(Delivery.id).where(*due)),
        delivery_oldest=session.scalar(select(func.min(Delivery.due_at)).where(*due)),
        rejected_open=_count(
            session, select(RejectedMessage.id).where(RejectedMessage.state == RejectedState.open)
        ),
        deliveries_dead=_count(
            session, select(Delivery.id).where(Delivery.state == DeliveryState.dead)
        ),
        endpoints_resting=_count(session, select(EndpointHealth.endpoint_id).where(rests)),
        tenants_parked=_count(
            session, select(ParkedTenant.tenant_id).where(ParkedTenant.resolved_at.is_(None))
        ),
    )


def deliveries(session: Session) -> dict[DeliveryState, int]:
    """Count all deliveries by state; reads the whole table, so not for a busy system."""
    state = case((_IS_LEASED, DeliveryState.sending.value), else_=Delivery.state).label("state")
    rows = session.execute(select(state, func.count()).group_by(state)).all()
    return {DeliveryState(state): count for state, count in rows}


def _count(session: Session, query: Select[Any]) -> int:
    some = query.limit(MOST_COUNTED).subquery()
    return session.scalar(select(func.count(literal_column("*"))).select_from(some)) or 0
