"""Two tenants become one: all that both had is the target's, and the old id stands for it."""

import datetime as dt
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError
from typer.testing import CliRunner

from models import database
from models.rules.refusal import Refusal
from models.store import invoice_list, relay
from models.store.invoice_list import Wanted
from models.store.merge_conflict import MergeConflict
from tasks.aggregation import aggregate_usage
from tasks.coupons import redeem_coupon, set_coupon
from tasks.credit_notes import create_credit_note
from tasks.endpoints import create_endpoint
from tasks.entitlements import set_entitlement
from tasks.identities import find_tenant, link_identity
from tasks.invoice_list import list_invoices
from tasks.invoice_runs import finalize_invoices, generate_invoices
from tasks.ledger import list_ledger
from tasks.merging import merge_customers, move_merged_usage, preview_merge
from tasks.quotas import check_entitlement
from tasks.replays import replay_deliveries
from tasks.subscriptions import set_subscription
from tasks.tenant_list import get_tenant
from tasks.tenants import set_tenant
from tasks.unpaid import void_invoice
from tasks.usage import record_usage
from tasks.usage_voids import void_usage
from tests.integration import wallet
from tests.integration.billing_world import (
    START,
    fee,
    make_plan,
    make_prepaid,
    query,
    said,
    top_up,
    usage_price,
)
from tests.integration.wallet import rows
from worker.cli import app

MARCH = dt.datetime(2026, 3, 5, 12, tzinfo=dt.UTC)


def merge(source: str = "anon", target: str = "acme", *, key: str = "m", **more: Any) -> Any:
    arguments: dict[str, Any] = {"as_of": MARCH, **more}
    return merge_customers(source=source, target=target, idempotency_key=key, **arguments)


def event(tenant_id: str, key: str, amount: str = "1", *, day: int = 3, **more: Any) -> Any:
    return {
        "tenant_id": tenant_id,
        "metric": "calls",
        "amount": amount,
        "at": f"2026-03-{day:02d}T12:00:00+00:00",
        "idempotency_key": key,
        **more,
    }


def record(*events: Any) -> Any:
    return record_usage(events=list(events), as_of=MARCH)


def totals() -> dict[str, int]:
    """What was used by whom, by the totals of days."""
    aggregate_usage(as_of=MARCH)
    found = query(
        "SELECT tenant_id, sum(total) FROM usage_aggregates WHERE granularity = 'day' GROUP BY 1"
    )
    return {tenant_id: int(total) for tenant_id, total in found if total}


@pytest.fixture
def two(db: Engine) -> None:
    for tenant_id in ("acme", "anon"):
        set_tenant(tenant_id=tenant_id)
    wallet.product()


@pytest.mark.usefixtures("two")
def test_credit_holds_and_debt_become_one_balance_and_the_books_are_sound(db: Engine) -> None:
    wallet.grant(10, "a")
    wallet.grant(20, "b", tenant_id="anon", expires_at=30)
    wallet.consume(5, "used", tenant_id="anon")
    held = wallet.hold(4, tenant_id="anon", days=6)
    wallet.product("TOKENS")
    wallet.grant(3, "t", product_key="TOKENS")
    wallet.deduct(8, "over", tenant_id="anon", product_key="TOKENS")

    merge(as_of=wallet.at(1))

    assert {k: wallet.balance(1)[k] for k in ("balance", "held", "debt", "available")} == {
        "balance": "25",
        "held": "4",
        "debt": "0",
        "available": "21",
    }
    tokens = wallet.balance(1, product_key="TOKENS")
    assert (tokens["balance"], tokens["debt"]) == ("-5", "5")
    assert wallet.balance(1, tenant_id="anon") == wallet.balance(1)
    assert rows(db, "SELECT * FROM credit_balances WHERE tenant_id = 'anon'") == []
    wallet.assert_sound()

    wallet.commit(held, 3, day=2)
    refunded = wallet.refund(consume_key="used", day=2, tenant_id="anon")
    assert refunded["refunded"] is True
    assert wallet.balance(2)["balance"] == "27"
    wallet.assert_sound()


