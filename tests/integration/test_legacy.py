"""What a system before this one knew is taken over once, however often it is sent."""

import datetime as dt
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine
from typer.testing import CliRunner

from tasks.identities import find_tenant
from tasks.invoice_runs import generate_invoices
from tasks.legacy import import_legacy
from tasks.subscriptions import set_subscription
from tests.integration import wallet
from tests.integration.billing_world import fee, make_plan, query, said
from tests.integration.test_credit_crashes import die_before, ends_by_kill
from worker.cli import app

NOW = dt.datetime(2026, 3, 5, 12, tzinfo=dt.UTC)

SUBSCRIPTION = {
    "migration_source_id": "s-1",
    "tenant_id": "acme",
    "plan_key": "pro",
    "currency": "",
    "quantity": "2",
    "effective_at": "2024-05-01",
    "ended_at": "",
    "billed_until": "2026-03-01",
}


def balance(source_id: str = "b-1", amount: str = "10", **more: Any) -> dict[str, Any]:
    return {
        "migration_source_id": source_id,
        "tenant_id": "acme",
        "product_key": "CALLS",
        "amount": amount,
        **more,
    }


def take(kind: str, *rows: Any, **more: Any) -> Any:
    arguments: Any = {"kind": kind, "rows": list(rows), "as_of": NOW, **more}
    return import_legacy(**arguments)


def counts(answer: Any) -> tuple[int, int, int, int]:
    return answer["imported"], answer["unchanged"], answer["conflict"], answer["rejected"]


@pytest.fixture
def calls(db: Engine) -> None:
    wallet.product()


@pytest.mark.usefixtures("calls")
def test_a_balance_becomes_one_batch_with_the_migration_as_its_cause(db: Engine) -> None:
    first = take("balance", balance(expires_at="2026-12-31"))
    again = take("balance", balance(amount="10.0", expires_at="2026-12-31T00:00:00+00:00"))

    assert (counts(first), counts(again)) == ((1, 0, 0, 0), (0, 1, 0, 0))
    assert query(
        "SELECT direction, action, amount::int, cause_type, cause_id FROM ledger_entries"
    ) == [("CREDIT", "grant", 10, "migration", "b-1")]
    assert query("SELECT source, expires_at FROM credit_batches") == [
        ("migration", dt.datetime(2026, 12, 31, tzinfo=dt.UTC))
    ]
    assert len(said("billing.credits_granted")) == 1
    wallet.assert_sound()


@pytest.mark.usefixtures("calls")
def test_a_row_that_says_something_else_now_is_a_conflict_that_changes_nothing(db: Engine) -> None:
    take("balance", balance())
    (batch,) = query("SELECT id FROM credit_batches")

    answer = take("balance", balance(amount="11"))

    (refused,) = answer["refused"]
    assert (refused["verdict"], refused["code"]) == ("conflict", "legacy.changed")
    assert str(batch[0]) in refused["reason"]
    assert wallet.balance()["balance"] == "10"


@pytest.mark.usefixtures("calls")
def test_a_bad_row_costs_only_itself_and_leaves_nothing(db: Engine) -> None:
    answer = take(
        "balance",
        balance("b-1"),
        balance("b-2", "-1"),
        balance("b-3", product_key="NOTHING", tenant_id="ghost"),
        balance("b-4", expires_at="2020-01-01"),
        {"surprise": 1},
        balance("b-5", "5"),
    )

    assert counts(answer) == (2, 0, 0, 4)
    assert {(one["index"], one["code"]) for one in answer["refused"]} == {
        (1, "message.invalid"),
        (2, "product.unknown"),
        (3, "credit.never_valid"),
        (4, "message.invalid"),
    }
    assert query("SELECT migration_source_id FROM legacy_rows ORDER BY 1") == [("b-1",), ("b-5",)]
    assert query("SELECT tenant_id FROM tenants") == [("acme",)]
    # Mended, it is taken over under the same id.
    assert counts(take("balance", balance("b-2", "1"))) == (1, 0, 0, 0)


@pytest.mark.usefixtures("calls")
def test_a_dry_run_says_the_same_and_changes_nothing(db: Engine) -> None:
    rows = [balance("b-1"), balance("b-1"), balance("b-1", "3"), balance("b-2", "0")]

    dry = take("balance", *rows, dry_run=True)

    assert query("SELECT * FROM legacy_rows") == []
    assert query("SELECT * FROM tenants") == []
    assert take("balance", *rows)["refused"][1:] == dry["refused"][1:]
    assert counts(dry) == (1, 1, 1, 1)


def test_identities_are_linked_and_those_of_others_refused(db: Engine) -> None:
    one = {"migration_source_id": "i-1", "provider": "Google", "external_id": " 1 "}
    other = {**one, "migration_source_id": "i-2", "tenant_id": "other"}

    answer = take("identity", {**one, "tenant_id": "acme"}, other)

    assert counts(answer) == (1, 0, 0, 1)
    assert answer["refused"][0]["code"] == "tenant.identity_taken"
    assert find_tenant(provider="google", external_id="1")["tenant_id"] == "acme"


