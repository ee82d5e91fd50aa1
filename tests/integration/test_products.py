"""Products: made, changed, one namespace with offers."""

import pytest
from sqlalchemy import Engine, text

from models.store import product
from tasks import contract
from tasks.catalog import set_product
from tests.integration import wallet


def test_a_product_key_is_upper_cased_and_a_new_product_is_active(db: Engine) -> None:
    answer = set_product(product_key=" api-calls ", name="API calls", type="quantity")

    assert answer == {
        "product_key": "API-CALLS",
        "name": "API calls",
        "type": "quantity",
        "is_currency": False,
        "burn_policy": "fifo",
        "active": True,
        "metadata": {},
    }
    assert wallet.rows(db, "SELECT key, kind FROM catalog_keys") == [("API-CALLS", "product")]


def test_what_is_not_given_stays(db: Engine) -> None:
    wallet.product(
        "COINS",
        is_currency=True,
        active=False,
        burn_policy="soonest_expiry_first",
        metadata={"a": 1},
    )
    wallet.product("COINS", metadata={"b": 2})

    found = "SELECT is_currency, active, burn_policy, metadata FROM products"
    assert wallet.rows(db, found) == [(True, False, "soonest_expiry_first", {"a": 1, "b": 2})]


def test_the_same_values_again_change_nothing(db: Engine) -> None:
    wallet.product()
    before = wallet.rows(db, "SELECT version, updated_at FROM products")
    wallet.product()

    assert wallet.rows(db, "SELECT version, updated_at FROM products") == before


def test_a_key_that_is_an_offers_is_refused(db: Engine) -> None:
    with db.begin() as connection:
        connection.execute(text("INSERT INTO catalog_keys VALUES ('STARTER', 'offer')"))

    with pytest.raises(product.CatalogKeyTaken, match="STARTER") as refusal:
        wallet.product("starter")

    assert (refusal.value.code, refusal.value.field) == ("catalog.key_taken", "product_key")
    assert wallet.rows(db, "SELECT * FROM products") == []


def test_a_product_keeps_its_type(db: Engine) -> None:
    wallet.product("SEATS", "period")

    with pytest.raises(product.ProductTypeFixed, match="period"):
        wallet.product("SEATS", "quantity")


def test_changing_a_product_does_not_stop_its_credit(db: Engine) -> None:
    wallet.product()
    with db.connect() as connection, connection.begin():
        connection.execute(text("SET LOCAL lock_timeout = '2s'"))
        connection.execute(text("SELECT 1 FROM products FOR NO KEY UPDATE"))

        assert wallet.grant(5, "g")["balance"] == "5"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("product_key", ""),
        ("product_key", "a\tb"),
        ("product_key", "\N{LATIN SMALL LETTER SHARP S}" * 64),
        ("name", ""),
        ("type", "x"),
    ],
)
def test_a_bad_argument_is_refused_by_its_name(db: Engine, field: str, value: str) -> None:
    arguments = {"product_key": "CALLS", "name": "Calls", "type": "quantity", field: value}

    with pytest.raises(contract.InvalidMessage, match=field):
        set_product(**arguments)
