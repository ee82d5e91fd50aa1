"""What an attempt means for its delivery and for its endpoint."""

import datetime as dt
from collections.abc import Iterable
from typing import NamedTuple, assert_never
from uuid import UUID

from models.rules import ids
from models.rules.states import DeliveryState
from models.store import delivery
from models.store.claim import Claimed
from models.store.endpoint_health import Health
from webhooks import health, retry, transport
from webhooks.endpoint_condition import Condition
from webhooks.events import Ping
from webhooks.retry import Outcome

FAILURES, UNSENT = Outcome.failures(), Outcome.unsent()

KEY_PAUSE = dt.timedelta(minutes=5)
"""How long an endpoint waits whose secrets can not be opened: somebody must bring the key."""


class Verdict(NamedTuple):
    """What came of a claimed delivery.

    Args:
        result: to be written back.
        claimed: what it was.
        succeeded: the endpoint answered well.
        failed: it is the endpoint's fault, and counts for its circuit.
        refused: the endpoint can not be sent to as it is.
        hold_until: leave the whole endpoint alone until then.
        disables: the endpoint asked never to be called again.
    """

    result: delivery.Result
    claimed: Claimed
    succeeded: bool = False
    failed: bool = False
    refused: bool = False
    hold_until: dt.datetime | None = None
    disables: bool = False

    @property
    def endpoint_id(self) -> UUID:
        """Whose verdict it is."""
        return self.result.endpoint_id


def of_attempt(
    claimed: Claimed,
    attempt: transport.Attempt,
    *,
    began: dt.datetime,
    now: dt.datetime,
    random: float,
) -> Verdict:
    """Return what an attempt means, by the retry policy.

    An ordered endpoint stands still for a delivery that failed: not the delivery waits, but the
    endpoint, and when the schedule is over it goes on at its longest step, until the delivery
    arrives or is skipped.

    Args:
        began: when the attempt began.
        now: what waits and holds are counted from.
        random: in [0, 1), stretches the wait.
    """
    decision = retry.decide(
        attempt.outcome,
        attempt_number=claimed.attempt_count + 1,
        retry_after=attempt.retry_after,
        random=random,
    )
    if claimed.ordered and isinstance(decision, retry.Dead):
        decision = retry.Retry(retry.SCHEDULE[-1], decision.hold)
    state = DeliveryState.pending
    due_at: dt.datetime | None = None
    hold_until: dt.datetime | None = None
    match decision:
        case retry.Success():
            return _arrived(claimed, attempt, began)
        case retry.Retry(delay, hold):
            due_at, hold_until = now + delay, _after(now, hold)
        case retry.Dead(hold):
            state, hold_until = DeliveryState.dead, _after(now, hold)
        case retry.Blocked(look_again):
            due_at = hold_until = now + look_again
        case retry.Disable():
            pass  # Pending again, and held as soon as its endpoint is disabled.
        case never:
            assert_never(never)
    if claimed.ordered and state is DeliveryState.pending:
        hold_until, due_at = _latest([due_at, hold_until]), None
    return Verdict(
        result=delivery.Result(
            delivery_id=claimed.delivery_id,
            endpoint_id=claimed.endpoint_id,
            lease_token=claimed.lease_token,
            state=state,
            due_at=due_at,
            spent=attempt.outcome not in UNSENT,
            attempt=_kept(claimed, attempt, began),
        ),
        claimed=claimed,
        failed=attempt.outcome in FAILURES,
        refused=isinstance(decision, retry.Blocked),
        hold_until=hold_until,
        disables=isinstance(decision, retry.Disable),
    )


def _arrived(claimed: Claimed, attempt: transport.Attempt, began: dt.datetime) -> Verdict:
    result = delivery.Result(
        delivery_id=claimed.delivery_id,
        endpoint_id=claimed.endpoint_id,
        lease_token=claimed.lease_token,
        state=DeliveryState.delivered,
        spent=True,
        attempt=_kept(claimed, attempt, began),
    )
    return Verdict(result, claimed, succeeded=True)


def given_back(claimed: Claimed, *, hold_until: dt.datetime | None = None) -> Verdict:
    """Return the verdict on a delivery that was claimed and not tried: due as it was before."""
    result = delivery.Result(
        delivery_id=claimed.delivery_id,
        endpoint_id=claimed.endpoint_id,
        lease_token=claimed.lease_token,
        state=DeliveryState.pending,
    )
    return Verdict(result, claimed, hold_until=hold_until)


def health_after(
    before: Health, verdicts: Iterable[Verdict], *, successes: int = 0, now: dt.datetime
) -> Health:
    """Return an endpoint's health after verdicts on its deliveries, by the rules of its circuit.

    A hold the endpoint asked for with Retry-After stands whatever comes of the others. After a
    refusal it gets one delivery at a time until something can be sent again.

    Args:
        verdicts: in the order in which the attempts ended.
        successes: attempts that ended well before them and have not been counted.
    """
    condition, single = Condition.from_dict(before.condition), before.single
    held = [before.hold_until]
    if successes:
        condition = health.succeed(condition, times=successes, now=now)
    for verdict in verdicts:
        held.append(verdict.hold_until)
        if verdict.succeeded:
            condition, single = health.succeed(condition, now=now), False
        elif verdict.failed:
            event = ids.event_id(verdict.claimed.message_id)
            condition, single = health.fail(condition, event=event, now=now), False
        elif verdict.refused:
            single = True
    return kept(condition, hold_until=_latest(held), single=single, now=now)


def kept(
    condition: Condition, *, hold_until: dt.datetime | None, single: bool, now: dt.datetime
) -> Health:
    """Return a condition as it is stored, with what a claim asks of it beside it."""
    return Health(
        hold_until=hold_until,
        probe_at=condition.circuit.probe_at,
        single=single,
        review_at=health.review_at(condition, now=now),
        condition=condition.to_dict(),
    )


def rests(known: Health, *, now: dt.datetime) -> bool:
    """Tell whether an endpoint is to be left alone at the moment."""
    return any(until is not None and until > now for until in (known.hold_until, known.probe_at))


def _after(now: dt.datetime, wait: dt.timedelta | None) -> dt.datetime | None:
    return None if wait is None else now + wait


def _latest(instants: Iterable[dt.datetime | None]) -> dt.datetime | None:
    return max((instant for instant in instants if instant is not None), default=None)


def _kept(claimed: Claimed, attempt: transport.Attempt, began: dt.datetime) -> delivery.Attempt:
    # What a peer said is kept when it refused, and when somebody asked: of a 2xx else it would be
    # the larger part of all that is stored.
    is_telling = attempt.outcome is not Outcome.DELIVERED or claimed.type == Ping.topic
    return delivery.Attempt(
        at=began,
        number=claimed.attempt_count + 1,
        outcome=attempt.outcome,
        status=attempt.status,
        latency_ms=attempt.latency_ms,
        error=attempt.error,
        excerpt=(attempt.response_excerpt or None) if is_telling else None,
    )
