"""Credit: granted once, spent oldest first, refused without a trace, kept in the ledger."""

from decimal import Decimal

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DatabaseError

from models.rules.refusal import Refusal
from models.store import credit, inbox, product
from tasks import contract
from tasks.credits import add_credits
from tests.integration import wallet


@pytest.fixture(autouse=True)
def calls(db: Engine) -> None:
    """A quantity product to grant."""
    wallet.product()


def test_a_grant_is_one_batch_one_entry_and_one_event(db: Engine) -> None:
    answer = wallet.grant(
        "12.50", "g", product_key="calls", expires_at=30, source="promo", metadata={"ticket": 7}
    )

    assert answer == {
        "batch_id": answer["batch_id"],
        "tenant_id": "acme",
        "product_key": "CALLS",
        "amount": "12.5",
        "repaid": "0",
        "balance": "12.5",
        "debt": "0",
        "expires_at": "2026-03-31T12:00:00Z",
    }
    batch = "SELECT remaining_amount, valid_from, expires_at, state, source, metadata"
    assert wallet.rows(db, f"{batch} FROM credit_batches") == [
        (Decimal("12.50"), wallet.at(0), wallet.at(30), "ACTIVE", "promo", {"ticket": 7})
    ]
    entry = "SELECT direction, action, amount, balance_after, cause_type, cause_id, metadata"
    amount = Decimal("12.50")
    assert wallet.rows(db, f"{entry} FROM ledger_entries") == [
        ("CREDIT", "grant", amount, amount, "billing.add_credits", "g", {"ticket": 7})
    ]
    (event,) = wallet.events(db)
    assert event["type"] == "billing.credits_granted"
    assert event["data"]["batch_id"] == answer["batch_id"]
    assert event["data"]["amount"] == "12.5"
    wallet.assert_sound()


def test_a_grant_creates_a_tenant_nobody_introduced(db: Engine) -> None:
    wallet.grant(1, "g", tenant_id="newcomer")

    assert wallet.rows(db, "SELECT tenant_id, timezone FROM tenants") == [("newcomer", "UTC")]


def test_granting_twice_with_one_key_is_one_batch(db: Engine) -> None:
    first = wallet.grant(100, "g")
    second = wallet.grant(100, "g", day=1)

    assert second == first
    assert wallet.rows(db, "SELECT count(*), sum(remaining_amount) FROM credit_batches") == [
        (1, 100)
    ]
    assert len(wallet.events(db)) == 1
    wallet.assert_sound()


def test_an_unknown_or_inactive_product_is_refused_and_nothing_is_kept(db: Engine) -> None:
    wallet.product("OLD", active=False)

    with pytest.raises(product.UnknownProduct, match="'NONE'"):
        wallet.grant(1, "a", product_key="none")
    with pytest.raises(credit.InactiveProduct, match="'OLD'"):
        wallet.grant(1, "b", product_key="old")
    with pytest.raises(product.UnknownProduct):
        wallet.consume(1, "c", product_key="none")
    with pytest.raises(product.UnknownProduct):
        wallet.balance(product_key="NONE")

    for table in ("tenants", "credit_balances", "idempotency_keys", "outbox_messages"):
        assert wallet.rows(db, f"TABLE {table}") == []


def test_credit_of_a_product_that_was_switched_off_can_still_be_spent(db: Engine) -> None:
    wallet.grant(5, "g")
    wallet.product(active=False)

    assert wallet.consume(5, "c")["consumed"] is True


@pytest.mark.parametrize(
    ("day", "valid_from", "expires_at"), [(5, None, 5), (5, None, 4), (0, 10, 10), (0, 10, 9)]
)
def test_credit_that_could_never_be_spent_is_refused(
    db: Engine, day: float, valid_from: float | None, expires_at: float
) -> None:
    with pytest.raises(credit.NeverValid, match="must be after now") as refusal:
        wallet.grant(1, "g", day=day, valid_from=valid_from, expires_at=expires_at)

    assert refusal.value.field == "expires_at"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("amount", 0),
        ("amount", "-1"),
        ("amount", "NaN"),
        ("amount", "1e18"),
        ("amount", "0.0000000000001"),
        ("tenant_id", None),
        ("idempotency_key", ""),
        ("expires_at", "soon"),
        ("source", ""),
    ],
)
def test_a_bad_argument_is_refused_by_its_name(db: Engine, field: str, value: object) -> None:
    arguments = {"tenant_id": "a", "product_key": "P", "amount": 1, "idempotency_key": "k"}

    with pytest.raises(contract.InvalidMessage, match=field):
        add_credits(**{**arguments, field: value})


