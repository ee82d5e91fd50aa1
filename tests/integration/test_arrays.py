"""Lists reach PostgreSQL as they are, whatever is in them."""

from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from models import database

pytestmark = pytest.mark.usefixtures("db")

ODD = [
    "",
    "null",
    "NULL",
    "a,b",
    "{}",
    '"',
    "\\",
    " a",
    "a\n",
    "tenant-1",
    "ü·料",
    "+:@/.-_",
    "a'b",
]

texts = st.sampled_from(ODD) | st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), max_size=6
)


def echoed(values: list[Any], kind: str) -> Any:
    with database.transaction() as session:
        statement = text(f"SELECT CAST(:given AS {kind}[])")
        return session.execute(statement, {"given": values}).scalar_one()


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(texts, max_size=8))
def test_texts_come_back_as_they_went(values: list[str]) -> None:
    assert echoed(values, "text") == values


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.uuids(), max_size=5))
def test_ids_come_back_as_they_went(values: list[UUID]) -> None:
    assert echoed(values, "uuid") == values


def test_lists_of_several_kinds_come_back_as_they_went() -> None:
    assert echoed(["tenant-1", None, "null"], "text") == ["tenant-1", None, "null"]
    assert echoed([["a", "b"], ["c", "d"]], "text") == [["a", "b"], ["c", "d"]]
    assert echoed([1, 2, 3], "bigint") == [1, 2, 3]
