"""Published cases: rows of tests/vectors and of the folder $BILLING_VECTORS, to parametrise tests.

Whoever runs the rows of a model asks for them with `rows`, and so says that they are run;
tests/unit/rules/test_vectors.py holds every row to that. How many of each model ran, and which rows
are not supported, is printed at the end of the run (tests/conftest.py).
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

Row = dict[str, Any]

FOLDER = Path(__file__).parents[2] / "vectors"

CATEGORIES = frozenset(
    {
        "aggregation",
        "billing_clock",
        "boundaries",
        "commitment",
        "credit_note",
        "credits",
        "idempotency",
        "invoice",
        "late_usage",
        "numbering",
        "pricing",
        "progressive",
        "proration",
        "reservation",
        "rounding",
        "tax",
        "timezone",
    }
)

BY_SECONDS = "a level is weighed by the days it lasted, not by seconds"
OF_CREDIT = "not rating: run by the tests of credit"

UNSUPPORTED: dict[str | tuple[str, str], str | None] = {
    # By category, by category and model, or by id; None where one of a category is supported.
    ("numbering", "invoice_number_per_customer"): (
        "numbers are gapless per issuer and series; one per customer is another series each"
    ),
    "credits": OF_CREDIT,
    ("credits", "prepaid_credit_covers_invoice"): None,
    "reservation": OF_CREDIT,
    "V083": BY_SECONDS,
    ("aggregation", "aggregation:avg"): "not among sum, count, max, unique_count, latest",
    ("aggregation", "aggregation:min"): "not among sum, count, max, unique_count, latest",
}

CLAIMED: set[tuple[str, str]] = set()
"""Categories and models whose rows somebody runs."""

RAN: Counter[tuple[str, str]] = Counter()
"""How often a row of a category and model passed a test."""


class UnreadableVectors(Exception):
    """A file of vectors is not as the others are."""


@cache
def every() -> tuple[Row, ...]:
    """Every row of every file, each id once; ours and those of $BILLING_VECTORS must be equal."""
    found: dict[str, Row] = {}
    for path in _files():
        for row in _read(path):
            if found.setdefault(row["id"], row) != row:
                raise UnreadableVectors(f"{path}: {row['id']} is another row elsewhere")
    return tuple(found.values())


def rows(category: str, *models: str) -> list[Row]:
    """The rows of one category whose model is among `models`; there must be some of each."""
    of_category = [row for row in every() if row["category"] == category]
    missing = set(models) - {row["model"] for row in of_category}
    if missing:
        raise LookupError(f"{category} has no rows of {sorted(missing)}")
    CLAIMED.update((category, model) for model in models)
    return [row for row in of_category if row["model"] in models and why_unsupported(row) is None]


def models_of(category: str) -> list[str]:
    """The models of a category that are supported."""
    found = {
        row["model"]
        for row in every()
        if row["category"] == category and (category, row["model"]) not in UNSUPPORTED
    }
    return sorted(found)


def why_unsupported(row: Row) -> str | None:
    """Why a row is not run; None if it is."""
    if row["category"] == "billing_clock" and _is_by_half_years(row["params"]):
        return "half a year is no interval"
    keys = row["id"], (row["category"], row["model"]), row["category"]
    return next((UNSUPPORTED[key] for key in keys if key in UNSUPPORTED), None)


def row_id(row: Row) -> str:
    """What a failing test is called."""
    return f"{row['id']}-{row['model']}"


def report() -> Iterator[str]:
    """How many rows of each model passed in this run, and which were not run, and why."""
    for (category, model), count in sorted(RAN.items()):
        yield f"{category} {model}: {count}"
    for row in every():
        reason = why_unsupported(row)
        if reason is not None:
            yield f"not supported: {row['id']} {row['category']} {row['model']}: {reason}"


def _is_by_half_years(params: Row) -> bool:
    return params["interval"] == "semiannual" and not params["usage_billed_monthly"]


def _files() -> Iterator[Path]:
    yield from sorted(FOLDER.glob("*.json"))
    elsewhere = os.environ.get("BILLING_VECTORS")
    if elsewhere:
        paths = sorted(Path(elsewhere).glob("*.json"))
        if not paths:
            raise UnreadableVectors(f"BILLING_VECTORS: {elsewhere} has no files *.json")
        yield from paths


def _read(path: Path) -> list[Row]:
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UnreadableVectors(f"{path}: {error}") from None
    if not isinstance(read, list):
        raise UnreadableVectors(f"{path} must be a list of rows")
    for row in read:
        if not isinstance(row, dict) or not {"id", "category", "model", "input"} <= row.keys():
            raise UnreadableVectors(f"{path}: {str(row)[:80]} is no row")
    return read
