"""Rating: what usage and fees cost.

A price (`price`) has a model (`units`, `tiers`, `blocks`, `percentage`) for each part of the usage;
`rating` makes a line of it, whose steps (`step`) say how. `params` reads and writes prices as JSON.
"""

from models.rules.pricing.blocks import Block, BlockCharge, Blocks, Capacity, Room
from models.rules.pricing.checks import InvalidPrice
from models.rules.pricing.filter import Filter
from models.rules.pricing.params import read, write
from models.rules.pricing.percentage import NO_REST, Dynamic, Percentage
from models.rules.pricing.price import Price, Stretch
from models.rules.pricing.rating import WHOLE, Line, fee, less, rate
from models.rules.pricing.reader import Reader
from models.rules.pricing.step import Step, StepKind, as_json
from models.rules.pricing.tariff import Model, Tariff
from models.rules.pricing.tiers import (
    Graduated,
    GraduatedPercentage,
    PercentTier,
    Tier,
    TierLookup,
    Volume,
)
from models.rules.pricing.units import Fixed, Package, PackageRounding, PerUnit
from models.rules.pricing.usage import (
    NOTHING,
    Event,
    Part,
    Unpriceable,
    Usage,
    levels,
    of_events,
    part_order,
    recurring,
    total,
)

__all__ = [
    "NOTHING",
    "NO_REST",
    "WHOLE",
    "Block",
    "BlockCharge",
    "Blocks",
    "Capacity",
    "Dynamic",
    "Event",
    "Filter",
    "Fixed",
    "Graduated",
    "GraduatedPercentage",
    "InvalidPrice",
    "Line",
    "Model",
    "Package",
    "PackageRounding",
    "Part",
    "PerUnit",
    "PercentTier",
    "Percentage",
    "Price",
    "Reader",
    "Room",
    "Step",
    "StepKind",
    "Stretch",
    "Tariff",
    "Tier",
    "TierLookup",
    "Unpriceable",
    "Usage",
    "Volume",
    "as_json",
    "fee",
    "less",
    "levels",
    "of_events",
    "part_order",
    "rate",
    "read",
    "recurring",
    "total",
    "write",
]
