"""Modules fit on a few screens and functions on one, so that each line is where a reader looks.

The exceptions are named with their reason and may only shrink: whoever makes one smaller lowers its
number, and one that fits is taken off the list.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

LINES_OF_A_MODULE = 250
LINES_OF_A_BODY = 40
"""Of a function, without its signature and its docstring."""

ROOMS = ("worker", "tasks", "webhooks", "models", "benchmarks", "examples")

LARGER_MODULES = {
    "benchmarks/deliveries.py": (330, "one benchmark, told from top to bottom"),
    "benchmarks/ingest.py": (261, "one benchmark, told from top to bottom"),
    "benchmarks/layouts.py": (316, "one benchmark, told from top to bottom"),
    "models/rights.py": (260, "one row for each table"),
    "models/store/credit_account.py": (286, "its statements stand beside what they are for"),
    "models/store/credit_expiry.py": (281, "one statement in five parts, none of use alone"),
    "models/store/delivery.py": (289, "one lock order for all that ends an attempt"),
    "tasks/credit_notes.py": (278, "to be split: the note, and what becomes of its money"),
    "tasks/credits.py": (292, "three commands with all they say of themselves"),
    "tasks/producer/buffered.py": (340, "one class, whose one lock guards all of it"),
    "tasks/sending.py": (363, "one run, whose steps share its clock and its window"),
    "tasks/window.py": (342, "one class, whose one lock guards all of it"),
    "webhooks/stripe_invoices.py": (272, "one provider's API, a method for each of its calls"),
}
"""Lines that each has now, and why it is not smaller."""

LONGER_BODIES = {
    "benchmarks/consume.py _spending": (44, "what is measured, and the world around it"),
    "benchmarks/invoices.py measure": (57, "what is measured, and the world around it"),
    "tasks/outcomes.py of_attempt": (42, "one decision, case by case"),
    "worker/celery.py configuration": (73, "a table of Celery's settings with their reasons"),
}
"""Lines that each has now, and why it is not shorter."""


def test_modules_fit_on_a_few_screens(checkout: Path) -> None:
    sizes = {name: len(text.splitlines()) for name, text in sources(checkout)}

    assert too_large(sizes, LINES_OF_A_MODULE, LARGER_MODULES) == []


def test_functions_fit_on_one_screen(checkout: Path) -> None:
    sizes = {
        f"{name} {function.name}": lines_of(function)
        for name, text in sources(checkout)
        for function in ast.walk(ast.parse(text))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
    }

    assert too_large(sizes, LINES_OF_A_BODY, LONGER_BODIES) == []


def test_what_fits_is_no_exception() -> None:
    assert too_large({"fits": 3, "grew": 7, "shrank": 4}, 5, {}) == ["grew: 7 lines"]
    assert too_large({"shrank": 4}, 5, {"shrank": (6, "")}) == ["shrank fits: take it off the list"]
    assert too_large({}, 5, {"gone": (6, "")}) == ["gone fits: take it off the list"]
    assert too_large({"known": 6}, 5, {"known": (6, "")}) == []


def too_large(sizes: dict[str, int], limit: int, known: dict[str, tuple[int, str]]) -> list[str]:
    larger = [
        f"{name}: {size} lines"
        for name, size in sizes.items()
        if size > max(limit, known.get(name, (0, ""))[0])
    ]
    fitting = [
        f"{name} fits: take it off the list" for name in known if sizes.get(name, 0) <= limit
    ]
    return larger + fitting


def sources(checkout: Path) -> Iterator[tuple[str, str]]:
    for room in ROOMS:
        for path in sorted((checkout / room).rglob("*.py")):
            # Migrations are frozen: each says in one piece what it does.
            if "versions" not in path.parts and "node_modules" not in path.parts:
                yield str(path.relative_to(checkout)), path.read_text(encoding="utf-8")


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (function.end_lineno or 0) - first[0].lineno + 1 if first else 0
