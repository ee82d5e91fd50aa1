"""Published runs of the clock: a billing day makes one invoice, however often it is looked at."""

import datetime as dt

import pytest
from sqlalchemy import Engine

from models.rules import period
from tasks.invoice_runs import generate_invoices
from tests.integration.billing_world import fee, instant, make_plan, subscribe
from tests.unit.rules import vectors
from tests.unit.rules.test_period import INTERVAL_OF
from tests.unit.rules.vectors import Row

KINDS = ("run_before", "run_on_billing_day", "run_after")


def made(tenant_id: str, row: Row) -> dict[str, int]:
    """How many invoices the runs of each kind make, carried out in the order of their instants."""
    runs = sorted((instant(run), kind) for kind in KINDS for run in row["input"][kind])
    found = dict.fromkeys(KINDS, 0)
    for at, kind in runs:
        found[kind] += generate_invoices(tenant_id=tenant_id, as_of=at)["invoices"]
    return found


def catch_up(tenant_id: str, row: Row) -> None:
    """Bill what was over before the billing day: these tenants are years old."""
    zone = period.zone(row["params"]["timezone"])
    first = min(map(instant, row["input"]["run_on_billing_day"]))
    midnight = period.local_midnight(period.local_day(first, zone), zone)
    generate_invoices(tenant_id=tenant_id, as_of=midnight - dt.timedelta(microseconds=1))


@pytest.mark.slow
def test_published_runs_of_the_clock_make_one_invoice_a_billing_day(db: Engine) -> None:
    rows = vectors.rows("billing_clock", "invoices_created_by_repeated_clock_runs")
    found = {}
    for row in rows:
        params, tenant_id = row["params"], row["id"]
        interval = "month" if params["usage_billed_monthly"] else INTERVAL_OF[params["interval"]]
        make_plan(
            fee("10", currency=row["currency"]),
            plan_key=tenant_id,
            interval=interval,
            anchor=params["billing"],
            as_of=instant("2010-01-01"),
        )
        subscribe(
            tenant_id,
            row["input"]["subscription_start"],
            plan_key=tenant_id,
            timezone=params["timezone"],
            currency=row["currency"],
        )
        catch_up(tenant_id, row)
        found[tenant_id] = made(tenant_id, row)

    assert found == {
        row["id"]: {**dict.fromkeys(KINDS, 0), "run_on_billing_day": int(row["expected_amount"])}
        for row in rows
    }