@pytest.mark.usefixtures("two")
def test_the_ledger_keeps_what_was_and_pairs_what_moved(db: Engine) -> None:
    wallet.grant(10, "a")
    wallet.grant(20, "b", tenant_id="anon")
    wallet.consume(5, "used", tenant_id="anon")
    before = rows(db, "SELECT * FROM ledger_entries ORDER BY id")

    merge()

    found = rows(db, "SELECT * FROM ledger_entries ORDER BY id")
    assert found[: len(before)] == before
    assert rows(
        db,
        "SELECT tenant_id, direction, action, amount::int, balance_after::int "
        "FROM ledger_entries WHERE action LIKE 'merge%' ORDER BY id",
    ) == [("anon", "DEBIT", "merge_out", 15, 0), ("acme", "CREDIT", "merge_in", 15, 25)]
    entries = list_ledger(tenant_id="anon")["entries"]
    assert [entry["action"] for entry in entries] == [
        "merge_in",
        "merge_out",
        "consume",
        "grant",
        "grant",
    ]


@pytest.mark.usefixtures("two")
def test_every_command_of_the_old_id_lands_on_the_target(db: Engine) -> None:
    link_identity(tenant_id="anon", provider="google", external_id="1")
    first = wallet.grant(10, "a", tenant_id="anon")
    merge()

    assert wallet.grant(10, "a", tenant_id="anon") == first
    wallet.grant(7, "b", tenant_id="anon")
    wallet.consume(2, "c", tenant_id="anon")
    assert set_tenant(tenant_id="anon", name="Acme")["tenant_id"] == "acme"
    assert get_tenant(tenant_id="anon")["aliases"] == ["anon"]
    assert find_tenant(provider="google", external_id="1")["tenant_id"] == "acme"
    assert wallet.balance()["balance"] == "15"
    assert {row[0] for row in rows(db, "SELECT tenant_id FROM credit_batches")} == {"acme"}
    wallet.assert_sound()


@pytest.mark.usefixtures("two")
def test_aliases_never_lead_to_aliases(db: Engine) -> None:
    set_tenant(tenant_id="third")
    merge("anon", "acme")
    merge("acme", "third", key="n")

    assert rows(db, "SELECT tenant_id, merged_into FROM tenants ORDER BY tenant_id") == [
        ("acme", "third"),
        ("anon", "third"),
        ("third", None),
    ]
    assert get_tenant(tenant_id="anon")["aliases"] == ["acme", "anon"]


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize(
    ("source", "target", "code"),
    [
        ("acme", "acme", "tenant.merge_into_itself"),
        ("nobody", "acme", "tenant.unknown"),
        ("acme", "nobody", "tenant.unknown"),
        ("anon", "other", "tenant.already_merged"),
        ("other", "anon", "tenant.target_is_alias"),
        ("acme", "anon", "tenant.target_is_alias"),
    ],
)
def test_what_is_not_two_tenants_is_refused_by_name(
    db: Engine, source: str, target: str, code: str
) -> None:
    set_tenant(tenant_id="other")
    merge("anon", "acme")
    before = rows(db, "SELECT * FROM tenants ORDER BY 1")

    with pytest.raises(Refusal) as refused:
        merge(source, target, key="other")

    assert refused.value.code == code
    assert rows(db, "SELECT * FROM tenants ORDER BY 1") == before


@pytest.mark.usefixtures("two")
def test_the_same_merge_again_gets_the_first_answer_and_is_told_once(db: Engine) -> None:
    link_identity(tenant_id="anon", provider="google", external_id="1")
    assert merge() == merge()

    (told,) = said("billing.customers_merged")
    assert told["tenant_id"] == "acme"
    assert told["data"]["source"] == "anon"
    assert told["data"]["identities"] == 1


@pytest.mark.usefixtures("two")
def test_all_conflicts_are_told_at_once_and_nothing_changes(db: Engine) -> None:
    make_plan(usage_price("calls", "0.01"))
    make_plan(usage_price("calls", "0.02"), plan_key="max")
    set_tenant(tenant_id="anon", timezone="Asia/Tokyo")
    for tenant_id, plan_key in (("acme", "pro"), ("anon", "pro"), ("anon", "max")):
        set_subscription(
            tenant_id=tenant_id, plan_key=plan_key, idempotency_key=plan_key, effective_at=START
        )

    with pytest.raises(MergeConflict) as refused:
        merge()

    preview = preview_merge(source="anon", target="acme", as_of=MARCH)
    assert [one["reason"] for one in preview["conflicts"]] == [
        one.reason for one in refused.value.conflicts
    ]
    kinds = {one.kind for one in refused.value.conflicts}
    assert kinds == {"subscription", "metric", "timezone", "unbilled"}
    assert "plan pro" in refused.value.message
    assert "Asia/Tokyo" in refused.value.message
    assert rows(db, "SELECT count(*) FROM tenants WHERE merged_into IS NOT NULL") == [(0,)]
    assert said("billing.customers_merged") == []


