"""An error of the database names the rule that was broken, and no value."""

import traceback

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from models import database, failures

MARKER = "marker-4711"
NAME = "name text UNIQUE DEFERRABLE INITIALLY DEFERRED"


def told(error: BaseException) -> str:
    """All that a log or an answer would hold of an error."""
    return "".join(traceback.format_exception(error)) + repr(error.args)


def test_it_still_tells_code_what_was_refused_and_why(db: Engine) -> None:
    with pytest.raises(IntegrityError) as caught, database.transaction() as session:
        session.execute(
            text("INSERT INTO tenants (tenant_id) VALUES (:name), (:name)"), {"name": MARKER}
        )

    assert failures.is_refused_value(caught.value)
    assert not failures.is_retryable(caught.value)
    assert 'violates unique constraint "pk_tenants"' in told(caught.value)
    assert MARKER not in told(caught.value)
    assert MARKER in str(caught.value.orig.diag.message_detail)  # type: ignore[union-attr]


@pytest.mark.parametrize("value", ['with "quotes" ' + MARKER, f"over\ntwo lines {MARKER}"])
def test_a_value_of_any_shape_is_left_out(db: Engine, value: str) -> None:
    with pytest.raises(DBAPIError) as caught, database.transaction() as session:
        session.execute(text("SELECT CAST(CAST(:value AS text) AS numeric)"), {"value": value})

    assert 'invalid input syntax for type numeric: "…"' in told(caught.value)
    assert "marker" not in told(caught.value)


def test_text_that_is_no_text_is_left_out(db: Engine) -> None:
    with pytest.raises(ValueError, match="UTF-8") as caught, database.transaction() as session:
        session.execute(text("SELECT :value"), {"value": f"{MARKER}\ud800"})

    assert MARKER not in told(caught.value)


def test_an_error_found_at_the_commit_is_quoted_as_little(db: Engine) -> None:
    def repeat_a_name() -> None:
        with database.transaction() as session:
            session.execute(text(f"CREATE TEMPORARY TABLE one ({NAME}) ON COMMIT DROP"))
            session.execute(text("INSERT INTO one VALUES (:name), (:name)"), {"name": MARKER})

    with pytest.raises(IntegrityError) as caught:
        repeat_a_name()

    assert "UniqueViolation" in told(caught.value)
    assert MARKER not in told(caught.value)
