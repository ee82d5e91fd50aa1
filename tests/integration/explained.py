"""How PostgreSQL carries out a statement that the program runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, event


@contextmanager
def explained(engine: Engine, words: str) -> Iterator[list[str]]:
    """Collect the plan of each statement that has these words, run with its own parameters."""
    plans: list[str] = []

    def explain(connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if words in statement and not statement.startswith("EXPLAIN"):
            # It does what it explains, which must not be done yet.
            connection.exec_driver_sql("SAVEPOINT explained")
            rows = connection.exec_driver_sql(f"EXPLAIN (ANALYZE) {statement}", parameters)
            plans.append("\n".join(row[0] for row in rows))
            connection.exec_driver_sql("ROLLBACK TO SAVEPOINT explained")

    event.listen(engine, "before_cursor_execute", explain)
    try:
        yield plans
    finally:
        event.remove(engine, "before_cursor_execute", explain)
