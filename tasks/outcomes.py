"""What an attempt means for its delivery and for its endpoint."""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from typing import assert_never
from uuid import UUID

from models.rules import ids
from models.rules.states import DeliveryState
from models.store import delivery
from models.store.claim import Claimed
from models.store.endpoint import Health
from webhooks import health, retry, transport
from webhooks.retry import Outcome

EXCERPT_LENGTH = 2_048
"""Characters of a refusing peer's answer that are kept. Of a 2xx nothing is."""

KEY_PAUSE = dt.timedelta(minutes=5)
"""How long an endpoint waits whose secrets can not be opened: somebody must bring the key."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a claimed delivery.

    Args:
        result: to be written back.
        succeeded: the endpoint answered well.
        failed: it is the endpoint's fault, and counts for its circuit.
        hold_until: leave the whole endpoint alone until then.
        disables: the endpoint asked never to be called again.
    """

    result: delivery.Result
    succeeded: bool = False
    failed: bool = False
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
    state, due_at = DeliveryState.pending, now
    hold_until: dt.datetime | None = None
    match decision:
        case retry.Success():
            state = DeliveryState.delivered
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
    return Verdict(
        result=delivery.Result(
            delivery_id=claimed.delivery_id,
            endpoint_id=claimed.endpoint_id,
            lease_token=claimed.lease_token,
            state=state,
            due_at=due_at,
            spent=attempt.outcome not in Outcome.unsent(),
            attempt=_kept(claimed, attempt, began),
        ),
        succeeded=attempt.outcome is Outcome.DELIVERED,
        failed=attempt.outcome in Outcome.failures(),
        hold_until=hold_until,
        disables=isinstance(decision, retry.Disable),
    )


def given_back(claimed: Claimed, *, hold_until: dt.datetime | None = None) -> Verdict:
    """Return the verdict on a delivery that was claimed and not tried: due as it was before."""
    result = delivery.Result(
        delivery_id=claimed.delivery_id,
        endpoint_id=claimed.endpoint_id,
        lease_token=claimed.lease_token,
        state=DeliveryState.pending,
    )
    return Verdict(result, hold_until=hold_until)


def health_after(before: Health, verdicts: Iterable[Verdict], *, now: dt.datetime) -> Health:
    """Return an endpoint's health after verdicts on its deliveries.

    Five failures in a row open its circuit: it is left alone for 30 s, then one delivery goes to
    see; each one that fails doubles the wait, up to 10 minutes. Any success closes it. A hold the
    endpoint asked for with Retry-After stands whatever comes of the others.
    """
    verdicts = list(verdicts)
    held = [verdict.hold_until for verdict in verdicts if verdict.hold_until is not None]
    was_open = before.consecutive_failures >= health.OPEN_AFTER_CONSECUTIVE
    if any(verdict.succeeded for verdict in verdicts):
        # The hold of an open circuit ends with it.
        return Health(0, _latest(held if was_open else [*held, before.hold_until]))
    failures = _count(before, sum(verdict.failed for verdict in verdicts), now)
    if failures > before.consecutive_failures and failures >= health.OPEN_AFTER_CONSECUTIVE:
        held.append(now + _probe_delay(failures))
    return Health(failures, _latest([*held, before.hold_until]))


def _after(now: dt.datetime, wait: dt.timedelta | None) -> dt.datetime | None:
    return None if wait is None else now + wait


def _count(before: Health, failed: int, now: dt.datetime) -> int:
    if before.consecutive_failures < health.OPEN_AFTER_CONSECUTIVE:
        return min(before.consecutive_failures + failed, health.OPEN_AFTER_CONSECUTIVE)
    # Those that were under way when the circuit opened say nothing new; a probe does.
    waiting = before.hold_until is not None and before.hold_until > now
    return before.consecutive_failures + (1 if failed and not waiting else 0)


def _probe_delay(failures: int) -> dt.timedelta:
    doublings = min(failures - health.OPEN_AFTER_CONSECUTIVE, 10)
    delay: dt.timedelta = health.PROBE_DELAY_FIRST * 2**doublings
    return min(delay, health.PROBE_DELAY_MAX)


def _latest(instants: Iterable[dt.datetime | None]) -> dt.datetime | None:
    return max((instant for instant in instants if instant is not None), default=None)


def _kept(claimed: Claimed, attempt: transport.Attempt, began: dt.datetime) -> delivery.Attempt:
    fine = attempt.outcome is Outcome.DELIVERED
    return delivery.Attempt(
        id=ids.uuid7(began),
        at=began,
        number=claimed.attempt_count + 1,
        outcome=attempt.outcome,
        status=attempt.status,
        latency_ms=attempt.latency_ms,
        error=attempt.error,
        excerpt=None if fine else attempt.response_excerpt[:EXCERPT_LENGTH] or None,
    )
