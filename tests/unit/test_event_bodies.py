"""What is signed, stored and sent: the bytes of an event."""

import datetime as dt
import json
from decimal import Decimal

import pydantic
import pytest

from webhooks import events, examples

AT = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
FIELDS = ["id", "type", "timestamp", "tenant_id", "schema_version", "sequence", "data"]
TOPICS = sorted(events.CATALOGUE)


def body(topic: str) -> bytes:
    event = examples.data(events.CATALOGUE[topic])
    written = events.serialise(
        event, message_id="evt_1", tenant_id="größer 🦆", sequence=7, timestamp=AT
    )
    assert not written.truncated
    return written.content


@pytest.mark.parametrize("topic", TOPICS)
def test_a_body_is_compact_utf_8_with_the_fields_of_the_contract_in_order(topic: str) -> None:
    content = body(topic)
    said = json.loads(content)

    assert list(said) == FIELDS
    assert (said["id"], said["type"], said["sequence"]) == ("evt_1", topic, 7)
    assert json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode() == content


@pytest.mark.parametrize("topic", TOPICS)
def test_no_number_of_a_body_has_a_fraction(topic: str) -> None:
    """Money is minor units or a decimal string: a float is neither."""
    fractions: list[str] = []
    json.loads(body(topic), parse_float=fractions.append, parse_constant=fractions.append)

    assert fractions == []


@pytest.mark.parametrize("amount", ["NaN", "sNaN", "Infinity", "-Infinity"])
def test_what_is_no_number_is_no_event(amount: str) -> None:
    with pytest.raises(pydantic.ValidationError, match="amount"):
        events.QuotaConsumed(
            tenant_id="acme",
            product_key="TOKENS",
            amount=Decimal(amount),
            balance=Decimal(1),
            idempotency_key="k",
        )
