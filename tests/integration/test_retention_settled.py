"""What may leave: only months that are old, counted, and final in every invoice that needs them."""

import dataclasses
import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from models import database
from models.store import closing, standing
from tasks import config
from tasks.aggregation import aggregate_usage
from tasks.archive_file import ArchiveFolderUnusable
from tasks.invoice_runs import generate_invoices
from tasks.meters import set_meter
from tasks.payments import record_payment
from tasks.subscriptions import end_subscription
from tasks.unpaid import write_off_invoice
from tests.integration import archive_world as world
from tests.integration.archive_world import event
from tests.integration.billing_world import instant, make_plan, query, subscribe, usage_price


@pytest.fixture(autouse=True)
def folder(db: Engine, tmp_path: Path) -> Path:
    """A folder for archives, and the rule that usage goes there."""
    world.keep_in(tmp_path)
    return tmp_path


def horizon() -> dt.datetime | None:
    found = query("SELECT closed_until FROM usage_horizons")
    return found[0][0] if found else None


def use_each_month(*months: str, tenant_id: str = "acme") -> None:
    events = [
        event(f"{month}-{day}", f"{month}-{day:02}T12:00:00Z", tenant_id=tenant_id)
        for month in months
        for day in (3, 20)
    ]
    world.record(*events)
    aggregate_usage(as_of=world.ARRIVED)


def change_invoices(change: str) -> None:
    with database.transaction() as session:
        session.execute(text(f"UPDATE invoices SET {change}"))  # noqa: S608 (a test's own words)


def test_nothing_leaves_unless_that_is_set(folder: Path) -> None:
    world.on_a_plan()
    use_each_month("2026-01")
    world.bill()
    config.use(dataclasses.replace(config.current(), retention=None))

    assert world.archive() == world.NOTHING
    assert horizon() is None


def test_a_month_leaves_when_it_ended_so_long_ago_and_not_a_moment_before(folder: Path) -> None:
    world.on_a_plan()
    use_each_month("2026-01", "2026-02")
    world.bill()
    february_is_old = instant("2026-03-01T00:00:00") + world.AGE

    assert world.archive(february_is_old - dt.timedelta(microseconds=1))["purged"] == 2
    assert horizon() == instant("2026-02-01")
    assert world.archive(february_is_old)["purged"] == 2
    assert horizon() == instant("2026-03-01")


def test_a_month_that_is_not_invoiced_stays(folder: Path) -> None:
    world.on_a_plan()
    use_each_month("2026-01", "2026-02")
    world.bill("2026-02-05")

    assert world.archive()["purged"] == 2
    assert horizon() == instant("2026-02-01")


def test_a_month_whose_invoice_is_a_draft_stays(folder: Path) -> None:
    world.on_a_plan()
    use_each_month("2026-01")
    generate_invoices(as_of=instant("2026-02-01T01:00:00"))
    assert query("SELECT state FROM invoices") == [("draft",)]

    assert world.archive() == world.NOTHING
    assert horizon() is None


def test_a_month_whose_late_usage_is_not_billed_yet_stays(folder: Path) -> None:
    world.on_a_plan()
    use_each_month("2026-01", "2026-02")
    world.bill("2026-02-05")
    world.record(event("late", "2026-01-09T00:00:00Z"))
    aggregate_usage(as_of=instant("2026-02-06"))
    assert query("SELECT count(*) FROM late_usage") == [(1,)]

    assert world.archive() == world.NOTHING
    world.bill()
    assert query("SELECT count(*) FROM late_usage") == [(0,)]
    assert world.archive()["purged"] > 0


def test_a_month_whose_invoice_was_withdrawn_stays_until_that_is_allowed(folder: Path) -> None:
    world.on_a_plan()
    use_each_month("2026-01", "2026-02")
    world.bill()
    change_invoices("state = 'void' WHERE number = 'INV-000001'")

    assert world.archive() == world.NOTHING
    world.keep_in(folder, even_uninvoiced=True)
    assert world.archive()["purged"] == 4


@pytest.mark.parametrize("state", ["paid", "uncollectible"])
def test_a_month_whose_invoice_is_paid_or_written_off_leaves(folder: Path, state: str) -> None:
    world.on_a_plan()
    use_each_month("2026-01")
    world.bill()
    owed = query("SELECT id, amount_due_minor FROM invoices WHERE state = 'finalized'")
    for invoice_id, due_minor in owed:
        if state == "paid":
            record_payment(
                invoice_id=invoice_id, payment_id=str(invoice_id), amount=Decimal(due_minor) / 100
            )
        else:
            write_off_invoice(invoice_id=invoice_id, reason="nobody pays")
    assert len(owed) == 1

    assert world.archive()["purged"] == 2


def test_usage_of_a_tenant_that_is_never_billed_stays_until_that_is_allowed(folder: Path) -> None:
    use_each_month("2026-01", tenant_id="free")

    assert world.archive() == world.NOTHING
    world.keep_in(folder, even_uninvoiced=True)
    assert world.archive()["purged"] == 2


def test_usage_from_before_the_first_subscription_leaves_with_what_was_billed_after(
    folder: Path,
) -> None:
    make_plan(usage_price("api", "0.01"), anchor="anniversary")
    subscribe("acme", "2026-02-10")
    use_each_month("2026-01", "2026-02")
    world.bill("2026-03-15")

    assert world.archive()["purged"] == 4
    # The second period ends within March: the month is not settled.
    assert horizon() == instant("2026-03-01")


def test_the_slowest_subscription_decides(folder: Path) -> None:
    world.on_a_plan()
    make_plan(usage_price("disk", "1"), plan_key="slow", interval="year")
    subscribe("acme", "2026-01-01", plan_key="slow")
    use_each_month("2026-01")
    world.bill()

    assert world.archive() == world.NOTHING


