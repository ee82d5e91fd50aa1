"""The ledger's lines in the log: each entry that was committed, and no other."""

import io
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine

from models import database
from models.store import credit, credit_ledger, tenant
from models.store.credit_ledger import Cause, Entry
from tasks.allocations import renew_subscriptions
from tasks.credits import add_credits
from tasks.exchange import exchange
from tasks.offers import set_offer
from tests.integration import wallet
from tests.integration.billing_world import instant
from tests.integration.command import Command
from tests.integration.credit_story import Storyteller
from tests.integration.plan_credits import give, join, plan
from worker import ledger_log, logs

ENTRIES = """
    SELECT id, tenant_id, product_key, direction, action, amount, batch_id, balance_after,
           cause_type, cause_id, created_at
    FROM ledger_entries ORDER BY id
"""

GRANT: Any = {
    "tenant_id": "acme",
    "product_key": "CALLS",
    "amount": Decimal(5),
    "valid_from": None,
    "expires_at": None,
    "source": "test",
    "cause": Cause("test", "1"),
    "details": {},
    "now": wallet.START,
}

ITEM: Any = {"product_key": "COINS", "quantity": "1"}


@pytest.fixture
def followed() -> Iterator[list[Entry]]:
    """What whoever follows the ledger is told."""
    told: list[Entry] = []
    credit_ledger.hand_to(told.extend)
    yield told
    credit_ledger.hand_to(None)


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What a worker writes to its standard error."""
    written = io.StringIO()
    monkeypatch.setattr("sys.stderr", written)
    logs.configure("json", "INFO")
    ledger_log.keep(wanted=True)
    yield written
    credit_ledger.hand_to(None)


def plainly(told: list[Entry]) -> list[tuple[Any, ...]]:
    return sorted(
        (
            one.id,
            one.tenant_id,
            one.product_key,
            one.direction,
            one.action,
            one.amount,
            one.batch_id,
            one.balance_after,
            one.cause.type,
            one.cause.id,
            one.created_at,
        )
        for one in told
    )


def test_a_long_story_is_told_entry_by_entry(db: Engine, followed: list[Entry]) -> None:
    """Also where a "no" undoes the half of a transaction that had written some."""
    Storyteller(7).tell(50)
    wallet.deduct(5, "d")
    wallet.grant(9, "g")
    wallet.consume(1, "c")
    wallet.refund(consume_key="c")

    assert plainly(followed) == wallet.rows(db, ENTRIES)
    actions = {one.action for one in followed}
    assert actions >= {"grant", "consume", "commit", "overdraft", "repay", "refund", "exchange"}
    assert actions >= {"adjust", "expire"}


def test_what_plans_give_carry_on_and_write_off_is_told(db: Engine, followed: list[Entry]) -> None:
    wallet.product()
    plan(give(100, rollover="capped", rollover_cap="50"))
    join("2026-01-10")

    renew_subscriptions(as_of=instant("2026-03-20"))

    assert {one.action for one in followed} == {"grant", "expire"}
    assert plainly(followed) == wallet.rows(db, ENTRIES)


def test_an_exchange_that_is_refused_tells_nothing_of_what_it_undid(
    db: Engine, followed: list[Entry]
) -> None:
    """On its way to the "no" it had paid a debt."""
    wallet.product("COINS", is_currency=True)
    set_offer(sku="p", name="P", price="9", currency="COINS", items=[ITEM])
    wallet.grant(5, "g", product_key="COINS", valid_from=1)
    wallet.deduct(2, "d", product_key="COINS")
    before = list(followed)

    answer = exchange(tenant_id="acme", sku="p", idempotency_key="x", as_of=wallet.at(2))

    assert answer["exchanged"] is False
    assert followed == before
    assert plainly(followed) == wallet.rows(db, ENTRIES)


def test_a_transaction_that_is_undone_tells_nothing(db: Engine, followed: list[Entry]) -> None:
    wallet.product()

    with pytest.raises(RuntimeError), database.transaction() as session:  # noqa: PT012
        tenant.ensure(session, "acme", now=wallet.START)
        credit.grant(session, **GRANT)
        raise RuntimeError("on its way to the commit")

    assert followed == []
    with database.transaction() as session:
        tenant.ensure(session, "acme", now=wallet.START)
        credit.grant(session, **GRANT)
    assert len(followed) == 1


def test_a_line_is_one_json_object_without_the_producers_own(
    db: Engine, lines: io.StringIO
) -> None:
    wallet.product()
    add_credits(
        tenant_id="acme",
        product_key="calls",
        amount="12.50",
        idempotency_key="g",
        metadata={"card": "marker-4711"},
        as_of=wallet.START,
    )

    (line,) = [one for one in lines.getvalue().splitlines() if "ledger.entry" in one]
    found = json.loads(line)
    ((entry_id, batch_id),) = wallet.rows(db, "SELECT id, batch_id FROM ledger_entries")
    assert re.fullmatch(r"[0-9a-f]{32}", found.pop("correlation_id"))
    del found["timestamp"]
    assert found == {
        "event": "ledger.entry",
        "level": "info",
        "logger": "billing.ledger",
        "entry_id": entry_id,
        "tenant_id": "acme",
        "product_key": "CALLS",
        "direction": "CREDIT",
        "action": "grant",
        "amount": "12.5",
        "balance_after": "12.5",
        "batch_id": str(batch_id),
        "cause_type": "billing.add_credits",
        "cause_id": "g",
        "created_at": "2026-03-01T12:00:00+00:00",
    }
    assert "marker" not in lines.getvalue()


@pytest.mark.parametrize(
    "setting", [("BILLING_LOG_LEDGER", "false"), ("BILLING_LOG_LEVEL", "ERROR")]
)
def test_who_wants_no_lines_gets_none(
    db: Engine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    database_url: str,
    setting: tuple[str, str],
) -> None:
    wallet.product()
    billing = Command(monkeypatch, capsys, database_url)
    words = ("wallet", "grant", "acme", "calls", "5", "--reason", "x")

    assert "ledger.entry" in billing(*words).err
    monkeypatch.setenv(*setting)
    assert "ledger.entry" not in billing(*words).err
