"""What a subscription owes for a billing period, line by line.

As a rule everything is counted in local days: a period, a subscription and a version of a price are
each a run of days, and a line covers the days that all three share. The day on which something
changes belongs to what comes after the change. Fees and commitments of a plan that is prorated by
the second are counted in seconds, in the same way; usage is not: it is the days that are counted.

Days and seconds (`spans`) are what a subscription (`subscription`) and the versions of its prices
(`price_version`) share of a period (`chargeable`). Each such charge (`charge`) is `priced`, and is
an `invoice_line` then.
"""

from models.rules.billing.charge import Charge, units_of
from models.rules.billing.chargeable import charge_for, charged_ahead, charges
from models.rules.billing.invoice_line import Line, Plain, is_by_second
from models.rules.billing.price_version import (
    ADJUSTMENT,
    COMMITMENT,
    FIXED,
    SETUP,
    USAGE,
    PriceVersion,
)
from models.rules.billing.priced import line, lines, total
from models.rules.billing.spans import Days, Span, between, cut, days_between, midnight
from models.rules.billing.subscription import (
    Cycle,
    Seats,
    Subscription,
    due_at,
    replacement,
    unbilled,
)

__all__ = [
    "ADJUSTMENT",
    "COMMITMENT",
    "FIXED",
    "SETUP",
    "USAGE",
    "Charge",
    "Cycle",
    "Days",
    "Line",
    "Plain",
    "PriceVersion",
    "Seats",
    "Span",
    "Subscription",
    "between",
    "charge_for",
    "charged_ahead",
    "charges",
    "cut",
    "days_between",
    "due_at",
    "is_by_second",
    "line",
    "lines",
    "midnight",
    "replacement",
    "total",
    "unbilled",
    "units_of",
]
