"""What subscribers hear of single ledger entries, and of operations on credit that failed."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine

from models.store import credit_ledger
from tasks import contract, credit_errors, ledger_news
from tasks.credits import add_credits, consume_quota
from tasks.exchange import exchange
from tasks.offers import set_offer
from tests.integration import wallet

CREATED = "billing.transaction_created"
ERROR = "billing.transaction_error"

ITEM: Any = {"product_key": "COINS", "quantity": "1"}


@pytest.fixture
def told() -> Iterator[None]:
    """As BILLING_TELL_LEDGER says."""
    credit_ledger.tell_within(ledger_news.tell)
    yield
    credit_ledger.tell_within(None)


def send(task: Any, **arguments: Any) -> Any:
    """Run a task as if its message had come from the broker."""
    return task.apply(kwargs={"tenant_id": "acme", "product_key": "calls", **arguments})


def errors(db: Engine) -> list[dict[str, Any]]:
    return [event["data"] for event in wallet.events(db, ERROR)]


@pytest.mark.usefixtures("told")
def test_each_ledger_entry_is_told_where_that_is_wanted(db: Engine) -> None:
    wallet.product()
    wallet.deduct(3, "d")
    wallet.grant(10, "g", expires_at=1)
    wallet.sweep(2)

    found = wallet.rows(
        db,
        "SELECT id, direction, action, trim_scale(amount)::text, trim_scale(balance_after)::text,"
        " batch_id::text, cause_type, cause_id FROM ledger_entries ORDER BY id",
    )
    data = [event["data"] for event in wallet.events(db, CREATED)]
    assert sorted(tuple(one.values())[2:] for one in data) == sorted(found)
    assert {one["action"] for one in data} == {"overdraft", "grant", "repay", "expire"}
    assert {event["tenant_id"] for event in wallet.events(db, CREATED)} == {"acme"}


@pytest.mark.usefixtures("told")
def test_what_was_undone_is_not_told(db: Engine) -> None:
    wallet.product("COINS", is_currency=True)
    set_offer(sku="p", name="P", price="9", currency="COINS", items=[ITEM])
    wallet.grant(5, "g", product_key="COINS", valid_from=1)
    wallet.deduct(2, "d", product_key="COINS")
    before = wallet.events(db, CREATED)

    answer = exchange(tenant_id="acme", sku="p", idempotency_key="x", as_of=wallet.at(2))

    assert answer["exchanged"] is False
    assert wallet.events(db, CREATED) == before


def test_nobody_is_told_of_entries_unless_that_is_wanted(db: Engine) -> None:
    wallet.product()
    wallet.grant(10, "g")

    assert wallet.events(db, CREATED) == []


def test_a_message_that_is_refused_is_told_once_however_often_it_comes(db: Engine) -> None:
    for _ in range(3):
        send(consume_quota, amount="1", idempotency_key="c")

    (kept,) = wallet.rows(db, "SELECT id, seen_count FROM rejected_messages")
    (error,) = errors(db)
    assert kept[1] == 3
    assert error.pop("reason").startswith("product_key 'CALLS' is unknown")
    assert error == {
        "tenant_id": "acme",
        "operation": "billing.consume_quota",
        "code": "product.unknown",
        "field": "product_key",
        "rejected_message_id": kept[0],
    }
    assert [event["tenant_id"] for event in wallet.events(db, ERROR)] == ["acme"]


def test_a_fault_is_named_without_its_value(db: Engine) -> None:
    send(add_credits, amount="marker-4711", idempotency_key="g")

    (error,) = errors(db)
    assert (error["code"], error["field"]) == ("message.invalid", "amount")
    assert "marker" not in str(error)


@pytest.mark.parametrize("tenant_id", ["x" * 65, "", "a\nb", 7, None])
def test_where_no_tenant_is_named_the_operator_alone_hears_of_it(
    db: Engine, tenant_id: object
) -> None:
    send(add_credits, tenant_id=tenant_id, amount="1", idempotency_key="g")

    (event,) = wallet.events(db, ERROR)
    assert event["tenant_id"] == ""
    assert event["data"]["tenant_id"] is None


def test_too_little_and_calls_in_this_process_are_not_told(db: Engine) -> None:
    wallet.product()
    send(consume_quota, amount="1", idempotency_key="c")
    with pytest.raises(contract.InvalidMessage):
        wallet.consume("-1", "d")

    assert errors(db) == []


def test_every_operation_told_of_is_a_task() -> None:
    assert contract.REGISTRY.keys() >= credit_errors.OPERATIONS
