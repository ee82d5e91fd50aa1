"""How an endpoint is doing: how it answers, and what waits for it."""

import datetime as dt
from decimal import ROUND_DOWN, Decimal
from typing import Annotated, TypedDict
from uuid import UUID

from pydantic import Field

from models import database
from models.store import endpoint, endpoint_health, endpoint_stats
from tasks import contract, fields
from tasks.queues import Queue
from webhooks.endpoint_condition import Condition
from webhooks.retry import Outcome

LONGEST_HOURS = 30 * 24

Hours = Annotated[int, Field(ge=1, le=LONGEST_HOURS)]


class StatsAnswer(TypedDict):
    """How an endpoint is doing.

    `success_percent` is text with one decimal, rounded down, so that "100.0" is all; None without
    attempts. Latencies are milliseconds until the head of an answer. `looked_at_since` is when the
    first attempt began that was counted: of many the newest 50,000 are. `oldest_due_at` is of what
    is due now.
    """

    endpoint_id: str
    state: str
    since: str
    looked_at_since: str | None
    attempts: int
    success_percent: str | None
    outcomes: dict[str, int]
    p50_ms: int | None
    p95_ms: int | None
    circuit_open: bool
    consecutive_failures: int
    probe_at: str | None
    hold_until: str | None
    failing_since: str | None
    pending: int
    sending: int
    held: int
    dead: int
    due: int
    oldest_due_at: str | None


@contract.command("billing.get_endpoint_stats", queue=Queue.webhooks)
def get_endpoint_stats(
    session: database.Session,
    *,
    endpoint_id: UUID,
    tenant_id: fields.TenantId | None = None,
    hours: Hours = 24,
    as_of: fields.Instant = contract.NOW,
) -> StatsAnswer:
    """Tell how an endpoint answered of late, and what waits for it.

    Runs when somebody sends it and changes nothing, however often and wherever it dies.

    Args:
        endpoint_id: which.
        tenant_id: when given, only an endpoint of this tenant is found.
        hours: how far back attempts are looked at, 1 to 720; a day if absent.
        as_of: up to when.
    """
    found = endpoint.get(session, endpoint_id, tenant_id=tenant_id)
    since = as_of - dt.timedelta(hours=hours)
    answers = endpoint_stats.answers(session, endpoint_id, since=since, until=as_of)
    waiting = endpoint_stats.backlog(session, endpoint_id, now=as_of)
    known = endpoint_health.find(session, [endpoint_id])[endpoint_id]
    condition = Condition.from_dict(known.condition)
    return {
        "endpoint_id": str(endpoint_id),
        "state": found.state,
        "since": since.isoformat(),
        "looked_at_since": _text(answers.since),
        "attempts": answers.attempts,
        "success_percent": _percent(answers),
        "outcomes": dict(answers.outcomes),
        "p50_ms": answers.p50_ms,
        "p95_ms": answers.p95_ms,
        "circuit_open": condition.circuit.is_open,
        "consecutive_failures": condition.circuit.consecutive_failures,
        "probe_at": _text(known.probe_at),
        "hold_until": _text(known.hold_until),
        "failing_since": _text(condition.trouble.began_at),
        "pending": waiting.pending,
        "sending": waiting.sending,
        "held": waiting.held,
        "dead": waiting.dead,
        "due": waiting.due,
        "oldest_due_at": _text(waiting.oldest_due_at),
    }


def _percent(answers: endpoint_stats.Answers) -> str | None:
    if not answers.attempts:
        return None
    share = Decimal(100 * answers.outcomes.get(Outcome.DELIVERED, 0)) / answers.attempts
    return str(share.quantize(Decimal("0.1"), rounding=ROUND_DOWN))


def _text(at: dt.datetime | None) -> str | None:
    return None if at is None else at.isoformat()
