"""A price of a plan for as long as its terms stayed the same, and the kinds of what is charged."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from models.rules import pricing

FIXED: Final = "fixed"
USAGE: Final = "usage"
SETUP: Final = "setup"
COMMITMENT: Final = "commitment"
ADJUSTMENT: Final = "adjustment"


@dataclass(frozen=True, slots=True)
class PriceVersion:
    """A price of a plan while its terms stayed the same; `metric` is None for a fixed fee.

    `ahead`: charged when a period begins, and not when it is over.
    """

    id: UUID
    plan_key: str
    price_key: str
    currency: str
    metric: str | None
    price: pricing.Price
    description: str | None
    effective_at: datetime | None
    ended_at: datetime | None
    kind: str = FIXED
    ahead: bool = False
