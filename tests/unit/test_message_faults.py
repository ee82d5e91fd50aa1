"""What is said of arguments that do not fit: what is wrong, and what would be right."""

from typing import Any

import pydantic
import pytest

from tasks import expected, message_faults
from tasks.spec import REGISTRY


def _has_type(schema: dict[str, Any]) -> bool:
    return not {"anyOf", "type", "$ref", "enum"}.isdisjoint(schema)


def faults(task: str, **arguments: Any) -> dict[str, str]:
    spec = REGISTRY[f"billing.{task}"]
    with pytest.raises(pydantic.ValidationError) as raised:
        spec.model.model_validate(arguments)
    described = message_faults.describe(raised.value, spec)
    return {fault["field"]: fault["reason"] for fault in described}


@pytest.mark.parametrize(
    ("task", "field", "wanted"),
    [
        ("set_tenant", "tenant_id", "a text of 1 to 64 characters"),
        ("get_invoice", "invoice_id", "a UUID"),
        ("set_product", "type", "one of quantity, period, unlimited"),
        ("set_entitlement", "limit", "a number of 0 or more"),
        ("aggregate_daily", "day_start", "a date, such as 2026-01-31 or an instant, such as "),
        ("quote", "params", "an object"),
        ("skip_delivery", "delivery_id", "a whole number"),
        ("import_legacy", "rows", "a list"),
    ],
)
def test_of_what_is_missing_it_is_said_what_it_must_be(task: str, field: str, wanted: str) -> None:
    assert faults(task)[field].startswith(f"is missing; it must be {wanted}")


def test_what_is_missing_deep_within_is_said_by_its_own_schema() -> None:
    given = {"plan_key": "pro", "name": "Pro", "prices": [{"price_key": "calls"}]}

    assert faults("set_plan", **given) == {
        "prices.0.kind": "is missing; it must be one of fixed, usage, setup, commitment",
        "prices.0.currency": "is missing; it must be a text",
    }


def test_of_what_is_misspelled_the_right_name_is_said() -> None:
    assert faults("set_tenant", tenant_id="acme", timezon="UTC") == {
        "timezon": "is not known here; did you mean timezone?"
    }
    prices = [{"price_key": "a", "kind": "fixed", "currency": "USD", "unit_amunt": "1"}]
    assert faults("set_plan", plan_key="pro", name="Pro", prices=prices) == {
        "prices.0.unit_amunt": "is not known here; did you mean unit_amount?"
    }


def test_of_what_resembles_nothing_all_names_are_said() -> None:
    assert faults("undo_change", subscription_id="0197b0d4-0000-7000-8000-000000000000", x=1) == {
        "x": "is not known here; known are subscription_id, as_of"
    }


def test_reasons_of_pydantic_are_said_as_our_own() -> None:
    assert faults("list_invoices", limit=0, state="lost") == {
        "limit": "must be greater than or equal to 1",
        "state": "must be 'draft', 'finalized', 'paid', 'void' or 'uncollectible'",
    }
    assert faults("set_tenant", tenant_id="") == {"tenant_id": "must have at least 1 character"}
    assert faults("set_tenant", tenant_id="a", as_of="yesterday") == {
        "as_of": "must be an instant in ISO 8601, such as 2026-01-31T23:59:59Z"
    }


@pytest.mark.parametrize("task", sorted(REGISTRY))
def test_of_every_argument_of_every_task_it_can_be_said_what_it_must_be(task: str) -> None:
    schema = REGISTRY[task].model.model_json_schema()
    # An event sent alone is looked at by the fields of events, which say it better.
    typed = [name for name, one in schema.get("properties", {}).items() if _has_type(one)]

    assert [name for name in typed if expected.at(schema, (name,)) is None] == []


def test_without_a_schema_it_is_said_that_it_is_missing() -> None:
    class Row(pydantic.BaseModel, extra="forbid"):
        name: str

    with pytest.raises(pydantic.ValidationError) as raised:
        Row.model_validate({"nmae": 1})

    assert [fault["reason"] for fault in message_faults.describe(raised.value)] == [
        "is missing",
        "is not known",
    ]
