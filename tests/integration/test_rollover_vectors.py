"""Published cases of credit that comes again, and of what is carried into the next period.

Both are a plan's doing here. The other rows of the file are run elsewhere.
"""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from tasks.wallets import get_wallet
from tests.integration import wallet
from tests.integration.billing_world import instant, query
from tests.integration.plan_credits import give, join, plan, renew

FILE = Path(__file__).parents[1] / "vectors" / "credits.json"


RECURRING = "V194"
"""Its model is that of grants which come once."""

RUN = [
    row
    for row in json.loads(FILE.read_text(encoding="utf-8"))
    if row["model"] in {"reset_with_rollover", "rollover"} or row["id"] == RECURRING
]


def rows(model: str) -> Any:
    """The rows of one model; there must be some."""
    found = [row for row in RUN if row["model"] == model]
    assert found, model
    return pytest.mark.parametrize("row", found, ids=[row["id"] for row in found])


def spend(amount: Decimal, day: str) -> None:
    at = (instant(day) - wallet.START).days
    assert wallet.consume(amount, day, day=at)["consumed"] is True


def remaining() -> dict[str, Decimal]:
    """What is left of batches that have not ended, by where they came from."""
    left = query("""
        SELECT source, sum(remaining_amount) FROM credit_batches
        WHERE state IN ('ACTIVE', 'EXHAUSTED') GROUP BY source
    """)
    return dict(left)


@rows("reset_with_rollover")
def test_a_published_reset_carries_no_more_than_its_cap(db: Engine, row: dict[str, Any]) -> None:
    params = row["params"]
    wallet.product()
    plan(give(params["grant"], rollover="capped", rollover_cap=params["reset_max_rollover"]))
    join("2026-03-01T00:00")
    spend(Decimal(row["input"]["used_before_reset"]), "2026-03-20")

    renew("2026-04-01")

    assert remaining()["rollover"] == Decimal(row["expected_amount"])


@rows("rollover")
def test_a_published_rollover_is_spent_before_the_period_s_own_credit(
    db: Engine, row: dict[str, Any]
) -> None:
    grant, rolled_over = (
        Decimal(row["params"][name]) for name in ("grant_per_month", "rolled_over")
    )
    wallet.product()
    plan(give(grant, rollover="all"))
    join("2026-03-01T00:00")
    spend(grant - rolled_over, "2026-03-20")
    renew("2026-04-01")
    assert remaining()["rollover"] == rolled_over

    spend(Decimal(row["input"]["use"]), "2026-04-10")

    left = remaining()
    assert left["rollover"] == Decimal(row["expected"]["rollover"])
    assert left["plan"] == Decimal(row["expected"]["main"])
    (shown,) = get_wallet(tenant_id="acme", as_of=instant("2026-04-10"))["products"]
    assert Decimal(shown["available"]) == Decimal(row["expected_amount"])


@rows("credit_burn_down")
def test_a_published_grant_that_comes_again_each_day_begins_anew(
    db: Engine, row: dict[str, Any]
) -> None:
    (grant,) = row["params"]["grants"]
    assert grant["recurrence"] == "daily"
    wallet.product()
    plan(give(grant["amount"]), interval="day")
    join("2026-03-01T00:00")
    spend(Decimal(100), "2026-03-01T12:00")
    renew("2026-03-02")

    spend(Decimal(20), "2026-03-02T12:00")

    (shown,) = get_wallet(tenant_id="acme", as_of=instant("2026-03-02T12:00"))["products"]
    assert shown["available"] == row["expected_amount"] == row["expected"]["balances"]["g1"]
