"""Whatever a quote asks for, it is answered or refused by name."""

import copy
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from models.rules.refusal import Refusal
from tasks.quotes import quote
from tests.unit.rules import vectors

ODD: tuple[Any, ...] = (
    "1E+999999",
    "-1E-999999",
    "NaN",
    "-Infinity",
    "0." + "1" * 5_000,
    "9" * 4_000,
    "",
    "ten",
    "\x00",
    0,
    -1,
    2**70,
    True,
    None,
    [],
    {},
    [[]],
    {"": {}},
    ["2026-02-30", "9999-12-31"],
)
rows = vectors.rows("pricing", *vectors.models_of("pricing"))
values = st.sampled_from(ODD) | st.text(max_size=5) | st.integers()


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where anything stands in a JSON value."""
    below: list[tuple[Any, ...]] = [path] if path else []
    inner = value.items() if isinstance(value, dict) else ()
    for key, one in enumerate(value) if isinstance(value, list) else inner:
        below += places(one, (*path, key))
    return below


@given(
    row=st.sampled_from(rows),
    changes=st.lists(st.tuples(st.integers(0, 10_000), values), min_size=1, max_size=3),
)
def test_a_quote_is_answered_or_refused(row: vectors.Row, changes: list[tuple[int, Any]]) -> None:
    asked = copy.deepcopy({name: row[name] for name in ("model", "params", "currency", "input")})
    for number, value in changes:
        found = [place for place in places(asked) if len(place) > 1]
        if found:
            *path, last = found[number % len(found)]
            inner = asked
            for key in path:
                inner = inner[key]
            inner[last] = copy.deepcopy(value)

    try:
        answer = quote(**asked)
    except Refusal:
        return

    assert json.loads(json.dumps(answer)) == answer
    steps = [step["amount_minor"] for line in answer["lines"] for step in line["steps"]]
    assert sum(steps) == answer["amount_minor"]