def test_a_subscription_that_ended_holds_nothing_back_once_it_is_billed(folder: Path) -> None:
    world.on_a_plan()
    use_each_month("2026-01", "2026-02")
    end_subscription(
        tenant_id="acme",
        plan_key="pro",
        ended_at=instant("2026-02-01"),
        idempotency_key="end",
        as_of=instant("2026-01-31"),
    )
    world.bill()

    # Nobody was charged for February, and nobody may find that out too late.
    assert world.archive()["purged"] == 2
    assert horizon() == instant("2026-02-01")


def test_usage_that_waits_for_a_roll_up_keeps_its_tenant(folder: Path) -> None:
    world.on_a_plan()
    world.on_a_plan("bob")
    use_each_month("2026-01")
    use_each_month("2026-01", tenant_id="bob")
    world.bill()
    world.record(event("late", "2026-01-09T00:00:00Z"))

    assert world.archive()["purged"] == 2
    assert query("SELECT tenant_id FROM usage_horizons") == [("bob",)]
    aggregate_usage(as_of=world.OLD)
    assert world.archive() == world.NOTHING
    world.bill("2026-06-03")
    assert world.archive()["purged"] == 3
    assert world.totals()[1][3:] == (1, 1)


def test_usage_that_comes_between_the_look_and_the_closing_keeps_its_tenant(folder: Path) -> None:
    world.on_a_plan()
    use_each_month("2026-01")
    world.bill()
    rule = standing.Rule(world.AGE)
    with database.transaction() as session:
        (seen,) = standing.find(session, rule, after="", limit=9, now=world.OLD).candidates
    assert seen.is_settled
    assert not seen.is_behind

    world.record(event("late", "2026-01-09T00:00:00Z"))

    with database.transaction() as session:
        assert closing.close(session, rule, [seen.tenant_id], now=world.OLD) == []
    assert query("SELECT count(*) FROM usage_horizons") == [(0,)]


def test_a_meter_that_changed_is_counted_by_before_anything_is_closed(folder: Path) -> None:
    world.on_a_plan()
    use_each_month("2026-01")
    world.record(event("big", "2026-01-03T13:00:00Z", "5", metric="disk"))
    world.bill()
    set_meter(metric="disk", aggregation="count")

    assert world.archive() == world.NOTHING
    world.bill("2026-06-03")
    assert world.archive()["purged"] == 3
    assert [row[3] for row in world.totals() if row[1] == "disk"] == [1]


def test_months_are_the_tenants_own(folder: Path) -> None:
    world.on_a_plan(timezone="Asia/Tokyo")
    world.record(
        event("december", "2025-12-31T14:59:59Z"),
        event("january", "2026-01-31T14:59:59Z"),
        event("february", "2026-01-31T15:00:00Z"),
        event("march", "2026-02-28T15:00:00Z"),
    )
    world.bill()
    as_of = instant("2026-02-28T15:00:00") + world.AGE

    assert world.archive(as_of)["purged"] == 3
    assert horizon() == instant("2026-02-28T15:00:00")
    assert [path.name[:7] for path in world.files(folder)] == ["2025-12", "2026-01", "2026-02"]


def test_tenants_are_looked_at_page_by_page(folder: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("tasks.archiving.TENANTS_CHUNK", 2)
    for number in range(5):
        world.on_a_plan(f"t{number}")
        use_each_month("2026-01", tenant_id=f"t{number}")
    world.bill()

    assert world.archive() == {**world.NOTHING, "closed": 5, "written": 5, "purged": 10}


def test_a_folder_that_is_not_there_is_not_made(folder: Path) -> None:
    world.on_a_plan()
    use_each_month("2026-01")
    world.bill()
    world.keep_in(folder / "not-mounted")

    with pytest.raises(ArchiveFolderUnusable, match="not-mounted"):
        world.archive()

    assert horizon() is None
    assert world.files(folder) == []


def test_only_what_a_verified_archive_holds_can_be_deleted(folder: Path) -> None:
    use_each_month("2026-01")

    def delete() -> None:
        with database.transaction() as session:
            session.execute(text("DELETE FROM usage_events WHERE amount = 1"))

    def keep(state: str) -> None:
        columns = {
            "written": "name = 'x', sha256 = '', written_at = now()",
            "verified": "name = 'x', sha256 = '', written_at = now()",
        }
        with database.transaction() as session:
            session.execute(
                text(f"UPDATE usage_archives SET state = '{state}', {columns[state]}")  # noqa: S608
            )

    with pytest.raises(DBAPIError, match="append-only"):
        delete()
    with database.transaction() as session:
        session.execute(
            text("""
                WITH archive AS (
                    INSERT INTO usage_archives (tenant_id, period_start, period_end, timezone)
                    VALUES ('acme', '2026-01-01Z', '2026-02-01Z', 'UTC') RETURNING id
                )
                INSERT INTO usage_purged_keys
                SELECT event.id, event.at, 0, archive.id, false, amount
                FROM usage_events AS event, archive
            """)
        )
    keep("written")
    with pytest.raises(DBAPIError, match="append-only"):
        delete()
    keep("verified")
    with database.transaction() as session:
        session.execute(text("DELETE FROM usage_purged_keys WHERE at > '2026-01-10Z'"))
    with pytest.raises(DBAPIError, match="append-only"):
        delete()
    assert world.keys() == 2
    with database.transaction() as session:
        session.execute(text("DELETE FROM usage_events WHERE at < '2026-01-10Z'"))
    assert world.keys() == 1
    for change in ("UPDATE usage_events SET amount = 2", "TRUNCATE usage_events"):
        with pytest.raises(DBAPIError, match="append-only"), database.transaction() as session:
            session.execute(text(change))
