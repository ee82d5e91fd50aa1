"""What became of each row of an import."""

from dataclasses import dataclass, field
from typing import Final

MOST_REASONS: Final = 20
"""How many refusals are told one by one."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why one row, or one event of it, was refused.

    Args:
        field: of the event; None if it is about the row.
        rejected_message_id: where the event is kept, if it is.
    """

    file: str
    line: int
    verdict: str
    field: str | None
    reason: str
    rejected_message_id: int | None


@dataclass(slots=True)
class Tally:
    """What became of everything read so far: rows, and their events by verdict.

    A row that can not be read is one `rejected`; `skipped` are empty amounts that were to be left
    out. `taken` is the bytes of all files.
    """

    rows: int = 0
    accepted: int = 0
    duplicate: int = 0
    conflict: int = 0
    rejected: int = 0
    skipped: int = 0
    taken: int = 0
    reasons: list[Reason] = field(default_factory=list)

    @property
    def events(self) -> int:
        """Events with a verdict."""
        return self.accepted + self.duplicate + self.conflict + self.rejected

    @property
    def refused(self) -> int:
        """Events that are not stored and should be."""
        return self.conflict + self.rejected
