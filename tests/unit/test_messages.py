"""Messages are written as kombu writes them, only sooner."""

import datetime as dt
import json as standard
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.serialization import registry
from kombu.utils import json

from worker import messages

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["null", "\ud800", "é"]),
    st.decimals(allow_nan=False),
    st.datetimes(),
)
VALUES = st.recursive(
    LEAVES,
    lambda some: st.one_of(
        st.lists(some, max_size=3),
        st.dictionaries(st.one_of(st.text(max_size=3), st.integers()), some, max_size=3),
    ),
    max_leaves=8,
)
EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def message(*events: Any) -> tuple[Any, ...]:
    return [], {"events": list(events), "as_of": None}, EMBED


def by_kombu(value: Any) -> str:
    return str(json.dumps(value))  # type: ignore[no-untyped-call]


def read(written: str) -> Any:
    return json.loads(written)  # type: ignore[no-untyped-call]


def same(one: Any, other: Any) -> bool:
    # As text, since NaN is not equal to itself.
    return standard.dumps(read(one), default=repr) == standard.dumps(read(other), default=repr)


@given(VALUES)
def test_what_is_read_is_what_kombu_would_have_written(value: Any) -> None:
    body = message(value)

    assert same(messages.write(body), by_kombu(body))
    assert same(messages.write(value), by_kombu(value))


@pytest.mark.parametrize(
    "value", [float("nan"), 2**70, "\ud800", Decimal("1.5"), dt.datetime(2026, 5, 1, tzinfo=dt.UTC)]
)
def test_what_is_no_plain_json_is_left_to_kombu(value: object) -> None:
    body = message({"amount": value})

    assert messages.write(body) == by_kombu(body)


def test_a_plain_chunk_is_not_left_to_kombu() -> None:
    body = message({"tenant_id": "acme", "amount": "1.5"}, {"tenant_id": "acme", "amount": 2})

    assert messages.write(body) == standard.dumps(body, separators=(",", ":"))


def test_celery_writes_so() -> None:
    content_type, _, written = registry.dumps(  # type: ignore[no-untyped-call]
        {"a": [1, 2]}, serializer="json"
    )

    assert (content_type, written) == ("application/json", '{"a":[1,2]}')