@pytest.mark.usefixtures("two")
def test_usage_follows_and_what_both_sent_counts_once(db: Engine) -> None:
    record(event("acme", "1"), event("acme", "same", "5"), event("acme", "other", "2"))
    record(
        event("anon", "2", "10"), event("anon", "same", "5.0"), event("anon", "other", "3", day=4)
    )
    assert totals() == {"acme": 8, "anon": 18}

    merge()
    moved = move_merged_usage(as_of=MARCH)

    assert moved == {"moved": 1, "duplicates": 1, "conflicts": 1, "is_done": True}
    assert totals()["acme"] == 18
    ((payload, code, errors),) = rows(
        db, "SELECT payload, code, errors FROM rejected_messages WHERE tenant_id = 'acme'"
    )
    assert (payload["tenant_id"], payload["idempotency_key"]) == ("acme", "other")
    assert code == "usage.conflict"
    assert errors[0]["field"] == "amount"
    assert move_merged_usage(as_of=MARCH)["moved"] == 0


@pytest.mark.usefixtures("two")
def test_late_usage_of_the_old_id_lands_on_the_target_and_is_known_when_it_comes_again(
    db: Engine,
) -> None:
    record(event("anon", "before"))
    merge()

    again = record(
        event("anon", "before"), event("anon", "late", "4"), event("anon", "before", "9")
    )
    assert again["verdicts"] == ["duplicate", "accepted", "conflict"]
    move_merged_usage(as_of=MARCH)
    assert record(event("anon", "before"), event("anon", "late", "4"))["duplicate"] == 2
    assert totals() == {"acme": 5}


@pytest.mark.usefixtures("two")
def test_what_was_billed_stays_behind_and_is_not_billed_again(db: Engine) -> None:
    make_plan(fee("10.00"), usage_price("calls", "1.00"))
    set_subscription(
        tenant_id="anon",
        plan_key="pro",
        idempotency_key="s",
        effective_at=START.replace(month=12),
    )
    january = {"at": "2026-01-10T12:00:00+00:00"}
    record(event("anon", "billed", "7", **january), event("anon", "running", "2"))
    for _ in range(3):
        generate_invoices(as_of=MARCH)
    finalize_invoices(as_of=MARCH + dt.timedelta(days=20))
    numbered = query("SELECT id, total_minor, tenant_id FROM invoices WHERE number IS NOT NULL")
    assert sum(total for _, total, _ in numbered) == 3 * 1000 + 700
    note = create_credit_note(
        invoice_id=numbered[0][0], amount="1", reason="r", idempotency_key="k", as_of=MARCH
    )

    merge(as_of=MARCH + dt.timedelta(days=20))
    move_merged_usage(as_of=MARCH)

    assert record(event("anon", "billed", "7", **january))["duplicate"] == 1
    assert totals() == {"acme": 2, "anon": 7}
    generate_invoices(as_of=dt.datetime(2026, 4, 2, tzinfo=dt.UTC))
    assert query("SELECT tenant_id, total_minor FROM invoices WHERE state = 'draft'") == [
        ("acme", 1200)
    ]
    listed = list_invoices(tenant_id="acme")["invoices"]
    assert {one["tenant_id"] for one in listed} == {"acme", "anon"}
    assert len(listed) == 4
    with database.transaction() as session:
        notes = invoice_list.notes_issued(session, Wanted(tenant_id="acme"), limit=9)
        assert [one.number for one in notes] == [note["number"]]


@pytest.mark.usefixtures("two")
def test_what_an_old_invoice_gives_back_is_the_targets_credit(db: Engine) -> None:
    make_plan(fee("10.00"))
    make_prepaid("USD")
    top_up("anon", "4.00")
    sold = set_subscription(
        tenant_id="anon",
        plan_key="pro",
        idempotency_key="s",
        effective_at=START,
        ended_at=START + dt.timedelta(days=31),
    )
    assert sold["tenant_id"] == "anon"
    generate_invoices(as_of=MARCH)
    finalize_invoices(as_of=MARCH)
    ((invoice_id, due),) = query("SELECT id, amount_due_minor FROM invoices")
    assert due == 600
    merge()

    void_invoice(invoice_id=invoice_id, reason="a test", as_of=MARCH)

    ((tenant_id, balance),) = query("SELECT tenant_id, balance FROM credit_balances")
    assert (tenant_id, int(balance)) == ("acme", 4)
    wallet.assert_sound()


