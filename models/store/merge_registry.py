"""What becomes of each table's rows when a tenant becomes part of another one.

A table that names a tenant stands here once for each of its columns that does; a test fails when
one is missing. Most are one line: `Repoint(table)`.

A unique index that holds the tenant's column may be hit: both may have redeemed one coupon, both
may have referred one customer. Then the row of the target stays what it is, and that of the source
stays behind under the alias, as history: it is not deleted, counts no second time, and the merge is
not refused for it. `clash` says in SQL over `mine` (the source's row) and `theirs` (the target's)
when that is; it is required where there is such an index. Where staying behind would lose something
that runs, the conflict is found and refused before (merge_conflict.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from sqlalchemy import text
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class Repoint:
    """Rows become the target's.

    Args:
        clash: when a row stays behind, because the target has one in its place.
        only: which rows move; the others stay. It may name `:now`, `:source` and `:target`, such
            as "mine.referee_id <> :target": nobody comes to have referred itself.
        along: what else is set in a row that moves.
    """

    table: str
    column: str = "tenant_id"
    clash: str | None = None
    only: str = "true"
    along: str = ""

    @property
    def statement(self) -> str:
        """The statement that moves them."""
        stays = "false"
        if self.clash is not None:
            stays = (
                f"EXISTS (SELECT FROM {self.table} AS theirs "
                f"WHERE theirs.{self.column} = :target AND {self.clash})"
            )
        return (
            f"UPDATE {self.table} AS mine SET {self.column} = :target{self.along} "  # noqa: S608
            f"WHERE mine.{self.column} = :source AND ({self.only}) AND NOT {stays}"
        )


@dataclass(frozen=True, slots=True)
class Stays:
    """Rows stay the source's, and readers find them through the alias."""

    table: str
    why: str
    column: str = "tenant_id"


@dataclass(frozen=True, slots=True)
class Special:
    """Something of its own is done, by the module that is named."""

    table: str
    module: str
    column: str = "tenant_id"


Entry = Repoint | Stays | Special

LIVE: Final = "mine.next_invoice_at IS NOT NULL OR mine.ended_at IS NULL OR mine.ended_at > :now"
"""Subscriptions that run, are to begin, or are still to be invoiced."""

LOOPLESS: Final = """NOT EXISTS (
    WITH RECURSIVE above (tenant_id) AS (
        SELECT {first}
        UNION
        SELECT referral.referrer_tenant_id
        FROM referrals AS referral JOIN above ON referral.referee_tenant_id = above.tenant_id
    )
    SELECT FROM above WHERE tenant_id = {last}
)"""
"""Referrals that would not make a tenant have brought itself, by way of others perhaps."""

REGISTRY: Final[tuple[Entry, ...]] = (
    Repoint("coupon_redemptions", clash="theirs.coupon_key = mine.coupon_key"),
    Repoint("coupons"),
    Repoint("credit_allocations"),
    Special("credit_balances", "merge_credit"),
    Special("credit_batches", "merge_credit"),
    Stays("credit_notes", "append-only, printed in the name it was made in"),
    Repoint(
        "credit_notices",
        clash="theirs.product_key = mine.product_key",
        # No version of the target's balance was seen by it.
        along=", version_seen = -1, look_at = NULL",
    ),
    Repoint("endpoints"),
    Repoint(
        "entitlements",
        clash="theirs.metric = mine.metric AND theirs.window_unit = mine.window_unit "
        "AND tstzrange(theirs.effective_at, theirs.ended_at) "
        "&& tstzrange(mine.effective_at, mine.ended_at)",
    ),
    Repoint(
        "idempotency_keys", clash="theirs.operation = mine.operation AND theirs.key = mine.key"
    ),
    Stays("invoice_syncs", "of the source's own invoices"),
    Stays("invoices", "frozen; a draft would be billed twice and refuses the merge"),
    Stays("late_usage", "of the source's own invoices"),
    Special("ledger_entries", "merge_credit"),
    Repoint("legacy_rows"),
    Repoint("orders"),
    Stays("outbox_messages", "immutable; fan-out follows the alias"),
    Stays("parked_tenants", "nothing of the source is left to be billed, or its own invoices"),
    Stays("payments", "append-only, of the source's own invoices"),
    Stays("provider_customers", "whom the provider has the source's own invoices for"),
    Special("quota_arrivals", "merge_usage"),
    Special("quota_counters", "merge_usage"),
    Repoint(
        "referrals",
        "referee_tenant_id",
        clash="true",
        only=LOOPLESS.format(first="mine.referrer_tenant_id", last=":target"),
    ),
    Repoint(
        "referrals",
        "referrer_tenant_id",
        only=LOOPLESS.format(first="CAST(:target AS text)", last="mine.referee_tenant_id"),
    ),
    Repoint("rejected_messages"),
    Repoint("reservations"),
    # The same plan at one time is refused before.
    Repoint("subscriptions", clash="false", only=LIVE),
    Stays("tax_profiles", "the target is who is taxed, and how is said of it"),
    Repoint("tenant_identities"),
    Stays("tenant_merges", "who became part of whom", "source_id"),
    Stays("tenant_merges", "of whom it became part then", "target_id"),
    Stays("tenant_zones", "of the source's own invoices; it refuses the merge while it is billed"),
    Special("tenants", "merging", "tenant_id"),
    Special("tenants", "merging", "merged_into"),
    Repoint("trials"),
    Special("usage_aggregates", "merge_usage"),
    Stays("usage_archives", "its files hold the source's closed usage"),
    Special("usage_events", "merge_usage"),
    Stays("usage_horizons", "what is closed stays behind"),
    Special("usage_quarter_hours", "merge_usage"),
    Special("usage_voids", "merge_usage"),
)


def repoint(session: Session, given: Mapping[str, object]) -> dict[str, int]:
    """Move the rows of all tables that simply move; return how many by table.

    Args:
        given: `source`, `target` and `now`.
    """
    moved = dict[str, int]()
    for entry in REGISTRY:
        if isinstance(entry, Repoint):
            bound = {name: value for name, value in given.items() if f":{name}" in entry.statement}
            done = cast("CursorResult[Any]", session.execute(text(entry.statement), bound))
            moved[entry.table] = moved.get(entry.table, 0) + done.rowcount
    return {table: count for table, count in moved.items() if count}
