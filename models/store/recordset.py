"""Rows that are handed to a statement: a few as values, many as one JSON text."""

from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any, Final

import orjson

FEW: Final = 8
"""Rows that a statement is written for. It is planned for so many, and looks each up by its key;
of a JSON text the planner expects a hundred, and may rather read a table whole to join it."""

MANY: Final = 0
"""The shape of more rows than a few, or of none."""


@dataclass(frozen=True, slots=True)
class Recordset:
    """Rows of one kind: their name in the statement, and the type of each column.

    `few`: up to so many are written out. The driver reads a statement anew each time that has more
    than 50 parameters.
    """

    name: str
    columns: Mapping[str, str]
    few: int = FEW

    def shape(self, rows: Sized) -> int:
        """Return what of the number of rows a statement depends on: up to `few`, or MANY."""
        return len(rows) if len(rows) <= self.few else MANY

    def source(self, shape: int) -> str:
        """Return the item of FROM, called `name`: the columns, and as `nth` a row's place, from 1.

        Args:
            shape: of the rows that `parameters` is given.
        """
        columns = ", ".join(self.columns)
        if shape != MANY:
            rows = ", ".join(self._values(nth) for nth in range(shape))
            return f"(VALUES {rows}) AS {self.name} (nth, {columns})"
        types = ", ".join(f"{column} {type_}" for column, type_ in self.columns.items())
        return (
            f"ROWS FROM (json_to_recordset(CAST(:{self.name} AS json)) AS ({types}))"
            f" WITH ORDINALITY AS {self.name} ({columns}, nth)"
        )

    def parameters(self, rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
        """Return what `source` of their shape needs; each row has its values as `columns` says."""
        if self.shape(rows) == MANY:
            # The driver takes several times longer to write arrays.
            made = [dict(zip(self.columns, row, strict=True)) for row in rows]
            return {self.name: orjson.dumps(made, default=str).decode()}
        return {
            f"{self.name}_{nth}_{column}": value
            for nth, row in enumerate(rows)
            for column, value in zip(self.columns, row, strict=True)
        }

    def _values(self, nth: int) -> str:
        values = (
            f"CAST(:{self.name}_{nth}_{column} AS {type_})"
            for column, type_ in self.columns.items()
        )
        return f"({nth + 1}, {', '.join(values)})"
