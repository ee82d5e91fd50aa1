"""Which lines of an invoice a coupon or a tax is for."""

from pydantic import BaseModel, ConfigDict, Field

from models.rules.coupon import Scope
from tasks.fields import Metric, PlanKey, PriceKey


class LineScope(BaseModel):
    """The lines of an invoice that a coupon or a tax is for; each list that is given must match.

    Args:
        plan_keys: lines of these plans.
        price_keys: lines of these prices.
        metrics: usage lines of these metrics.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    plan_keys: list[PlanKey] = Field(default=[], max_length=100)
    price_keys: list[PriceKey] = Field(default=[], max_length=100)
    metrics: list[Metric] = Field(default=[], max_length=100)


def read(given: LineScope | None) -> Scope:
    """Return which lines are meant; all, if none are said."""
    if given is None:
        return Scope()
    return Scope(tuple(given.plan_keys), tuple(given.price_keys), tuple(given.metrics))
