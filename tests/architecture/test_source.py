"""Habits a machine can check by reading the source."""

import ast
import functools
from collections.abc import Container, Iterator
from pathlib import Path

import pytest

CLOCK_CALLS = {"now", "utcnow", "today", "time", "monotonic", "perf_counter"}
CLOCK_OWNERS = {"datetime", "dt", "date", "time"}

KEEPS_TIME = {
    # Waits on sockets with a deadline: the wall clock is its subject.
    "webhooks/transport.py",
    "webhooks/guard.py",
    "webhooks/lookup.py",
}


def sources(checkout: Path, *rooms: str) -> Iterator[tuple[str, ast.AST]]:
    for room in rooms:
        for path in sorted((checkout / room).rglob("*.py")):
            yield str(path.relative_to(checkout)), parsed(path)


@functools.cache
def parsed(path: Path) -> ast.AST:
    return ast.parse(path.read_text())


def calls(tree: ast.AST, names: Container[str]) -> Iterator[tuple[str, int]]:
    """Every call of the form owner.name(…), for some names: its owner and line."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in names
        ):
            yield ast.unparse(node.func.value), node.lineno


def test_only_the_database_module_commits_or_rolls_back(checkout: Path) -> None:
    found = [
        f"{name}:{line}"
        for name, tree in sources(checkout, "worker", "tasks", "webhooks", "models")
        for _, line in calls(tree, {"commit", "rollback"})
        if name != "models/database.py"
    ]

    assert found == []


def test_below_tasks_nobody_reads_the_clock(checkout: Path) -> None:
    found = [
        f"{name}:{line}"
        for name, tree in sources(checkout, "models", "webhooks")
        for owner, line in calls(tree, CLOCK_CALLS)
        if owner.split(".")[-1] in CLOCK_OWNERS and name not in KEEPS_TIME
    ]

    assert found == []


def test_no_float_in_models(checkout: Path) -> None:
    found = [
        f"{name}:{node.lineno}"
        for name, tree in sources(checkout, "models")
        for node in ast.walk(tree)
        if (isinstance(node, ast.Constant) and isinstance(node.value, float))
        or (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "float"
        )
    ]

    assert found == []


def test_only_the_worker_reads_the_environment(checkout: Path) -> None:
    found = [
        f"{name}:{node.lineno}"
        for name, tree in sources(checkout, "tasks", "webhooks", "models")
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr in {"environ", "getenv"}
        and ast.unparse(node.value) == "os"
    ]

    assert found == []


@pytest.mark.parametrize("name", ["utils", "helpers", "common", "misc"])
def test_no_room_has_a_junk_drawer(checkout: Path, name: str) -> None:
    found = [
        path
        for room in ("worker", "tasks", "webhooks", "models")
        for path in (checkout / room).rglob(f"{name}.py")
    ]

    assert found == []