@pytest.mark.usefixtures("two")
def test_what_was_said_of_the_source_before_reaches_the_endpoint_that_moved(db: Engine) -> None:
    create_endpoint(
        url="http://localhost:9/hook",
        topics=["billing.credits_granted"],
        tenant_id="anon",
        idempotency_key="e",
    )
    wallet.grant(1, "before", tenant_id="anon")
    merge()
    wallet.grant(2, "after", tenant_id="anon")

    with database.transaction() as session:
        relay.fan_out(session, most=100, now=MARCH)

    assert query("SELECT count(*) FROM deliveries") == [(2,)]


@pytest.mark.usefixtures("two")
def test_an_endpoint_that_lacks_what_was_said_of_the_source_gets_it_by_a_replay(
    db: Engine,
) -> None:
    wallet.grant(1, "before", tenant_id="anon")
    merge()
    with database.transaction() as session:
        relay.fan_out(session, most=100, now=MARCH)
    create_endpoint(
        url="http://localhost:9/hook",
        topics=["billing.credits_granted"],
        tenant_id="acme",
        idempotency_key="e",
    )

    replayed = replay_deliveries(
        since=dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
        until=dt.datetime(2030, 1, 1, tzinfo=dt.UTC),
        tenant_id="acme",
        states=["missing"],
        idempotency_key="r",
    )

    assert replayed["by_state"] == {"missing": 1}
    assert query(
        "SELECT tenant_id FROM outbox_messages m JOIN deliveries d ON d.message_id = m.id"
    ) == [("anon",)]


@pytest.mark.usefixtures("two")
def test_closed_usage_stays_behind_and_is_still_known(db: Engine) -> None:
    record(event("anon", "1", "5"), event("anon", "2", "7", day=4))
    assert totals() == {"anon": 12}
    with database.transaction() as session:
        session.execute(
            text("INSERT INTO usage_horizons (tenant_id, closed_until) VALUES ('anon', :until)"),
            {"until": dt.datetime(2026, 3, 4, tzinfo=dt.UTC)},
        )
    merge()

    assert move_merged_usage(as_of=MARCH)["moved"] == 1
    again = record(event("anon", "1", "5"), event("anon", "2", "7", day=4), event("anon", "3"))
    assert again["verdicts"] == ["duplicate", "duplicate", "rejected"]
    void: Any = {"tenant_id": "acme", "metric": "calls", "reason": "why", "as_of": MARCH}
    with pytest.raises(Refusal) as refused:
        void_usage(idempotency_key="1", **void)
    assert refused.value.code == "usage.archived"
    assert void_usage(idempotency_key="2", **void)["amount"] == "7"
    assert totals() == {"anon": 5}


@pytest.mark.usefixtures("two")
def test_rights_coupons_and_endpoints_move_and_the_targets_own_win(db: Engine) -> None:
    set_entitlement(tenant_id="acme", metric="calls", limit="5", as_of=START)
    set_entitlement(tenant_id="anon", metric="calls", limit="50", as_of=START)
    set_entitlement(tenant_id="anon", metric="pages", limit="9", as_of=START)
    for key in ("HELLO", "BYE"):
        set_coupon(coupon_key=key, name=key, percent="10")
    redeem_coupon(tenant_id="acme", coupon_key="HELLO")
    redeem_coupon(tenant_id="anon", coupon_key="HELLO")
    redeem_coupon(tenant_id="anon", coupon_key="BYE")
    create_endpoint(
        url="http://localhost:9/hook", topics=["*"], tenant_id="anon", idempotency_key="e"
    )
    record(event("acme", "1", "2"), event("anon", "2", "2"))
    assert check_entitlement(tenant_id="anon", metric="calls", amount="1", as_of=MARCH)["allowed"]

    merge()
    move_merged_usage(as_of=MARCH)

    found = check_entitlement(tenant_id="anon", metric="calls", amount="2", as_of=MARCH)
    assert found["allowed"] is False
    assert check_entitlement(tenant_id="acme", metric="pages", amount="9", as_of=MARCH)["allowed"]
    assert query("SELECT coupon_key FROM coupon_redemptions WHERE tenant_id = 'acme'") == [
        ("HELLO",),
        ("BYE",),
    ]
    assert query("SELECT tenant_id FROM endpoints") == [("acme",)]


