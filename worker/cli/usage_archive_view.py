"""How archives of usage are shown, and what holds usage back."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from models.rules import period
from models.rules.retention import Holding
from models.store.standing import Candidate
from models.usage_archive import UsageArchive
from tasks.archiving import ArchiveAnswer

REASONS = {
    Holding.age: "what follows is not old enough",
    Holding.unbilled: "a subscription has days without an invoice",
    Holding.draft: "an invoice is a draft",
    Holding.late: "usage came after its invoice and is not billed yet",
    Holding.void: "an invoice was withdrawn and not made up for",
    Holding.uninvoiced: "no final invoice reaches further",
}
BEHIND = "some of it waits for a roll-up"


def summary(answer: ArchiveAnswer) -> str:
    """Return in a line or two what a run did."""
    done = (
        f"tenants closed {answer['closed']:,}, files written {answer['written']:,}, "
        f"events purged {answer['purged']:,}, keys forgotten {answer['forgotten']:,}"
    )
    more = [] if answer["finished"] else ["there is more to do: run it again"]
    return "\n".join([done, *answer["unsound"], *more])


def candidate_as_json(one: Candidate, events: int) -> dict[str, Any]:
    """Return what would leave of a tenant's usage, and what holds back the rest."""
    leaves = one.is_settled and not one.is_behind
    return {
        "tenant_id": one.tenant_id,
        "open_since": one.first_at.isoformat(),
        "leaves_until": one.closes_at.isoformat() if leaves else None,
        "events": events if leaves else 0,
        "held_by": "behind" if one.is_settled and one.is_behind else one.settled.held_by.value,
    }


def candidates(found: Sequence[dict[str, Any]]) -> Table:
    """Return a table of what would leave."""
    table = Table("tenant", "open since", "leaves until", "events", "then held back, since")
    for one in found:
        table.add_row(
            one["tenant_id"],
            one["open_since"],
            one["leaves_until"] or "stays",
            f"{one['events']:,}",
            BEHIND if one["held_by"] == "behind" else REASONS[Holding(one["held_by"])],
        )
    return table


def as_json(one: UsageArchive) -> dict[str, Any]:
    """Return an archive as JSON."""
    month = period.local_day(one.period_start, period.zone(one.timezone))
    return {
        "id": one.id,
        "tenant_id": one.tenant_id,
        "month": f"{month:%Y-%m}",
        "period_start": one.period_start.isoformat(),
        "period_end": one.period_end.isoformat(),
        "part": one.part,
        "state": one.state,
        "file": one.name,
        "events": one.event_count,
        "bytes": one.byte_count,
        "sha256": None if one.sha256 is None else one.sha256.hex(),
        "totals": one.totals,
        "first_at": None if one.first_at is None else one.first_at.isoformat(),
        "last_at": None if one.last_at is None else one.last_at.isoformat(),
        "purged_at": None if one.purged_at is None else one.purged_at.isoformat(),
    }


def table(found: Sequence[dict[str, Any]]) -> Table:
    """Return a table of archives."""
    table = Table("id", "tenant", "month", "part", "state", "events", "bytes", "file")
    for one in found:
        table.add_row(
            str(one["id"]),
            one["tenant_id"],
            one["month"],
            str(one["part"]),
            one["state"],
            f"{one['events']:,}",
            f"{one['bytes']:,}",
            one["file"] or "",
        )
    return table
