"""Tenants: introduced, changed, merged over, never wiped."""

import pytest
from sqlalchemy import Engine

from tasks import contract
from tasks.tenants import set_tenant


def test_a_new_tenant_gets_defaults(db: Engine) -> None:
    answer = set_tenant(tenant_id="acme")

    assert answer == {
        "tenant_id": "acme",
        "name": None,
        "timezone": "UTC",
        "currency": "USD",
        "address": None,
        "tax_number": None,
        "metadata": {},
    }


def test_what_is_not_given_stays_and_metadata_is_merged(db: Engine) -> None:
    set_tenant(tenant_id="acme", name="Acme Ltd", currency="EUR", metadata={"a": 1, "b": 1})

    answer = set_tenant(tenant_id="acme", timezone="Asia/Kathmandu", metadata={"b": 2})

    assert answer["name"] == "Acme Ltd"
    assert answer["currency"] == "EUR"
    assert answer["timezone"] == "Asia/Kathmandu"
    assert answer["metadata"] == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tenant_id", None),
        ("tenant_id", ""),
        ("tenant_id", "x" * 65),
        ("tenant_id", "a\x00b"),
        ("timezone", "Mars/Olympus"),
        ("currency", "XYZ"),
        ("metadata", {"big": "x" * 20_000}),
        ("surprise", 1),
    ],
)
def test_a_bad_argument_is_refused_by_its_name(db: Engine, field: str, value: object) -> None:
    arguments = {"tenant_id": "acme", field: value}

    with pytest.raises(contract.InvalidMessage, match=field):
        set_tenant(**arguments)
