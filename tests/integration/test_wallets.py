"""Reading credit: figures that fit together, histories page by page."""

import threading
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine

from models.rules.refusal import Refusal
from tasks import contract
from tasks.batch_list import get_batch, list_batches
from tasks.batches import revoke
from tasks.ledger import list_ledger
from tasks.tenants import set_tenant
from tasks.wallets import check_quota, get_wallet
from tests.integration import wallet


@pytest.fixture(autouse=True)
def calls(db: Engine) -> None:
    """A quantity product to grant."""
    wallet.product()


def check(day: float = 0, **rest: Any) -> Any:
    given = {"tenant_id": "acme", "product_key": "calls"}
    return check_quota(**{**given, **rest}, as_of=wallet.at(day))


def shown(day: float = 0, tenant_id: str = "acme") -> dict[str, Any]:
    """What the wallet says of each product."""
    answer = get_wallet(tenant_id=tenant_id, as_of=wallet.at(day))
    return {one["product_key"]: one for one in answer["products"]}


def test_what_can_be_used_is_said_in_figures_and_in_words(db: Engine) -> None:
    wallet.grant("1250.50", "g")

    assert check() == {
        "can_use": True,
        "product_key": "CALLS",
        "product_name": "Calls",
        "remaining": "1250.5",
        "message": "1,250.5 of Calls can be used now",
    }
    assert check(amount="1250.5")["can_use"] is True
    assert check(amount="1300") == {
        **check(),
        "can_use": False,
        "message": "1,250.5 of Calls can be used now, 1,300 are needed",
    }


@pytest.mark.parametrize("day", [0, 5])
def test_what_is_not_there_not_yet_or_not_any_more_can_not_be_used(db: Engine, day: float) -> None:
    wallet.grant(10, "g", valid_from=1, expires_at=5)

    assert check(day) == {
        "can_use": False,
        "product_key": "CALLS",
        "product_name": "Calls",
        "remaining": "0",
        "message": "nothing of Calls can be used now",
    }
    assert check(1)["can_use"] is True
    assert check(tenant_id="stranger")["can_use"] is False
    with pytest.raises(Refusal, match="'NONE'"):
        check(product_key="none")


def test_what_is_held_can_not_be_used_until_its_time_is_over(db: Engine) -> None:
    wallet.grant(10, "g")
    wallet.hold(10, days=2)

    assert (check(1)["can_use"], check(1)["remaining"]) == (False, "0")
    assert check(1)["message"] == "0 of Calls can be used now"
    assert (shown(1)["CALLS"]["held"], shown(1)["CALLS"]["available"]) == ("10", "0")
    # Swept or not.
    assert check(2)["remaining"] == "10"
    assert (shown(2)["CALLS"]["held"], shown(2)["CALLS"]["available"]) == ("0", "10")


def test_what_is_owed_can_not_be_used(db: Engine) -> None:
    wallet.deduct(30, "after")
    wallet.grant(20, "g", valid_from=1)
    wallet.grant(15, "g2", valid_from=2)

    assert check(1)["can_use"] is False
    assert check(2)["remaining"] == "5"
    assert shown(2)["CALLS"]["debt"] == "30"
    assert shown(2)["CALLS"]["balance"] == "5"


def test_a_wallet_and_a_balance_say_the_same(db: Engine) -> None:
    wallet.grant(50, "g1", expires_at=3)
    wallet.grant(40, "g2", day=0.1, valid_from=2)
    wallet.hold(20, "h1", day=0.2, days=0.5)
    wallet.hold(25, "h2", day=0.3, days=6)
    wallet.deduct(10, "d", day=0.4)

    for day in (0.4, 0.7, 2, 3):
        one, other = shown(day)["CALLS"], wallet.balance(day)
        for name in ("balance", "held", "debt", "available", "next_expiry"):
            assert one[name] == other[name], (day, name)


def test_a_product_without_limit_has_no_figure(db: Engine) -> None:
    wallet.product("ACCESS", "period")
    assert check(product_key="ACCESS")["can_use"] is False
    wallet.grant(1, "g", product_key="ACCESS", expires_at=30)

    answer = check(product_key="ACCESS", amount="1000000")

    assert (answer["can_use"], answer["remaining"]) == (True, None)
    assert (
        answer["message"] == "Access can be used without limit until 2026-03-31 12:00 UTC at least"
    )
    assert shown()["ACCESS"]["unlimited"] is True
    assert shown(30)["ACCESS"]["unlimited"] is False