def test_a_subscription_is_billed_from_where_the_old_system_stopped(db: Engine) -> None:
    month = {"product_key": "CALLS", "credit_limit": "9"}
    wallet.product()
    make_plan(
        fee("10.00"),
        fee("99.00", price_key="start", kind="setup"),
        as_of=dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
        credits=[month],
    )

    assert counts(take("subscription", SUBSCRIPTION)) == (1, 0, 0, 0)
    assert counts(take("subscription", SUBSCRIPTION)) == (0, 1, 0, 0)

    assert query("SELECT next_invoice_at FROM subscriptions") == [
        (dt.datetime(2026, 4, 1, tzinfo=dt.UTC),)
    ]
    # What is left of this period's credit comes as a balance.
    assert query("SELECT * FROM credit_batches") == []
    assert query("SELECT allocated_until FROM subscription_credits") == [(dt.date(2026, 4, 1),)]
    generate_invoices(as_of=dt.datetime(2026, 4, 2, tzinfo=dt.UTC))
    assert query("SELECT period_start, total_minor FROM invoices") == [
        (dt.datetime(2026, 3, 1, tzinfo=dt.UTC), 2000)
    ]


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"billed_until": "2026-03-02"}, "legacy.not_a_period"),
        ({"plan_key": "ahead"}, "legacy.charged_ahead"),
        ({"plan_key": "max"}, "plan.unknown"),
        ({"ended_at": "2024-01-01"}, "message.invalid"),
        ({"tenant_id": "taken"}, "subscription.overlaps"),
    ],
)
def test_a_subscription_that_can_not_be_is_refused_by_name(
    db: Engine, changed: dict[str, str], code: str
) -> None:
    make_plan(fee("10.00"))
    make_plan(fee("10.00", timing="advance"), plan_key="ahead")
    set_subscription(
        tenant_id="taken", plan_key="pro", idempotency_key="s", effective_at=NOW, as_of=NOW
    )

    answer = take("subscription", {**SUBSCRIPTION, **changed})

    assert [one["code"] for one in answer["refused"]] == [code]
    assert query("SELECT * FROM legacy_rows") == []


@pytest.mark.usefixtures("calls")
def test_two_imports_at_once_take_each_row_over_once(db: Engine) -> None:
    rows = [balance(f"b-{number}", "1") for number in range(20)]

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: take("balance", *rows), range(4)))

    assert sum(answer["imported"] for answer in answers) == 20
    assert sum(answer["unchanged"] for answer in answers) == 60
    assert wallet.balance()["balance"] == "20"
    wallet.assert_sound()


@pytest.mark.slow
@pytest.mark.usefixtures("calls")
def test_dying_between_two_statements_leaves_nothing_and_the_next_run_takes_all(
    db: Engine,
) -> None:
    rows = [balance("b-1"), balance("b-2", "5", tenant_id="other")]
    for number in range(60):
        if not ends_by_kill(die_before(number), lambda: take("balance", *rows)):
            break
        assert query("SELECT * FROM legacy_rows") == []
        assert query("SELECT * FROM ledger_entries") == []

    assert number > 10
    assert counts(take("balance", *rows)) == (0, 2, 0, 0)
    wallet.assert_sound()


@settings(
    max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(sent=st.lists(st.tuples(st.integers(0, 4), st.integers(1, 2)), max_size=12), cut=st.data())
def test_the_first_of_each_id_counts_whatever_the_chunks(
    calls: None, sent: list[tuple[int, int]], cut: st.DataObject
) -> None:
    run = query("SELECT count(*) FROM tenants")[0][0]
    tenant_id = f"acme-{run}"
    rows = [balance(f"{run}-{number}", str(amount), tenant_id=tenant_id) for number, amount in sent]
    at = cut.draw(st.integers(0, len(rows)))
    answers = [take("balance", *rows[:at]), take("balance", *rows[at:]), take("balance", *rows)]

    first: dict[int, int] = {}
    for number, amount in sent:
        first.setdefault(number, amount)
    assert wallet.balance(tenant_id=tenant_id)["balance"] == str(sum(first.values()))
    assert sum(answer["imported"] for answer in answers) == len(first)
    assert sum(sum(counts(answer)) for answer in answers) == 2 * len(rows)


@pytest.mark.usefixtures("calls")
def test_a_file_is_imported_with_errors_by_line_and_may_be_run_again(
    db: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.cli.printing.prepare", lambda: None)
    monkeypatch.setattr("worker.cli.tenant_import.CHUNK", 2)
    file = tmp_path / "balances.csv"
    header = "migration_source_id,tenant_id,product_key,amount,expires_at\n"
    file.write_text(
        header + "b-1,acme,CALLS,10,\nb-2,acme,CALLS,ten,\nb-3,acme\nb-4,acme,CALLS,1,2026-12-31\n"
    )

    def run(*arguments: str) -> tuple[int, str]:
        ended = CliRunner().invoke(app, ["tenant", "import", *arguments])
        return ended.exit_code, ended.output

    status, said_dry = run("balances", str(file), "--dry-run")
    assert status == 1
    assert "4 rows, nothing changed: a dry run" in said_dry
    assert query("SELECT * FROM legacy_rows") == []

    status, said_then = run("balances", str(file))
    assert status == 1
    assert "imported 2  unchanged 0  conflict 0  rejected 2" in said_then
    assert f"{file}:3: rejected: amount" in said_then
    assert f"{file}:4: rejected: row has 2 cells" in said_then

    file.write_text(header + "b-1,acme,CALLS,10,\nb-2,acme,CALLS,2,\nb-4,acme,CALLS,1,2026-12-31\n")
    status, as_json = run("balances", str(file), "--json")
    assert status == 0
    answer = json.loads(as_json)
    assert (answer["imported"], answer["unchanged"]) == (1, 2)
    assert wallet.balance(-30)["balance"] == "13"


def test_a_file_with_another_header_is_not_begun(
    db: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.cli.printing.prepare", lambda: None)
    file = tmp_path / "identities.csv"
    file.write_text("tenant_id,migration_source_id,provider,external_id\n")

    ended = CliRunner().invoke(app, ["tenant", "import", "identities", str(file)])

    assert ended.exit_code == 2
    assert "the header must be migration_source_id,tenant_id" in ended.output