def test_usage_changes_hands_by_a_merge_alone(db: Engine) -> None:
    record(event("acme", "1"), event("anon", "2"))

    for change in ("tenant_id = 'acme'", "amount = 2", "metric = 'x'"):
        statement = text(f"UPDATE usage_events SET {change}")  # noqa: S608 (of this test)
        with pytest.raises(DBAPIError, match="append-only"), database.transaction() as session:
            session.execute(statement)


@pytest.mark.usefixtures("two")
def test_of_two_merges_against_each_other_one_wins(db: Engine) -> None:
    for number in range(3):
        a, b = f"a{number}", f"b{number}"
        wallet.grant(3, "x", tenant_id=a)
        wallet.grant(4, "x", tenant_id=b)
        ends = both(lambda a=a, b=b: merge(a, b), lambda a=a, b=b: merge(b, a))

        (won,) = [end for end in ends if isinstance(end, dict)]
        (lost,) = [end for end in ends if not isinstance(end, dict)]
        assert lost == "tenant.target_is_alias"
        assert wallet.balance(tenant_id=won["source"])["balance"] == "7"
    wallet.assert_sound()


def both(*calls: Any) -> list[Any]:
    """What came of calls made at once: answers, or the codes of refusals."""
    together = threading.Barrier(len(calls))

    def end(call: Any) -> Any:
        together.wait()
        try:
            return call()
        except Refusal as refusal:
            return refusal.code

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(end, calls))


@pytest.mark.usefixtures("two")
def test_nothing_is_lost_while_usage_and_credit_go_on(db: Engine) -> None:
    wallet.grant(1_000, "a", tenant_id="anon")
    wallet.grant(1_000, "b", tenant_id="acme")
    workers, each = 6, 8

    def live(worker: int) -> None:
        for number in range(each):
            tenant_id = ("anon", "acme")[number % 2]
            key = f"{worker}-{number}"
            record(event(tenant_id, key))
            wallet.consume(1, key, tenant_id=tenant_id)
            held = wallet.hold(2, f"h{key}", tenant_id=tenant_id)
            wallet.commit(held, 1, key=f"c{key}")

    def sweep() -> None:
        for number in range(each):
            wallet.grant(1, f"short {number}", tenant_id="anon", expires_at=0.5)
            wallet.sweep(0.6)
            wallet.sweep_holds(0.6)

    with ThreadPoolExecutor(workers + 2) as pool:
        living = [pool.submit(live, worker) for worker in range(workers)]
        merging = [pool.submit(merge), pool.submit(sweep)]
        for one in [*living, *merging]:
            one.result()
    move_merged_usage(as_of=MARCH)

    count = workers * each
    # What is short is swept, unless a use was quicker.
    ((expired,),) = rows(
        db, "SELECT coalesce(sum(amount), 0)::int FROM ledger_entries WHERE action = 'expire'"
    )
    assert wallet.balance()["balance"] == str(2_000 + each - 2 * count - expired)
    assert wallet.balance()["held"] == "0"
    assert totals() == {"acme": count}
    assert rows(db, "SELECT DISTINCT tenant_id FROM credit_balances") == [("acme",)]
    wallet.assert_sound()


@pytest.mark.usefixtures("two")
def test_the_command_line_merges_and_says_what_moved(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.cli.printing.prepare", lambda: None)
    record(event("anon", "1"))
    wallet.grant(3, "x", tenant_id="anon")

    command = ["tenant", "merge", "anon", "acme"]
    dry = CliRunner().invoke(app, [*command, "--dry-run"])
    assert dry.exit_code == 0, dry.output
    assert "credit_batches: 1" in dry.output
    assert get_tenant(tenant_id="anon")["tenant_id"] == "anon"

    refused = CliRunner().invoke(app, command, input="n\n")
    assert refused.exit_code == 1
    assert "Make anon part of acme for good?" in refused.stderr
    assert get_tenant(tenant_id="anon")["tenant_id"] == "anon"

    said = ("--reason", "the same person", "--yes", "--json")
    ended = CliRunner().invoke(app, [*command, *said])

    assert ended.exit_code == 0, ended.output
    answer = json.loads(ended.output)
    assert answer["moved"]["credit_batches"] == 1
    assert answer["usage"]["moved"] == 1
