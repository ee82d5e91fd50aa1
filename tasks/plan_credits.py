"""The credit that a plan gives, as messages say it."""

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, TypedDict

from pydantic import BaseModel, ConfigDict, Field

from models import database
from models.rules.allocation import InvalidTerms, Rollover, Terms
from models.rules.decimals import plain
from models.store import allocation_due, plan_credit
from tasks import fields

MOST_CREDITS = 50
"""Products that one plan gives credit of."""

LONGEST_VALIDITY = 36_525
"""Days: a hundred years."""


class CreditTerms(BaseModel):
    """What a plan gives of a product in each billing period.

    Args:
        product_key: of which product.
        credit_limit: units, above 0, at most 12 decimals.
        validity_days: local days for which it can be spent, from the one it begins on; absent,
            until the period ends.
        rollover: what becomes of what is left when the period ends: "none" writes it off, "capped"
            carries on up to `rollover_cap`, "all" carries on all of it.
        rollover_cap: units, with "capped" and only with it.
        prorate_first: whether a subscription that begins in the middle of a period gets the share
            of its local days, rounded half up to the decimals of the limit; or all of it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    product_key: fields.ProductKey
    credit_limit: fields.Amount
    validity_days: Annotated[int, Field(ge=1, le=LONGEST_VALIDITY)] | None = None
    rollover: Rollover = Rollover.none
    rollover_cap: fields.Amount | None = None
    prorate_first: bool = False


Credits = Annotated[list[CreditTerms], Field(max_length=MOST_CREDITS)]


class CreditAnswer(TypedDict):
    """What a plan gives of a product from now on."""

    product_key: str
    credit_limit: str
    validity_days: int | None
    rollover: str
    rollover_cap: str | None
    prorate_first: bool


def change(
    session: database.Session,
    plan_key: str,
    credits: Sequence[CreditTerms],  # noqa: A002 (the message calls it so)
    *,
    is_new: bool,
    now: dt.datetime,
) -> None:
    """Make `credits` what a plan gives from `now` on; its row must be locked.

    Raises:
        InvalidTerms: they contradict one another, or a product is listed twice.
        UnknownProduct: there is no product by that key.
        CreditSetLater: the plan's credit was changed at `now` or later.
    """
    counts = Counter(one.product_key for one in credits)
    for product_key, count in counts.items():
        if count > 1:
            raise InvalidTerms(
                f"credit of {product_key!r} is listed {count} times; list it once",
                field="credits",
            )
    wanted = [_terms(one) for one in credits]
    if plan_credit.set_terms(session, plan_key, wanted, is_new=is_new, now=now):
        allocation_due.open_plan(session, plan_key, now=now)


def current(session: database.Session, plan_key: str) -> list[CreditAnswer]:
    """Return what a plan gives from now on, by product."""
    return [_answer(terms) for terms in plan_credit.current(session, plan_key)]


def _terms(one: CreditTerms) -> Terms:
    return Terms(
        product_key=one.product_key,
        limit=one.credit_limit,
        validity_days=one.validity_days,
        rollover=one.rollover,
        cap=one.rollover_cap,
        prorate_first=one.prorate_first,
    )


def _answer(terms: Terms) -> CreditAnswer:
    return {
        "product_key": terms.product_key,
        "credit_limit": plain(terms.limit),
        "validity_days": terms.validity_days,
        "rollover": terms.rollover.value,
        "rollover_cap": _plain(terms.cap),
        "prorate_first": terms.prorate_first,
    }


def _plain(value: Decimal | None) -> str | None:
    return None if value is None else plain(value)