def test_the_oldest_batches_pay_first_to_the_unit(db: Engine) -> None:
    first = wallet.grant(10, "g1", day=0, expires_at=90)["batch_id"]
    second = wallet.grant(20, "g2", day=1, expires_at=30)["batch_id"]
    third = wallet.grant(30, "g3", day=2)["batch_id"]

    answer = wallet.consume("30.5", "c", day=3, metadata={"job": "j1"})

    assert answer == {
        "consumed": True,
        "amount": "30.5",
        "balance": "29.5",
        "batches": [
            {"batch_id": first, "amount": "10"},
            {"batch_id": second, "amount": "20"},
            {"batch_id": third, "amount": "0.5"},
        ],
    }
    states = "SELECT state, remaining_amount, closed_at FROM credit_batches ORDER BY created_at"
    assert wallet.rows(db, states) == [
        ("EXHAUSTED", 0, wallet.at(3)),
        ("EXHAUSTED", 0, wallet.at(3)),
        ("ACTIVE", Decimal("29.5"), None),
    ]
    debits = "SELECT amount, balance_after, cause_id, metadata FROM ledger_entries"
    assert wallet.rows(db, f"{debits} WHERE direction = 'DEBIT' ORDER BY id") == [
        (10, 50, "c", {"job": "j1"}),
        (20, 30, "c", {"job": "j1"}),
        (Decimal("0.5"), Decimal("29.5"), "c", {"job": "j1"}),
    ]
    wallet.assert_sound()


def test_batches_of_one_instant_pay_in_the_order_of_their_ids(db: Engine) -> None:
    granted = sorted(wallet.grant(1, f"g{n}")["batch_id"] for n in range(5))

    answer = wallet.consume(5, "c")

    assert [part["batch_id"] for part in answer["batches"]] == granted


def test_spending_looks_past_the_first_batches_when_they_do_not_suffice(db: Engine) -> None:
    for n in range(40):
        wallet.grant(1, f"g{n}", day=n / 100)

    assert len(wallet.consume(32, "a", day=1)["batches"]) == 32
    assert wallet.events(db, "billing.product_deactivated") == []
    assert wallet.consume(9, "b", day=1)["available"] == "8"
    assert len(wallet.consume(8, "c", day=1)["batches"]) == 8
    assert len(wallet.events(db, "billing.product_deactivated")) == 1
    wallet.assert_sound()


def test_one_event_a_call_and_one_when_the_last_is_gone(db: Engine) -> None:
    wallet.grant(10, "g1")
    wallet.grant(10, "g2")
    wallet.consume(15, "c1", day=1)
    wallet.consume(5, "c2", day=2)
    wallet.consume(1, "c3", day=3)

    consumed = wallet.events(db, "billing.quota_consumed")
    assert [(event["data"]["amount"], event["data"]["balance"]) for event in consumed] == [
        ("15", "5"),
        ("5", "0"),
    ]
    assert [event["sequence"] for event in consumed] == [3, 4]
    (deactivated,) = wallet.events(db, "billing.product_deactivated")
    assert deactivated["data"]["reason"] == "exhausted"

    wallet.grant(1, "g3", day=4)
    wallet.consume(1, "c4", day=5)
    assert len(wallet.events(db, "billing.product_deactivated")) == 2


def test_too_little_and_nothing_are_answers_that_debit_nothing(db: Engine) -> None:
    nothing = wallet.consume(1, "c1")
    wallet.grant(5, "g")
    little = wallet.consume("5.000000000001", "c2")

    assert nothing == {"consumed": False, "reason": "quota_exhausted", "available": "0"}
    assert little == {"consumed": False, "reason": "insufficient_funds", "available": "5"}
    assert wallet.ledger(db) == [("CREDIT", "grant", 5, 5)]
    assert wallet.events(db, "billing.quota_consumed") == []
    assert wallet.balance()["available"] == "5"


def test_a_refused_call_gets_its_answer_again_after_a_top_up(db: Engine) -> None:
    first = wallet.consume(1, "c1")
    wallet.grant(5, "g")

    assert wallet.consume(1, "c1") == first
    assert wallet.consume(1, "c2")["consumed"] is True