def test_a_wallet_tells_of_every_product(db: Engine) -> None:
    wallet.product("SEATS")
    wallet.product("UNUSED")
    wallet.grant(100, "over", expires_at=1)
    wallet.grant(100, "g1", expires_at=20)
    wallet.grant(50, "g2", day=0.5)
    wallet.grant(30, "later", valid_from=9)
    taken = wallet.grant(7, "back")["batch_id"]
    wallet.grant(3, "s", product_key="SEATS")
    wallet.consume(130, "c", day=1.5)
    revoke(
        tenant_id="acme",
        batch_id=taken,
        reason="a test",
        actor="ann",
        idempotency_key="r",
        as_of=wallet.at(1.6),
    )

    found = shown(2)

    assert list(found) == ["CALLS", "SEATS"]
    assert found["CALLS"] == {
        "product_key": "CALLS",
        "product_name": "Calls",
        "type": "quantity",
        "granted": "150",
        "used": "123",
        "held": "0",
        "available": "27",
        "pending": "30",
        # What is over and not swept yet, what is usable, what is to come.
        "balance": "157",
        "debt": "0",
        "unlimited": False,
        "next_expiry": None,
    }
    assert (found["SEATS"]["granted"], found["SEATS"]["used"]) == ("3", "0")
    with pytest.raises(Refusal, match="'nobody'"):
        shown(tenant_id="nobody")


def test_a_wallet_is_of_one_instant_while_it_is_spent(db: Engine) -> None:
    wallet.product("SEATS")
    for key in ("CALLS", "SEATS"):
        wallet.grant(400, key, product_key=key)
    stop = threading.Event()

    def spend() -> None:
        number = 0
        while not stop.is_set():
            wallet.consume(1, f"c{number}", day=1)
            wallet.consume(1, f"s{number}", day=1, product_key="SEATS")
            number += 1

    spender = threading.Thread(target=spend)
    spender.start()
    try:
        for _ in range(100):
            found = shown(1)
            used = {key: Decimal(found[key]["used"]) for key in found}
            for one in found.values():
                assert Decimal(one["granted"]) - Decimal(one["used"]) == Decimal(one["available"])
                assert one["available"] == one["balance"]
            # Calls are spent first: in no instant are more seats spent.
            assert 0 <= used["CALLS"] - used["SEATS"] <= 1
    finally:
        stop.set()
        spender.join()


def test_figures_beyond_28_digits_stay_exact(db: Engine) -> None:
    wallet.grant("999999999999999999.000000000001", "g")
    wallet.consume("0.000000000002", "c")

    assert shown()["CALLS"]["available"] == "999999999999999998.999999999999"
    assert shown()["CALLS"]["used"] == "0.000000000002"
    assert check()["remaining"] == "999999999999999998.999999999999"


def entries(**rest: Any) -> list[Any]:
    return list_ledger(tenant_id="acme", **rest)["entries"]


def test_the_ledger_is_listed_newest_first_over_all_products(db: Engine) -> None:
    wallet.product("SEATS")
    batch_id = wallet.grant(10, "g1", metadata={"order": 1})["batch_id"]
    wallet.grant(5, "g2", product_key="SEATS")
    wallet.grant(99, "g3", tenant_id="bolt")
    wallet.consume(4, "c1", day=1)

    found = entries()

    assert [one["cause_id"] for one in found] == ["c1", "g2", "g1"]
    assert found[2] == {
        "entry_id": found[2]["entry_id"],
        "product_key": "CALLS",
        "direction": "CREDIT",
        "action": "grant",
        "amount": "10",
        "balance_after": "10",
        "batch_id": batch_id,
        "cause_type": "billing.add_credits",
        "cause_id": "g1",
        "metadata": {"order": 1},
        "created_at": "2026-03-01T12:00:00Z",
    }


def test_the_ledger_is_filtered(db: Engine) -> None:
    set_tenant(tenant_id="acme", timezone="Asia/Tokyo")
    wallet.product("SEATS")
    wallet.product("ACCESS", "period")
    first = wallet.grant(10, "g1", expires_at=3)["batch_id"]
    wallet.grant(10, "g2", day=0.5)
    wallet.grant(5, "g3", day=1, product_key="SEATS")
    wallet.grant(1, "g4", day=1, product_key="ACCESS")
    wallet.consume(12, "c1", day=2)
    wallet.consume(1, "u", day=2, product_key="ACCESS")

    def causes(**rest: Any) -> list[str]:
        return [one["cause_id"] for one in entries(**rest)]

    assert causes(product_key="seats") == ["g3"]
    assert causes(action="consume") == ["u", "c1", "c1"]
    assert causes(action="CONSUME", direction="debit") == ["c1", "c1"]
    assert causes(direction="USE") == ["u"]
    assert causes(batch_id=first) == ["c1", "g1"]
    # The story's first noon is 21:00 in Tokyo; half a day later it is the next day there.
    assert causes(date_to="2026-03-02") == ["g1"]
    assert causes(date_from="2026-03-02", date_to="2026-03-03") == ["g4", "g3", "g2"]
    assert causes(date_from=wallet.at(1), date_to=wallet.at(2)) == ["g4", "g3"]
    assert causes(product_key="NONE") == []


