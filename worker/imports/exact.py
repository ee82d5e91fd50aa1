"""Amounts of JSON rows as they are written: as a float one would bill something else."""

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple

from worker.imports.rows import Block

UNREADABLE: Final = "is nested too deep, or has a number that is too long"


class Read(NamedTuple):
    """JSON rows, their objects with exact amounts, and the rows for which there are none."""

    block: Block
    objects: Sequence[dict[str, Any]]
    faults: Sequence[tuple[int, str]]


def read(block: Block, *, amounts: Sequence[str]) -> Read:
    """Read the fields of rows again that hold amounts, where one is no whole number.

    Args:
        block: rows of JSON; those that come back have no faults of their own.
        amounts: the names of the fields.
    """
    inexact = {
        place: names
        for place, each in enumerate(block.values)
        if (names := [name for name in amounts if type(each.get(name)) is float])
    }
    if not inexact:
        return Read(block, block.values, block.faults)
    objects: dict[int, dict[str, Any]] = dict(enumerate(block.values))
    faults = list(block.faults)
    for place, names in inexact.items():
        try:
            # No float can hold it: the numbers of the text as they stand there.
            written = json.loads(block.texts[place], parse_float=Decimal)
        except (ValueError, RecursionError):
            faults.append((block.lines[place], UNREADABLE))
            del objects[place]
        else:
            objects[place] = objects[place] | {name: written[name] for name in names}
    lines = [block.lines[place] for place in objects]
    values = [block.values[place] for place in objects]
    return Read(Block(lines, values), list(objects.values()), faults)
