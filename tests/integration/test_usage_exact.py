"""Checking chunks quickly changes nothing: verdicts, reasons and rows are those of the schema."""

import datetime as dt
from decimal import Decimal
from typing import Any

import orjson
import pydantic
from hypothesis import HealthCheck, given, settings
from sqlalchemy import Engine, text

from models import database
from tasks import message_faults, usage_fields
from tasks.usage import record_usage
from tests.odd_events import CHUNKS, LATEST

AS_OF = LATEST - dt.timedelta(hours=1)
"""An event may be an hour ahead."""

ROWS = """
    SELECT tenant_id, metric, idempotency_key, amount, at, metadata FROM usage_events
    ORDER BY tenant_id, metric, idempotency_key
"""


def by_the_schema(event: Any) -> tuple[Any, list[dict[str, Any]]]:
    try:
        taken = usage_fields.EVENT.validate_python(event, context=LATEST)
    except pydantic.ValidationError as error:
        return None, message_faults.describe(error, schema=usage_fields.schema())
    if str(taken["amount"]).startswith("-"):
        return None, [{"field": "amount", "reason": "must be 0 or more"}]
    return taken, []


def row(event: Any) -> tuple[Any, ...]:
    return (
        event["tenant_id"],
        event["metric"],
        event["idempotency_key"],
        Decimal(event["amount"]),
        event.get("at") or AS_OF,
        as_json(event.get("metadata") or {}),
    )


def as_json(value: Any) -> Any:
    """As it is read back, but 1 is not True."""
    return orjson.loads(
        orjson.dumps(value).replace(b"true", b'"true"').replace(b"false", b'"false"')
    )


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(CHUNKS)
def test_what_becomes_of_a_chunk_is_what_the_schema_says(db: Engine, events: list[Any]) -> None:
    expected: list[str] = []
    stored: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    reasons: dict[int, tuple[str | None, str]] = {}
    for place, event in enumerate(events):
        taken, errors = by_the_schema(event)
        if taken is None:
            expected.append("rejected")
            reasons[place] = (errors[0]["field"], errors[0]["reason"][:17])
            continue
        key = row(taken)[:3]
        first = stored.setdefault(key, row(taken))
        is_same = first == row(taken)
        expected.append(
            "conflict"
            if not is_same
            else "duplicate"
            if key in seen(events[:place])
            else "accepted"
        )

    answer = record_usage(events=events, as_of=AS_OF)

    assert answer["verdicts"] == expected
    assert {
        each["index"]: (each["field"], each["reason"][:17])
        for each in answer["refused"]
        if each["verdict"] == "rejected"
    } == reasons
    with database.transaction() as session:
        found = session.execute(text(ROWS)).all()
        session.execute(text("SET LOCAL session_replication_role = replica"))
        session.execute(text("TRUNCATE usage_events"))
    assert {each[:3]: (*each[:5], as_json(each[5])) for each in found} == stored


def seen(events: list[Any]) -> set[tuple[Any, ...]]:
    """The keys of the good ones among events."""
    return {row(taken)[:3] for event in events if (taken := by_the_schema(event)[0]) is not None}
