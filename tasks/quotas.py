"""Quotas: whether a use fits into what a tenant may use, counted while it happens."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Literal, TypedDict

from models import database
from models.rules import decimals, quota
from models.rules.quota import Decision, Standing
from models.store import entitled, horizon, quota_use, usage
from models.store import quota as counters
from models.store.quota import Counted
from tasks import contract, fields
from tasks.announce import Announcement, announce_all
from tasks.queues import Queue
from tasks.usage_refused import UsageConflict
from webhooks import events


class WindowAnswer(TypedDict):
    """A limit and what was used in the window that runs. `limit` is null for one without limit."""

    window: str
    limit: str | None
    used: str
    remaining: str | None
    soft: bool
    exceeded: bool
    window_start: dt.datetime
    resets_at: dt.datetime


class QuotaAnswer(TypedDict):
    """Whether a use is allowed, and the limit that decides; all of them are in `windows`.

    `limit` and `remaining` are null for a right without limit. Without any right (`reason`
    "no_entitlement") the limit is 0 and there is no window. `exceeded`: with this use a limit is or
    would be exceeded, a soft one, where it is allowed.
    """

    tenant_id: str
    metric: str
    allowed: bool
    reason: Literal["no_entitlement", "quota_exceeded"] | None
    limit: str | None
    used: str
    remaining: str | None
    soft: bool
    exceeded: bool
    window: str | None
    window_start: dt.datetime | None
    resets_at: dt.datetime | None
    windows: list[WindowAnswer]


@contract.command("billing.check_entitlement", queue=Queue.usage)
def check_entitlement(
    session: database.Session,
    *,
    tenant_id: fields.TenantId,
    metric: fields.Metric,
    amount: fields.Amount = Decimal(1),
    as_of: fields.Instant = contract.NOW,
) -> QuotaAnswer:
    """Tell whether a tenant may use so much of a metric now, and what it has used so far.

    Runs when somebody asks; it changes nothing, so twice or half way does no harm. What it says is
    exact as of that moment and reserves nothing: to use, send billing.consume_entitlement.

    Args:
        tenant_id: who would use it.
        metric: what.
        amount: how much, above 0.
    """
    rights = entitled.find(session, [tenant_id], metrics=[metric], at=as_of).get(tenant_id)
    wanted = [] if rights is None else counters.spans(rights, tenant_id, metric, at=as_of)
    standings = [counted.standing for counted in counters.read(session, wanted)]
    return _answer(tenant_id, metric, quota.decide(standings, amount), standings)


@contract.command("billing.consume_entitlement", queue=Queue.usage)
def consume_entitlement(
    session: database.Session,
    *,
    tenant_id: fields.TenantId,
    metric: fields.Metric,
    amount: fields.Amount = Decimal(1),
    idempotency_key: fields.IdempotencyKey,
    metadata: fields.Metadata | None = None,
    as_of: fields.Instant = contract.NOW,
) -> QuotaAnswer:
    """Use so much of a metric if the tenant may, and record it as usage.

    Runs before something is done that a limit applies to. The usage event and its count are one
    transaction: a hard limit is never exceeded by a unit, however many ask at once. A refusal is an
    answer, says when the limit resets, and records nothing. Twice is harmless: the same key is one
    use and gets the first answer, also if that was a refusal. If it dies half way nothing was used,
    and the message comes back. Emits billing.quota_exceeded, once a window: at the first refusal,
    or when a soft limit is first exceeded.

    To give back what was used, send billing.void_usage with the same key.

    Args:
        tenant_id: who uses it. Without an entitlement nothing may be used.
        metric: what.
        amount: how much, above 0, at most 12 decimals; all of it or nothing.
        idempotency_key: names this use, 1 to 128 characters; the usage event has it too.
        metadata: kept with the usage event.

    Raises:
        UsageConflict: the key was used before for another usage event of the metric.
        UsageArchived: as_of is an instant whose usage is closed.
    """
    rights = entitled.find(session, [tenant_id], metrics=[metric], at=as_of).get(tenant_id)
    if rights is None:
        return _answer(tenant_id, metric, quota.decide([], amount), [])
    wanted = counters.spans(rights, tenant_id, metric, at=as_of)
    counters.lock(session, tenant_id=tenant_id, metric=metric)
    counted = counters.settle(session, wanted, now=as_of)
    event = quota_use.Use(tenant_id, metric, amount, idempotency_key, metadata or {})
    decision, standings = _use(session, event, [each.standing for each in counted], now=as_of)
    exceeded = {each.limit for each in decision.exceeded}
    after = [replace(one, used=now.used) for one, now in zip(counted, standings, strict=True)]
    tell_exceeded(session, [one for one in after if one.span.limit in exceeded], now=as_of)
    return _answer(tenant_id, metric, decision, standings)


def tell_exceeded(
    session: database.Session, exceeded: Sequence[Counted], *, now: dt.datetime
) -> int:
    """Announce windows whose limit was exceeded, each once; return how many are news.

    Their pairs must be locked, and their counters there.
    """
    unheard = [each for each in exceeded if not each.is_told]
    versions = quota_use.mark_told(session, [each.span for each in unheard], now=now)
    announce_all(
        session,
        [_announcement(unheard[place], version) for place, version in versions],
        now=now,
    )
    return len(versions)


def _use(
    session: database.Session,
    event: quota_use.Use,
    standings: Sequence[Standing],
    *,
    now: dt.datetime,
) -> tuple[Decision, Sequence[Standing]]:
    """Store the event if it fits; return what was decided and what is used now."""
    decision = quota.decide(standings, event.amount)
    if decision.allowed and quota_use.use(session, event, now=now):
        return decision, [standing.after(event.amount) for standing in standings]
    if _is_recorded(session, event, now=now):
        # It was used before, and counts already.
        return replace(quota.decide(standings, Decimal(0)), allowed=True), standings
    return decision, standings


def _is_recorded(session: database.Session, event: quota_use.Use, *, now: dt.datetime) -> bool:
    sent = {
        "tenant_id": event.tenant_id,
        "metric": event.metric,
        "idempotency_key": event.idempotency_key,
        "amount": decimals.plain(event.amount),
        "metadata": event.details,
    }
    expected = usage.expect(session, [sent], now=now)
    for late in expected.late:
        raise horizon.late(now, late.closed_until)
    for conflict in expected.conflicts:
        raise UsageConflict(
            f"idempotency_key {event.idempotency_key!r} of metric {event.metric!r} was used before "
            f"for usage with another {conflict.field}; use a new key",
            field="idempotency_key",
        )
    return bool(expected.duplicates)


def _announcement(counted: Counted, version: int) -> Announcement:
    span = counted.span
    assert span.limit.amount is not None  # noqa: S101 (what has no limit is never exceeded)
    event = events.QuotaExceeded(
        tenant_id=span.tenant_id,
        metric=span.metric,
        window=span.limit.window.value,
        window_start=span.period.start,
        resets_at=span.period.end,
        limit=span.limit.amount,
        used=counted.used,
        soft=span.limit.is_soft,
    )
    return Announcement(event, span.tenant_id, version)


def _answer(
    tenant_id: str, metric: str, decision: Decision, standings: Sequence[Standing]
) -> QuotaAnswer:
    binding = decision.binding
    reason: Literal["no_entitlement", "quota_exceeded"] | None = None
    if not decision.allowed:
        reason = "no_entitlement" if binding is None else "quota_exceeded"
    windows = [window_answer(each) for each in standings]
    deciding = next(
        (
            answer
            for answer, each in zip(windows, standings, strict=True)
            if binding is not None and each.limit == binding.limit
        ),
        None,
    )
    return {
        "tenant_id": tenant_id,
        "metric": metric,
        "allowed": decision.allowed,
        "reason": reason,
        "limit": "0" if deciding is None else deciding["limit"],
        "used": "0" if deciding is None else deciding["used"],
        "remaining": "0" if deciding is None else deciding["remaining"],
        "soft": deciding is not None and deciding["soft"],
        "exceeded": bool(decision.exceeded),
        "window": None if deciding is None else deciding["window"],
        "window_start": None if deciding is None else deciding["window_start"],
        "resets_at": None if deciding is None else deciding["resets_at"],
        "windows": windows,
    }


def window_answer(standing: Standing) -> WindowAnswer:
    """Return what is said of a limit in one window."""
    limit, remaining = standing.limit.amount, standing.remaining
    return {
        "window": standing.limit.window.value,
        "limit": None if limit is None else decimals.plain(limit),
        "used": decimals.plain(standing.used),
        "remaining": None if remaining is None else decimals.plain(remaining),
        "soft": standing.limit.is_soft,
        "exceeded": standing.is_exceeded,
        "window_start": standing.period.start,
        "resets_at": standing.period.end,
    }
