"""How quotes and the steps of lines are shown."""

from collections.abc import Iterator
from typing import Any

from rich.table import Table
from rich.text import Text

from models.rules import money
from tasks.papers import steps
from tasks.quotes import QuoteAnswer, QuotedLine


def table(number: int, row_id: Any, answer: QuoteAnswer) -> Table:
    """Return a quote with the steps of its lines. `number` is the line it was asked in."""
    currency = answer["currency"]
    grid = Table.grid(padding=(0, 2))
    for justify in ("left", "right", "right"):
        grid.add_column(justify=justify)
    named = f"line {number}" + ("" if row_id is None else f", {row_id}")
    grid.add_row(
        f"{named}: {answer['model']}",
        "",
        Text(money.format_minor(answer["amount_minor"], currency), style="bold"),
    )
    for line in answer["lines"]:
        for what, how, amount in _rows(line, currency):
            grid.add_row(f"  {what}", how, amount)
    return grid


def _rows(line: QuotedLine, currency: str) -> Iterator[tuple[str, str, str]]:
    for step in line["steps"]:
        what, how = steps.in_words(step, currency)
        yield (
            steps.joined(line["name"] or "", what),
            how,
            money.format_minor(step["amount_minor"], currency),
        )
