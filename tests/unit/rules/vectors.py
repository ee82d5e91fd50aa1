"""Published cases: rows of tests/vectors, for parametrised tests."""

import json
from pathlib import Path
from typing import Any

Row = dict[str, Any]

_FOLDER = Path(__file__).parents[2] / "vectors"


def rows(category: str, *models: str) -> list[Row]:
    """The rows of one category whose model is among `models`; there must be some of each."""
    every: list[Row] = json.loads((_FOLDER / f"{category}.json").read_text(encoding="utf-8"))
    chosen = [row for row in every if row["model"] in models]
    missing = set(models) - {row["model"] for row in chosen}
    if missing:
        raise LookupError(f"{category}.json has no rows of {sorted(missing)}")
    return chosen


def row_id(row: Row) -> str:
    """What a failing test is called."""
    return f"{row['id']}-{row['model']}"
