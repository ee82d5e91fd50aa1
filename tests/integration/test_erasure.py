"""Who a tenant is can be forgotten; what was bought, used and owed stays."""

import datetime as dt
from typing import Any

import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner

from models.store import erasure
from models.store.erasure import NotSettled
from tasks import contract, execution
from tasks.endpoints import create_endpoint
from tasks.erasure import erase_tenant
from tasks.identities import find_tenant, identify, link_identity
from tasks.invoice_runs import finalize_invoices, generate_invoices
from tasks.subscriptions import end_subscription, set_subscription
from tasks.tenant_list import get_tenant
from tasks.tenants import set_tenant
from tests.integration import wallet
from tests.integration.billing_world import START, fee, make_plan, query, said
from tests.integration.test_merging import MARCH, merge
from worker.cli import app

PERSON = "Ada Lovelace"
GOOGLE: Any = {"provider": "google", "external_id": PERSON}


def erase(tenant_id: str = "acme", **more: Any) -> Any:
    arguments = {"reason": "request 17", "actor": "ops", "idempotency_key": "e", "as_of": MARCH}
    return erase_tenant(tenant_id=tenant_id, **{**arguments, **more})


def holds_person() -> set[str]:
    """The tables in which the person's name can still be read."""
    tables = query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return {
        table
        for (table,) in tables
        if query(f"SELECT 1 FROM \"{table}\" AS row WHERE row::text LIKE '%Ada%' LIMIT 1")  # noqa: S608
    }


@pytest.fixture
def person(db: Engine) -> None:
    """A person with a profile, a name at a provider, credit, an invoice and a refused message."""
    set_tenant(tenant_id="acme", name=PERSON, address=PERSON, metadata={"mail": PERSON})
    link_identity(tenant_id="acme", **GOOGLE)
    wallet.product()
    wallet.grant(5, "g", metadata={})
    wallet.consume(5, "c")
    make_plan(fee("0.00"))
    set_subscription(
        tenant_id="acme",
        plan_key="pro",
        effective_at=START,
        ended_at=START + dt.timedelta(days=31),
        idempotency_key="s",
        metadata={"for": PERSON},
    )
    create_endpoint(
        url="http://localhost:9/hook",
        topics=["billing.ping"],
        tenant_id="acme",
        description=PERSON,
        idempotency_key="e",
    )
    generate_invoices(as_of=MARCH)
    finalize_invoices(as_of=MARCH)
    refused = contract.REGISTRY["billing.set_tenant"]
    with pytest.raises(contract.InvalidMessage):
        execution.execute(refused, {"tenant_id": "acme", "name": PERSON, "x": 1}, "message-1")


@pytest.mark.usefixtures("person")
def test_the_person_is_gone_from_everywhere_but_the_frozen_invoice(db: Engine) -> None:
    books = query("SELECT * FROM ledger_entries ORDER BY id"), query("SELECT * FROM invoices")
    assert holds_person() >= {"tenants", "tenant_identities", "rejected_messages", "invoices"}

    answer = erase()

    assert holds_person() == {"invoices"}
    assert (query("SELECT * FROM ledger_entries ORDER BY id"), query("SELECT * FROM invoices")) == (
        books
    )
    assert answer["changed"]["rejected_messages"] == 1
    assert get_tenant(tenant_id="acme")["erased_at"] is not None
    wallet.assert_sound()


@pytest.mark.usefixtures("person")
def test_who_comes_back_is_somebody_new(db: Engine) -> None:
    erase()

    assert find_tenant(**GOOGLE)["tenant"] is None
    assert identify(**GOOGLE)["tenant_id"] != "acme"


@pytest.mark.usefixtures("person")
def test_a_call_from_before_is_still_not_carried_out_twice(db: Engine) -> None:
    erase()

    assert wallet.consume(5, "c")["consumed"] is True
    assert wallet.balance()["balance"] == "0"


@pytest.mark.usefixtures("person")
def test_it_is_told_once_without_a_word_of_whom(db: Engine) -> None:
    assert erase() == erase()

    (told,) = said("billing.tenant_erased")
    assert told["data"] == {"tenant_id": "acme", "identities": 1}


@pytest.mark.usefixtures("person")
def test_what_is_owed_or_runs_is_listed_and_refuses_unless_forced(db: Engine) -> None:
    running = set_subscription(
        tenant_id="acme", plan_key="pro", effective_at=MARCH, idempotency_key="again"
    )
    wallet.deduct(3, "over")

    with pytest.raises(NotSettled) as refused:
        erase()
    unsettled = [
        f"subscription {running['subscription_id']} of plan pro runs or is to be invoiced",
        "CALLS is owed",
    ]
    assert "; ".join(unsettled) in refused.value.message
    assert get_tenant(tenant_id="acme")["name"] == PERSON

    forced = erase(force=True)
    assert forced["unsettled"] == unsettled
    assert get_tenant(tenant_id="acme")["name"] is None
    assert wallet.balance()["debt"] == "3"
    end_subscription(subscription_id=running["subscription_id"], ended_at=START.replace(year=2027))


@pytest.mark.usefixtures("person")
def test_aliases_are_erased_with_whom_they_became_part_of(db: Engine) -> None:
    set_tenant(tenant_id="anon", name=PERSON)
    merge("anon", "acme")

    with pytest.raises(NotSettled, match="usage of anon"):
        erase("anon")
    answer = erase("anon", force=True)

    assert answer["tenant_id"] == "acme"
    assert answer["aliases"] == ["anon"]
    assert holds_person() == {"invoices"}


def test_personal_fields_are_taken_out_of_answers_at_any_depth() -> None:
    answer = {"name": "A", "id": 1, "lines": [{"metadata": {"a": 1}, "amount": "2"}]}

    assert erasure.without_persons(answer) == {
        "name": None,
        "id": 1,
        "lines": [{"metadata": None, "amount": "2"}],
    }


@pytest.mark.usefixtures("person")
def test_the_command_line_asks_first(db: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.cli.printing.prepare", lambda: None)
    command = ["tenant", "erase", "acme", "--reason", "request 17"]

    assert CliRunner().invoke(app, command, input="n\n").exit_code == 1
    assert get_tenant(tenant_id="acme")["name"] == PERSON
    ended = CliRunner().invoke(app, [*command, "--yes"])
    assert ended.exit_code == 0, ended.output
    assert get_tenant(tenant_id="acme")["name"] is None