def test_pages_of_the_ledger_are_whole_while_entries_are_written(db: Engine) -> None:
    wallet.product("SEATS")
    wallet.grant(100, "c", product_key="CALLS")
    wallet.grant(100, "s", product_key="SEATS")
    for number in range(8):
        wallet.consume(1, f"{number}", product_key=("CALLS", "SEATS")[number % 3 == 0])
    wanted = [one["entry_id"] for one in entries()]

    seen: list[int] = []
    cursor = None
    while not seen or cursor is not None:
        page = list_ledger(tenant_id="acme", limit=3, cursor=cursor)
        seen += [one["entry_id"] for one in page["entries"]]
        cursor = page["next_cursor"]
        wallet.consume(1, f"more {len(seen)}")

    assert seen == wanted
    cursor = list_ledger(tenant_id="acme", limit=3)["next_cursor"]
    with pytest.raises(Refusal) as refused:
        list_ledger(tenant_id="acme", limit=3, cursor=cursor, product_key="CALLS")
    assert refused.value.code == "cursor.invalid"


def test_batches_are_listed_newest_first_and_filtered(db: Engine) -> None:
    wallet.product("SEATS")
    granted = [
        wallet.grant(10, "a", expires_at=2, source="promo"),
        wallet.grant(10, "b", day=0.1, valid_from=5),
        wallet.grant(10, "c", day=0.2, product_key="SEATS"),
        wallet.grant(10, "d", day=0.3),
    ]
    a, b, c, d = (one["batch_id"] for one in granted)
    wallet.consume(20, "spend", day=1)
    wallet.sweep(3)

    def ids(day: float = 3, **rest: Any) -> list[Any]:
        found = list_batches(tenant_id="acme", as_of=wallet.at(day), **rest)
        return [one["batch_id"] for one in found["batches"]]

    assert ids() == [d, c, b, a]
    assert ids(product_key="calls") == [d, b, a]
    assert ids(state="exhausted") == [d, a]
    assert ids(source="promo") == [a]
    assert ids(usable=True) == [c]
    assert ids(day=5, usable=True) == [c, b]
    first = list_batches(tenant_id="acme", limit=3, as_of=wallet.at(3))
    assert ids(limit=3, cursor=first["next_cursor"]) == [a]


def test_a_batch_tells_what_became_of_it(db: Engine) -> None:
    batch_id = wallet.grant(10, "a", expires_at=20, source="promo")["batch_id"]
    wallet.consume(4, "c", day=1)

    answer = get_batch(tenant_id="acme", batch_id=batch_id, as_of=wallet.at(2))

    assert answer == {
        "batch_id": batch_id,
        "product_key": "CALLS",
        "state": "ACTIVE",
        "usable": True,
        "initial": "10",
        "remaining": "6",
        "held": "0",
        "priority": 0,
        "source": "promo",
        "valid_from": "2026-03-01T12:00:00Z",
        "expires_at": "2026-03-21T12:00:00Z",
        "created_at": "2026-03-01T12:00:00Z",
        "closed_at": None,
        "revoked_reason": None,
        "revoked_by": None,
        "metadata": {},
    }
    assert get_batch(tenant_id="acme", batch_id=batch_id, as_of=wallet.at(20))["usable"] is False
    with pytest.raises(Refusal) as refused:
        get_batch(tenant_id="bolt", batch_id=batch_id)
    assert refused.value.code == "batch.unknown"


@pytest.mark.parametrize("task", [list_ledger, list_batches])
def test_a_stranger_has_no_history(db: Engine, task: Any) -> None:
    with pytest.raises(Refusal) as refused:
        task(tenant_id="nobody")
    assert refused.value.code == "tenant.unknown"
    with pytest.raises(contract.InvalidMessage, match="limit"):
        task(tenant_id="nobody", limit=0)
