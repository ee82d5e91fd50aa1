"""How metrics are counted, and which of them nobody charges for."""

from typing import Annotated, Literal, TypedDict

from pydantic import BaseModel, ConfigDict, Field

from models import database
from models.rules import meter as rules
from models.rules.meter import Aggregation, RoundingMode
from models.store import entitlement, meter
from tasks import contract, fields
from tasks.queues import Queue

LARGEST_PAGE = 1_000
"""Metrics of one answer."""

FilterText = Annotated[str, Field(min_length=1, max_length=256)]
Filters = Annotated[
    dict[fields.Key64, Annotated[list[FilterText], Field(min_length=1, max_length=100)]],
    Field(max_length=20),
]
"""For each of at most 20 keys of an event's metadata the texts that count, at most 100."""


class Rounding(BaseModel):
    """How the quantity of a period is rounded, once, when it is billed or read.

    Args:
        decimals: 0 to 12.
        mode: "half_up" to the nearer step, "up" away from zero, "down" towards zero.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    decimals: int = Field(ge=0, le=rules.MOST_DECIMALS)
    mode: RoundingMode


class RoundingAnswer(TypedDict):
    """How a quantity is rounded."""

    decimals: int
    mode: str


class MeterAnswer(TypedDict):
    """How a metric is counted. `version` counts the changes; 0 for a metric without a meter."""

    metric: str
    aggregation: str
    unit: str | None
    value_field: str | None
    filters: dict[str, list[str]]
    rounding: RoundingAnswer | None
    allow_corrections: bool
    active: bool
    version: int


class ListedMeter(MeterAnswer):
    """The same, and whether there is usage of it and a price that charges for it."""

    used: bool
    priced: bool


class MetersAnswer(TypedDict):
    """Metrics by name. `unpriced` names those with usage that no price in force charges for.

    `next_after` is the `after` of the next page, None on the last one.
    """

    meters: list[ListedMeter]
    unpriced: list[str]
    next_after: str | None


@contract.command("billing.set_meter", queue=Queue.billing)
def set_meter(
    session: database.Session,
    *,
    metric: fields.Metric,
    aggregation: Aggregation = Aggregation.sum,
    unit: fields.Key64 | None = None,
    value_field: fields.Key64 | None = None,
    filters: Filters | None = None,
    rounding: Rounding | None = None,
    allow_corrections: bool = False,
    active: bool = True,
    as_of: fields.Instant = contract.NOW,
) -> MeterAnswer:
    """Make a metric's meter be what is given; what is left out has its default.

    Runs when an operator or a deployment sends it. If something else is counted from now on, the
    days that no finalized invoice has charged for are counted anew by the next roll-ups, and by an
    invoice that comes before them. Days that are billed keep their totals until an event of theirs
    arrives late. Twice is harmless: the same meter again changes nothing. If it dies half way
    nothing has changed.

    Args:
        metric: whose meter, 1 to 64 characters.
        aggregation: what a period's events come to: "sum" of their values, "count" of events,
            "max", "unique_count" of different values, or "latest" value.
        unit: what one is called, for people.
        value_field: the key of an event's metadata that holds its value; the amount, if absent. A
            number for all but unique_count. An event that has none does not count.
        filters: an event counts if for each key its metadata has one of the texts.
        rounding: of a period's quantity; not of events.
        allow_corrections: whether events may have a negative amount.
        active: false puts the meter away: it counts on, and is listed only when asked for.
        as_of: when it changes.

    Raises:
        InvalidMeter: a count was given a value field.
        MeterOfQuota: the metric has entitlements, and would not simply be summed any more.
    """
    terms = rules.Terms(
        definition=rules.Definition(
            aggregation=aggregation,
            value_field=value_field,
            filters={key: sorted(set(texts)) for key, texts in (filters or {}).items()},
        ),
        unit=unit,
        rounding=None if rounding is None else rules.Rounding(rounding.decimals, rounding.mode),
        allow_corrections=allow_corrections,
        active=active,
    )
    version = meter.put(session, metric, terms, now=as_of)
    if terms.definition != rules.PLAIN:
        entitlement.check_unlimited(session, metric, now=as_of)
    return answer(metric, terms, version)


@contract.command("billing.list_meters", queue=Queue.billing)
def list_meters(
    session: database.Session,
    *,
    after: Annotated[str, Field(max_length=64)] = "",
    limit: Annotated[int, Field(ge=1, le=LARGEST_PAGE)] = 100,
    show: Literal["active", "all"] = "active",
    as_of: fields.Instant = contract.NOW,
) -> MetersAnswer:
    """List metrics that have a meter or usage, by name, and say which are used but not priced.

    Runs when an operator asks. It only reads: twice is harmless, and so is dying half way. Usage
    counts as such once it was rolled up.

    Args:
        after: the name after which to begin.
        limit: how many, 1 to 1,000.
        show: "all" lists also meters that were put away.
        as_of: when prices must be in force.
    """
    found = meter.listed(session, now=as_of, limit=limit, after=after, inactive=show == "all")
    return {
        "meters": [
            {
                **answer(one.metric, one.terms or rules.UNMETERED, one.version),
                "used": one.is_used,
                "priced": one.is_priced,
            }
            for one in found
        ],
        "unpriced": [one.metric for one in found if one.is_used and not one.is_priced],
        "next_after": found[-1].metric if len(found) == limit else None,
    }


def answer(metric: str, terms: rules.Terms, version: int) -> MeterAnswer:
    """Return a meter as tasks answer it."""
    definition, rounding = terms.definition, terms.rounding
    return {
        "metric": metric,
        "aggregation": definition.aggregation.value,
        "unit": terms.unit,
        "value_field": definition.value_field,
        "filters": {key: list(texts) for key, texts in definition.filters.items()},
        "rounding": None
        if rounding is None
        else {"decimals": rounding.decimals, "mode": rounding.mode.value},
        "allow_corrections": terms.allow_corrections,
        "active": terms.active,
        "version": version,
    }