def test_credit_of_the_future_is_not_spendable(db: Engine) -> None:
    wallet.grant(10, "g", valid_from=5)

    assert wallet.consume(1, "early", day=4.999)["reason"] == "quota_exhausted"
    assert wallet.balance(4.999) == {
        "tenant_id": "acme",
        "product_key": "CALLS",
        "balance": "10",
        "held": "0",
        "debt": "0",
        "available": "0",
        "batches": 0,
        "next_expiry": None,
    }
    assert wallet.consume(1, "on time", day=5)["consumed"] is True


def test_what_a_hold_has_set_aside_is_not_spent(db: Engine) -> None:
    wallet.grant(10, "g")
    wallet.hold(4)

    assert wallet.consume(7, "c1")["available"] == "6"
    assert wallet.consume(6, "c2")["consumed"] is True
    assert wallet.consume(1, "c3")["reason"] == "quota_exhausted"
    assert wallet.balance()["held"] == "4"
    # The hold may be released: what it has set aside is not gone.
    assert wallet.events(db, "billing.product_deactivated") == []
    wallet.assert_sound()


def test_the_same_key_for_another_amount_is_a_conflict_and_changes_nothing(db: Engine) -> None:
    wallet.grant(100, "g")
    wallet.consume(10, "c")

    with pytest.raises(inbox.IdempotencyConflict, match="'c'") as refusal:
        wallet.consume(11, "c")

    assert isinstance(refusal.value, Refusal)
    assert wallet.balance()["balance"] == "90"
    assert len(wallet.events(db, "billing.quota_consumed")) == 1


def test_keys_of_two_tenants_have_nothing_to_do_with_each_other(db: Engine) -> None:
    for tenant_id in ("acme", "bolt"):
        wallet.grant(10, "g", tenant_id=tenant_id)
        wallet.consume(3, "c", tenant_id=tenant_id)

    assert wallet.balance()["balance"] == "7"
    assert wallet.balance(tenant_id="bolt")["balance"] == "7"


@pytest.mark.parametrize("type_", ["period", "unlimited"])
def test_use_of_a_period_or_unlimited_product_is_recorded_and_takes_nothing(
    db: Engine, type_: str
) -> None:
    wallet.product("ACCESS", type_)
    nothing = wallet.consume(1, "early", product_key="ACCESS")
    batch_id = wallet.grant(1, "g", product_key="ACCESS", expires_at=30)["batch_id"]

    answer = wallet.consume(1000, "c", day=1, product_key="ACCESS", metadata={"page": "/"})

    assert nothing["reason"] == "quota_exhausted"
    assert answer["batches"] == [{"batch_id": batch_id, "amount": "1000"}]
    assert answer["balance"] == "1"
    assert wallet.ledger(db) == [("CREDIT", "grant", 1, 1), ("USE", "consume", 1000, 1)]
    assert len(wallet.events(db, "billing.quota_consumed")) == 1
    assert wallet.events(db, "billing.product_deactivated") == []
    assert wallet.consume(1, "late", day=30, product_key="ACCESS")["reason"] == "quota_exhausted"
    wallet.assert_sound()


def test_amounts_beyond_28_digits_stay_exact(db: Engine) -> None:
    wallet.grant("999999999999999999.000000000001", "g1")
    wallet.grant("999999999999999999.000000000001", "g2")

    answer = wallet.consume("999999999999999999.000000000003", "c")

    assert answer["balance"] == "999999999999999998.999999999999"
    wallet.assert_sound()


def test_a_tenant_without_credit_has_zeros(db: Engine) -> None:
    assert wallet.balance(tenant_id="stranger")["balance"] == "0"


def test_the_balance_tells_what_can_be_spent_and_until_when(db: Engine) -> None:
    wallet.grant(10, "g1", expires_at=20)
    wallet.grant(10, "g2", expires_at=10)
    wallet.grant(10, "g3", valid_from=15, expires_at=16)

    early, late = wallet.balance(1), wallet.balance(12)

    assert (early["available"], early["batches"]) == ("20", 2)
    assert early["next_expiry"] == "2026-03-11T12:00:00Z"
    assert (late["balance"], late["available"], late["batches"]) == ("30", "10", 1)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger_entries SET amount = 1",
        "DELETE FROM ledger_entries",
        "TRUNCATE ledger_entries",
        "DELETE FROM credit_batches",
        "DELETE FROM products",
        "DELETE FROM tenants",
    ],
)
def test_the_database_refuses_to_change_the_past(db: Engine, statement: str) -> None:
    wallet.grant(10, "g")

    with pytest.raises(DatabaseError), db.begin() as connection:
        connection.execute(text(statement))

    assert wallet.ledger(db) == [("CREDIT", "grant", 10, 10)]
