"""Which column of a file is which field of an event."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from worker.imports.text import UnusableFile

FIELDS: Final = ("tenant_id", "metric", "amount", "at", "idempotency_key", "metadata")
"""What a file of whole events may name: the fields of an event."""

REQUIRED: Final = ("metric", "amount")
"""What a whole event must name; its tenant and its key may come from elsewhere."""


@dataclass(frozen=True, slots=True)
class Columns:
    """What the columns of a file mean. Without a metric its rows are whole events.

    Args:
        tenant_id: whose usage it is; None takes the field `tenant_id`. A whole event's own field
            comes first.
        metrics: metrics, each with the column of its amounts.
        metric: the column that names the metric, beside `amount`.
        amount: the column of the amount.
        at: the column of the instant; None is the arrival.
        key: the columns that make a row's idempotency key; none derives it from the row.
        metadata: the columns to keep beside the amount.
        source: a part of derived keys, for files that repeat one another's rows.
        skip_empty: an empty amount is no usage, and not a fault.
    """

    tenant_id: str | None = None
    metrics: Sequence[tuple[str, str]] = ()
    metric: str | None = None
    amount: str | None = None
    at: str | None = None
    key: Sequence[str] = ()
    metadata: Sequence[str] = ()
    source: str = ""
    skip_empty: bool = False

    @property
    def are_whole(self) -> bool:
        """Whether a row is an event, field by field."""
        return not self.metrics and self.metric is None

    @property
    def amounts(self) -> Sequence[str]:
        """The columns that hold amounts."""
        if self.are_whole:
            return ("amount",)
        return [column for _, column in self.metrics] or [str(self.amount)]

    @property
    def named(self) -> list[str]:
        """The columns that each row must have."""
        tenant = () if self.tenant_id else ("tenant_id",)
        if self.are_whole:
            return [*tenant, *REQUIRED]
        others = [each for each in (self.metric, self.at) if each]
        named = [*tenant, *self.amounts, *others, *self.key, *self.metadata]
        return list(dict.fromkeys(named))


def check(name: str, header: Sequence[str], columns: Columns) -> None:
    found = f"there are {', '.join(map(repr, header))}"
    missing = [column for column in columns.named if column not in header]
    if missing:
        one = "no column is named" if len(missing) == 1 else "no columns are named"
        raise UnusableFile(name, f"{one} {', '.join(map(repr, missing))}; {found}")
    unknown = [column for column in header if column not in FIELDS]
    if columns.are_whole and unknown:
        raise UnusableFile(
            name,
            f"{', '.join(map(repr, unknown))} is no field of an event; say with --metric, --at and "
            f"--metadata what the columns are; {found}",
        )
