"""From the lines of an invoice to what is due: a waterfall for each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from models.rules import money
from worker.demo import report
from worker.demo.page.plot import Bar, Line, Plot, Scale, Text
from worker.demo.page.section import Cell, Section, Table

ROW = 24.0
WORDS_END = 210.0
BARS_END = 620.0
FIGURES_END = 750.0
THICK = 15.0

LINE, MINUS, TAX, DUE = 2, 4, 3, 0
LEGEND = ((LINE, "lines"), (MINUS, "discounts and prepaid credit"), (TAX, "taxes"), (DUE, "due"))
"""The colours of what adds and what takes away."""


@dataclass(frozen=True, slots=True)
class _Step:
    words: str
    minor: int
    series: int
    key: str


def section(invoices: Sequence[dict[str, Any]], names: dict[str, str]) -> Section:
    """Draw each invoice, as `billing.get_invoice` answers it."""
    return Section(
        "Invoices",
        "Lines, less discounts, with taxes, less prepaid credit: what is due.",
        tuple(_plot(one, names) for one in invoices),
        tuple(_table(one, names) for one in invoices),
    )


def _steps(invoice: dict[str, Any]) -> list[_Step]:
    lines = [
        _Step(line["description"], line["amount_minor"], LINE, f"line/{place}")
        for place, line in enumerate(invoice["lines"], 1)
    ]
    after = report.steps(invoice)[:-1]
    return [
        *lines,
        *(
            _Step(words, minor, MINUS if minor < 0 else TAX, f"step/{n}")
            for n, (words, minor) in enumerate(after, 1)
        ),
        _Step("Amount due", invoice["amount_due_minor"], DUE, "due"),
    ]


def _plot(invoice: dict[str, Any], names: dict[str, str]) -> Plot:
    steps = _steps(invoice)
    plot = Plot(
        _title(invoice, names),
        "; ".join(f"{step.words} {_amount(invoice, step)}" for step in steps) + ".",
        ROW * len(steps) + 8,
        legend=LEGEND,
        says_all=True,
    )
    scale = Scale(0, max(_highest(steps), 1), WORDS_END, BARS_END)
    plot.lines.append(Line(((WORDS_END, 2), (WORDS_END, plot.height - 2)), "axis"))
    reached = 0
    for nth, step in enumerate(steps):
        begun = 0 if step.series == DUE else reached
        reached = begun + step.minor
        left, right = sorted((scale(begun), scale(reached)))
        y = 4 + nth * ROW
        plot.bars.append(Bar(left, y + (ROW - THICK) / 2, max(right - left, 1), THICK, step.series))
        if step.series != DUE:
            x = scale(reached)
            plot.lines.append(Line(((x, y + ROW / 2), (x, y + ROW * 1.5)), "grid"))
        plot.texts.append(Text(WORDS_END - 8, y + 16, step.words, "end"))
        plot.texts.append(Text(FIGURES_END, y + 16, _amount(invoice, step), "end"))
    return plot


def _highest(steps: Sequence[_Step]) -> int:
    reached = highest = 0
    for step in steps[:-1]:
        reached += step.minor
        highest = max(highest, reached)
    return highest


def _table(invoice: dict[str, Any], names: dict[str, str]) -> Table:
    rows = tuple(
        (
            Cell(step.words),
            Cell(_amount(invoice, step), f"invoice/{invoice['number']}/{step.key}"),
        )
        for step in _steps(invoice)
    )
    return Table(_title(invoice, names), ("", "amount"), rows, folded=True)


def _amount(invoice: dict[str, Any], step: _Step) -> str:
    return money.format_minor(step.minor, invoice["currency"])


def _title(invoice: dict[str, Any], names: dict[str, str]) -> str:
    return f"{invoice['number']} · {names[invoice['tenant_id']]}"
