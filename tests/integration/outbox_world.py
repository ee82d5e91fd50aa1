"""Events emitted, endpoints subscribed, and what became of the deliveries between them."""

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Engine, text

from models import database
from models.store import claim, relay
from models.store.delivery_lease import STATE
from tasks import outcomes, recording
from tasks.announce import announce
from tasks.endpoints import create_endpoint
from tasks.tenants import set_tenant
from tests.receiver import Receiver
from webhooks import events, transport
from webhooks.retry import Outcome

NOWHERE = "http://127.0.0.1:9/"
"""Nobody listens there."""

TERMS = claim.Terms(rows=100, per_endpoint=5, per_host=20, per_owner=100)


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def later(**delta: float) -> dt.datetime:
    return now() + dt.timedelta(**delta)


def emit(
    tenant_id: str = "acme", *, topic: type[events.Event] = events.QuotaConsumed, count: int = 1
) -> list[str]:
    with database.transaction() as session:
        return [
            announce(session, sample(topic, tenant_id), tenant_id=tenant_id, sequence=1, now=now())
            for _ in range(count)
        ]


def sample(topic: type[events.Event], tenant_id: str) -> events.Event:
    if topic is events.Ping:
        return events.Ping(endpoint_id=uuid4())
    if topic is events.UsageDrifted:
        return events.UsageDrifted(
            tenant_id=tenant_id, metric="api", day_start=now(), stored=None, counted=Decimal(1)
        )
    if topic is events.InvoiceCreated:
        return events.InvoiceCreated(
            tenant_id=tenant_id,
            invoice_id=uuid4(),
            period_start=now(),
            period_end=now(),
            currency="EUR",
            subtotal_minor=1000,
            discount_minor=0,
            tax_minor=200,
            total_minor=1200,
            line_count=1,
        )
    return events.QuotaConsumed(
        tenant_id=tenant_id,
        product_key="TOKENS",
        amount=Decimal(1),
        balance=Decimal(9),
        idempotency_key="k",
    )


def subscribe(
    to: Receiver | str = NOWHERE,
    *,
    tenant_id: str | None = "acme",
    topics: list[str] | None = None,
    **options: Any,
) -> Any:
    if tenant_id is not None:
        set_tenant(tenant_id=tenant_id)
    return create_endpoint(
        url=to if isinstance(to, str) else to.url,
        topics=topics or ["*"],
        tenant_id=tenant_id,
        operator=tenant_id is None,
        idempotency_key=uuid4().hex,
        **options,
    )


def deliveries(db: Engine) -> list[Any]:
    with db.connect() as connection:
        return list(
            connection.execute(
                text(f"""
                    SELECT d.id, d.message_id, d.endpoint_id, {STATE} AS state, d.attempt_count,
                           d.due_at, d.completed_at, d.skip_reason, d.replayed_at, l.lease_token
                    FROM deliveries d LEFT JOIN delivery_leases l ON l.delivery_id = d.id
                    ORDER BY d.id
                """)  # noqa: S608 (a constant)
            )
        )


def states(db: Engine) -> list[str]:
    return [row.state for row in deliveries(db)]


def end_leases(db: Engine, **values: object) -> None:
    """Let nothing be under way any more, and give what was these values."""
    execute(db, "DELETE FROM delivery_leases")
    for name, value in values.items():
        execute(db, f"UPDATE deliveries SET {name} = :value", value=value)  # noqa: S608


def attempts(db: Engine) -> list[Any]:
    with db.connect() as connection:
        return list(
            connection.execute(text("SELECT * FROM delivery_attempts ORDER BY attempted_at"))
        )


def execute(db: Engine, statement: str, **parameters: Any) -> None:
    with db.begin() as connection:
        connection.execute(text(statement), parameters)


def relay_all() -> None:
    """Give what was emitted to its endpoints, and take nothing."""
    with database.transaction() as session:
        relay.fan_out(session, most=1000, now=now())


def take(
    token: UUID | None = None,
    *,
    lease: dt.timedelta = dt.timedelta(seconds=60),
    at: dt.datetime | None = None,
    terms: claim.Terms = TERMS,
    cursor: UUID | None = None,
) -> claim.Claim:
    """Relay what there is, and claim what is due now, or at another instant."""
    at = at or now()
    with database.transaction() as session:
        relay.fan_out(session, most=1000, now=min(at, now()))
        return claim.claim(
            session,
            terms=terms,
            cursor=cursor,
            token=token or uuid4(),
            lease=lease,
            now=at,
        )


def finish(
    claimed: Sequence[claim.Claimed],
    outcome: Outcome = Outcome.DELIVERED,
    *,
    at: dt.datetime | None = None,
) -> recording.Recorded:
    """Write back what came of claimed deliveries, as their sender does, without sending them."""
    when = at or now()
    attempt = transport.Attempt(outcome, 200, 1, "", None, None)
    verdicts = [
        outcomes.of_attempt(one, attempt, began=when, now=when, random=0.0) for one in claimed
    ]
    with database.transaction() as session:
        return recording.record(session, verdicts, tally={}, count_all=True, now=when)


def hosts(db: Engine, *names: str) -> None:
    """Give the endpoints, in the order of their making, other hosts than they have."""
    execute(
        db,
        """
        UPDATE endpoints e SET url = 'http://' || h.name || '/' FROM (
            SELECT id, row_number() OVER (ORDER BY id) AS place FROM endpoints) AS o
        JOIN unnest(CAST(:names AS text[])) WITH ORDINALITY AS h(name, place) USING (place)
        WHERE e.id = o.id
        """,
        names=list(names),
    )
