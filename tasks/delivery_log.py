"""What became of an event, in log lines: relayed to whom, and how each attempt ended.

A line names the event and what it comes from, never where it went, nor a word of it or of a peer.
"""

import logging
from collections.abc import Iterable

import structlog

from models.rules import ids
from models.store.relay import Relayed
from tasks.outcomes import Verdict

log = structlog.get_logger(__name__)


def relayed(messages: Iterable[Relayed]) -> None:
    """Log each event that was given to endpoints; of one that nobody asked for only at DEBUG."""
    for one in messages:
        log.log(
            logging.INFO if one.endpoints else logging.DEBUG,
            "event.relayed",
            event_id=ids.event_id(one.message_id),
            topic=one.type,
            tenant_id=one.tenant_id,
            correlation_id=one.correlation_id,
            endpoints=one.endpoints,
        )


def attempted(verdict: Verdict) -> None:
    """Log an attempt: one that failed at WARNING. Of a delivery that was not tried there is none.

    `state` is what it comes to unless its endpoint was disabled or deleted meanwhile.
    """
    attempt, claimed = verdict.result.attempt, verdict.claimed
    if attempt is None:
        return
    log.log(
        logging.INFO if verdict.succeeded else logging.WARNING,
        "delivery.attempted",
        event_id=ids.event_id(claimed.message_id),
        topic=claimed.type,
        tenant_id=claimed.tenant_id,
        correlation_id=claimed.correlation_id,
        delivery_id=claimed.delivery_id,
        endpoint_id=str(claimed.endpoint_id),
        attempt=attempt.number,
        outcome=str(attempt.outcome),
        status=attempt.status,
        milliseconds=attempt.latency_ms,
        state=str(verdict.result.state),
    )
