"""Taking due deliveries to send: endpoints first, then a few rows of each.

Rows in one long due-first queue would let one dead endpoint with half a million rows stand in front
of everybody. Here it costs what any other endpoint costs: one look at one index entry.
"""

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from uuid import UUID

import orjson
from sqlalchemy.orm import Session

from models import hot
from models.store import claim_statements


@dataclass(frozen=True, slots=True)
class Terms:
    """How much one claim may take, whoever sends the rest.

    Args:
        rows: deliveries at once, at least 1.
        per_endpoint, per_host: how many of one endpoint, and of all endpoints that share a host,
            may be under way over all senders. An ordered endpoint, one whose circuit is open and
            one that was refused get one at a time.
        per_owner: how many of one owner's this sender may have.
        taken: how many it has, by owner.
        without: endpoints that get nothing this time.
    """

    rows: int
    per_endpoint: int
    per_host: int
    per_owner: int
    taken: Mapping[str, int] = field(default_factory=dict)
    without: Collection[UUID] = ()


# A tuple: one is made for each delivery, and a frozen dataclass takes many times as long.
class Claimed(NamedTuple):
    """A delivery leased to one sender, with all it takes to send it. Its repr shows no contents.

    `owner` is the endpoint's tenant, or "" for the operator, `tenant_id` the event's. `unwell` says
    that the endpoint has a record that a success would clear. `correlation_id` and `traceparent`
    say whose work told of the event, where that is known.
    """

    # As the statement returns them.
    delivery_id: int
    attempt_count: int
    message_id: UUID
    type: str
    schema_version: int
    body: bytes
    tenant_id: str
    correlation_id: str | None
    traceparent: str | None
    unwell: bool
    # The same of all that one claim has of an endpoint.
    lease_token: UUID
    endpoint_id: UUID
    owner: str
    ordered: bool
    url: str
    headers: dict[str, str]
    sealed: Sequence[bytes]

    def __repr__(self) -> str:
        return (
            f"Claimed(delivery_id={self.delivery_id}, message_id={self.message_id!s}, "
            f"type={self.type!r}, endpoint_id={self.endpoint_id!s})"
        )


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claim took.

    Args:
        rows: deliveries, the oldest due first.
        cursor: the last endpoint that had its turn; the next claim goes on behind it.
        has_seen_all: no endpoint was left out for want of room.
        clock: the database's, when the claim was made; None if there was nothing to claim.
    """

    rows: Sequence[Claimed]
    cursor: UUID | None
    has_seen_all: bool
    clock: dt.datetime | None


HOSTS_KEY: Final = 0x686F7374
"""Of the advisory locks on hosts."""

_BEFORE_ALL = UUID(int=0)


def claim(
    session: Session,
    *,
    terms: Terms,
    cursor: UUID | None,
    token: UUID,
    lease: dt.timedelta,
    now: dt.datetime,
) -> Claim:
    """Lease due deliveries of enabled endpoints to the caller and return them.

    Args:
        terms: how many.
        cursor: the endpoint the last claim came to; None begins at the first.
        token: names this claim; results are written back under it alone.
        lease: after this, by the database's clock, somebody else may send them.
        now: what is due then is taken.
    """
    hot.execute(session, claim_statements.PLAN_ONCE, {})
    endpoints = _lock(session, terms, cursor or _BEFORE_ALL, now)
    has_seen_all = len(endpoints) < terms.rows
    if not endpoints:
        return Claim([], cursor, has_seen_all, None)
    found = hot.execute(
        session,
        claim_statements.LEASE,
        {
            "endpoints": _asked(endpoints, terms),
            "rows": terms.rows,
            "share": -(-terms.rows // len(endpoints)),
            "per_endpoint": terms.per_endpoint,
            "per_host": terms.per_host,
            "per_owner": terms.per_owner,
            "token": token,
            "lease": lease,
            "now": now,
        },
        binary=True,
    )
    concerned = {row[0]: endpoints[row[0]] for row in found}
    targets = _targets(session, concerned, token, now)
    rows = [Claimed._make(row[2:] + targets[row[0]]) for row in found]
    clock = found[0][1] if found else None
    return Claim(rows, endpoints[-1].id, has_seen_all, clock)


class _Endpoint(NamedTuple):
    """A locked endpoint, as the first statement has it."""

    id: UUID
    host: str
    owner: str
    url: str
    headers: dict[str, str]
    ordered: bool
    rate: int | None


def _lock(session: Session, terms: Terms, cursor: UUID, now: dt.datetime) -> list[_Endpoint]:
    found = hot.execute(
        session,
        claim_statements.LOCK,
        {
            "cursor": cursor,
            "rows": terms.rows,
            "per_endpoint": terms.per_endpoint,
            "per_host": terms.per_host,
            "full_owners": [
                owner for owner, taken in terms.taken.items() if taken >= terms.per_owner
            ],
            "without": list(terms.without),
            "hosts_key": HOSTS_KEY,
            "now": now,
        },
        binary=True,
    )
    return [_Endpoint._make(row) for row in found]


def _asked(endpoints: Sequence[_Endpoint], terms: Terms) -> str:
    """Write the locked endpoints down: as JSON, since arrays take psycopg ten times as long."""
    rows = [
        {
            "id": one.id,
            "place": place,
            "host": one.host,
            "owner": one.owner,
            "taken": terms.taken.get(one.owner, 0),
            "ordered": one.ordered,
            "rate": one.rate,
        }
        for place, one in enumerate(endpoints)
    ]
    return orjson.dumps(rows).decode()


def _targets(
    session: Session, endpoints: Mapping[int, _Endpoint], token: UUID, now: dt.datetime
) -> dict[int, tuple[Any, ...]]:
    """Return what all that is claimed of an endpoint has in common, by the endpoint's place."""
    keys: dict[UUID, list[bytes]] = {one.id: [] for one in endpoints.values()}
    asked = {"endpoints": list(keys), "now": now}
    for endpoint_id, sealed in hot.execute(session, claim_statements.KEYS, asked, binary=True):
        keys[endpoint_id].append(sealed)
    return {
        place: (token, one.id, one.owner, one.ordered, one.url, one.headers, keys[one.id])
        for place, one in endpoints.items()
    }
