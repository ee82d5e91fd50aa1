"""Why two tenants can not become one yet: found before anything is changed, all of it at once."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from sqlalchemy import text
from sqlalchemy.orm import Session

from models.rules.refusal import Refusal


@dataclass(frozen=True, slots=True)
class Conflict:
    """One thing that stands in the way: a word for its kind, what it is, what to do about it."""

    kind: str
    reason: str


class MergeConflict(Refusal):
    """Something of the two tenants can not be one tenant's, or not yet."""

    code: ClassVar[str] = "tenant.merge_conflict"

    conflicts: tuple["Conflict", ...] = ()

    @classmethod
    def of(cls, source: str, target: str, conflicts: Sequence["Conflict"]) -> "MergeConflict":
        """Return what to say of all that stands in the way."""
        told = "; ".join(f"[{one.kind}] {one.reason}" for one in conflicts)
        refusal = cls(f"{source!r} can not be merged into {target!r}: {told}", field="source")
        refusal.conflicts = tuple(conflicts)
        return refusal


def find(session: Session, *, source: str, target: str, now: dt.datetime) -> list[Conflict]:
    """Return what stands in the way of a merge. Both tenants are locked."""
    given = {"source": source, "target": target, "now": now}
    return [
        Conflict(check.kind, check.told.format(**row._asdict()))
        for check in _CHECKS
        for row in session.execute(text(check.statement), _bound(check.statement, given))
    ]


def _bound(statement: str, given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if f":{name}" in statement}


@dataclass(frozen=True, slots=True)
class Check:
    """What stands in the way, a row each, and how it is told."""

    kind: str
    statement: str
    told: str


_LIVE = "({0}.next_invoice_at IS NOT NULL OR {0}.ended_at IS NULL OR {0}.ended_at > :now)"

_SAME_PLAN = f"""
    SELECT mine.plan_key, mine.id AS mine, theirs.id AS theirs
    FROM subscriptions AS mine JOIN subscriptions AS theirs USING (plan_key)
    WHERE mine.tenant_id = :source AND theirs.tenant_id = :target AND {_LIVE.format("mine")}
      AND tstzrange(mine.effective_at, mine.ended_at)
          && tstzrange(theirs.effective_at, theirs.ended_at)
    ORDER BY mine.plan_key, mine.id, theirs.id
"""  # noqa: S608 (constants)

# Each would be charged for what both tenants use: twice for the same.
_SAME_METRIC = f"""
    SELECT DISTINCT my_price.metric, mine.plan_key AS mine, theirs.plan_key AS theirs
    FROM subscriptions AS mine
    JOIN prices AS my_price ON my_price.plan_key = mine.plan_key AND my_price.kind = 'usage'
     AND my_price.currency = mine.currency
     AND (my_price.ended_at IS NULL OR my_price.ended_at > :now)
    JOIN prices AS their_price ON their_price.metric = my_price.metric
     AND their_price.kind = 'usage'
     AND (their_price.ended_at IS NULL OR their_price.ended_at > :now)
    JOIN subscriptions AS theirs ON theirs.plan_key = their_price.plan_key
     AND theirs.currency = their_price.currency
    WHERE mine.tenant_id = :source AND theirs.tenant_id = :target
      AND mine.plan_key <> theirs.plan_key
      AND {_LIVE.format("mine")} AND {_LIVE.format("theirs")}
      AND (mine.ended_at IS NULL OR mine.ended_at > greatest(theirs.effective_at, :now))
      AND (theirs.ended_at IS NULL OR theirs.ended_at > greatest(mine.effective_at, :now))
    ORDER BY 1, 2, 3
"""  # noqa: S608 (constants)

_ZONES = f"""
    SELECT mine.timezone AS mine, theirs.timezone AS theirs
    FROM tenants AS mine, tenants AS theirs
    WHERE mine.tenant_id = :source AND theirs.tenant_id = :target
      AND mine.timezone <> theirs.timezone AND EXISTS (
          SELECT FROM subscriptions AS one WHERE one.tenant_id = :source AND {_LIVE.format("one")}
      )
"""  # noqa: S608 (constants)

_MOVES = f"""
    SELECT tenant_id, timezone, left_at FROM tenant_zones
    WHERE tenant_id IN (:source, :target) AND EXISTS (
        SELECT FROM subscriptions AS one
        WHERE one.tenant_id = :source AND one.effective_at < left_at AND {_LIVE.format("one")}
    )
    ORDER BY tenant_id, left_at
"""  # noqa: S608 (constants)

_DRAFTS = """
    SELECT id, period_start, period_end FROM invoices
    WHERE tenant_id = :source AND state = 'draft' ORDER BY period_start, id
"""

_DUE = """
    SELECT id, plan_key, next_invoice_at FROM subscriptions
    WHERE tenant_id = :source AND next_invoice_at <= :now ORDER BY next_invoice_at, id
"""

_ERASED = """
    SELECT tenant_id, erased_at FROM tenants
    WHERE tenant_id IN (:source, :target) AND erased_at IS NOT NULL ORDER BY tenant_id
"""

_CHECKS = (
    Check(
        "erased",
        _ERASED,
        "{tenant_id} was erased at {erased_at:%Y-%m-%d}: nothing is joined to it",
    ),
    Check(
        "subscription",
        _SAME_PLAN,
        "both are on plan {plan_key} at one time (subscriptions {mine} and {theirs}); end one of "
        "them with billing.end_subscription",
    ),
    Check(
        "metric",
        _SAME_METRIC,
        "plans {mine} and {theirs} would both charge for all of {metric}; end one of the "
        "subscriptions first",
    ),
    Check(
        "timezone",
        _ZONES,
        "subscriptions have periods in {mine}, and would have them in {theirs}; give both tenants "
        "one zone with billing.set_tenant",
    ),
    Check(
        "moved",
        _MOVES,
        "{tenant_id} was in {timezone} until {left_at:%Y-%m-%d}, and subscriptions of the source "
        "have days of their own; end them first",
    ),
    Check(
        "draft",
        _DRAFTS,
        "invoice {id} of {period_start:%Y-%m-%d} to {period_end:%Y-%m-%d} is a draft; finalize it "
        "with billing.finalize_invoice",
    ),
    Check(
        "unbilled",
        _DUE,
        "subscription {id} of plan {plan_key} is to be invoiced since {next_invoice_at:%Y-%m-%d}; "
        "run billing.generate_invoices and finalize what it makes",
    ),
)
