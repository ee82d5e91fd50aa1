"""Properties of the names that products and offers share, however they are spelled."""

import itertools
import string
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from models.store.product import CatalogKeyTaken
from tasks.catalog import set_product
from tasks.offers import set_offer
from tests.integration import wallet

EXAMPLES = itertools.count()

GIFT = {"product_key": "GIFT", "quantity": "1", "period": "days", "value": 1}

CLAIMED = "SELECT key, kind FROM catalog_keys"
STORED = "SELECT product_key, 'product' FROM products UNION ALL SELECT sku, 'offer' FROM offers"

Spelling = Callable[[str], str]

# Some letters become two in upper case, some are not ASCII, one has no case at all.
LETTERS = string.ascii_letters + string.digits + "-_.ßﬁéıǆώ字"
NAMES = st.text(LETTERS, min_size=1, max_size=3)
SPELLINGS: list[Spelling] = [str, str.upper, str.lower, str.title, str.swapcase, "  {} ".format]
CALLS = st.tuples(st.sampled_from(["product", "offer"]), NAMES, st.sampled_from(SPELLINGS))


def name(kind: str, key: str) -> Any:
    """Make a product or an offer; return the key in the answer, or the field that is refused."""
    try:
        if kind == "product":
            return set_product(product_key=key, name="One", type="quantity")["product_key"]
        terms: dict[str, Any] = {"name": "One", "price": "0", "currency": "EUR", "items": [GIFT]}
        return set_offer(sku=key, as_of=wallet.START, **terms)["sku"]
    except CatalogKeyTaken as refusal:
        return refusal.field


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=st.lists(CALLS, max_size=12))
@example(calls=[("product", "ß", str), ("offer", "ss", str.title)])
@example(calls=[("offer", "a", str), ("product", "A", str), ("offer", "A", "  {} ".format)])
def test_one_key_names_one_thing_however_it_is_spelled(
    db: Engine, calls: list[tuple[str, str, Spelling]]
) -> None:
    name("product", "GIFT")
    # Each example has names of its own: what one leaves is nothing to the next.
    prefix = f"E{next(EXAMPLES)}."
    owners: dict[str, str] = {}
    for kind, letters, spell in calls:
        spelled = spell(prefix + letters)
        key = spelled.strip().upper()
        if owners.setdefault(key, kind) == kind:
            assert name(kind, spelled) == key
        else:
            assert name(kind, spelled) == ("product_key" if kind == "product" else "sku")

    claimed = {key: kind for key, kind in wallet.rows(db, CLAIMED) if key.startswith(prefix)}
    stored = {key: kind for key, kind in wallet.rows(db, STORED) if key.startswith(prefix)}
    assert claimed == stored == owners
