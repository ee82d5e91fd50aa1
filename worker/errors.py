"""docs/errors.md: every code a refusal can have, its cause and what to do, read from the source.

A refusal is a class with a code, which its docstring explains; where it is raised, its message says
what was wrong and what would be right. Both are read here, so that no list of them is kept by hand.
"""

import ast
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOMS: Final = ("models", "tasks", "webhooks", "worker")

WITHOUT_CLASS: Final = {
    "message.unreadable": (
        "What came off the queue is no call of a task.",
        "send Celery messages of protocol 2, with keyword arguments as a JSON object",
    ),
    "refused": (
        "A refusal without a code of its own.",
        "its message says what; it is a fault that it has none, report it",
    ),
    "task.unknown": (
        "The message is for a task that this program does not have.",
        "correct the name, `billing schema tasks` lists them; or run a newer program and replay it",
    ),
    "unexpected": (
        "Something went wrong that nobody foresaw; nothing was changed.",
        "read the worker's log, mend the cause, and replay the message with `billing rejected`",
    ),
    "worker.lost": (
        "Each worker that took the message died or ran out of time, three times.",
        "read the worker's log; replay the message with `billing rejected` when it can be taken",
    ),
}
"""Codes of messages that were kept for another reason than a refusal: the cause and what to do."""

SAID_ELSEWHERE: Final = {
    "delivery.unknown": "look it up with billing.list_deliveries",
    "endpoint.headers": "give at most 20, of 4 KiB in all, counted with those it has",
    "message.invalid": "each fault names its field and what would be right; `billing schema tasks` "
    "prints what a task takes",
    "tenant.merge_conflict": "its message names everything that stands in the way, and how each is "
    "settled; billing.preview_merge tells it beforehand",
    "price.invalid": "its message names the place in the price and what would be right; "
    "docs/prices.md has every model",
}
"""Of refusals whose messages are not in one place: what they say."""

_HEADING: Final = """\
# Errors

Every refusal has a code that does not change. It is in what a failed task leaves in the result
backend (`exc_message` is `[message, code, field]`), in `code` of what `billing rejected` keeps and
of `billing.transaction_error`, in brackets behind what a command prints, and in Python it is
`error.code`. A refusal changes nothing. Written from the source by `make docs`.

| code | when | what it says, and what to do |
|---|---|---|"""


@dataclass(frozen=True, slots=True)
class Code:
    """A stable code: its cause, and what is said where it is raised."""

    code: str
    cause: str
    says: tuple[str, ...]


def to_markdown(folder: Path) -> str:
    """Return docs/errors.md for the source under `folder`."""
    rows = [
        f"| `{one.code}` | {_cell(one.cause)} | {'<br>'.join(map(_cell, one.says))} |"
        for one in codes(folder)
    ]
    return "\n".join([_HEADING, *rows, ""])


def codes(folder: Path) -> list[Code]:
    """Return every code of the source under `folder`, by name.

    Several classes that share a code are one row.
    """
    trees = {
        path: list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        for path in _sources(folder)
    }
    classes = {
        (path, node.name): (code, ast.get_docstring(node) or "")
        for path, nodes in trees.items()
        for node in nodes
        if isinstance(node, ast.ClassDef) and (code := _code_of(node)) is not None
    }
    says = _messages(trees, classes)
    causes: dict[str, list[str]] = defaultdict(list)
    for code, doc in classes.values():
        causes[code].append(_sentence(doc))
    found = [
        Code(
            code,
            " ".join(dict.fromkeys(said)),
            (SAID_ELSEWHERE[code],) if code in SAID_ELSEWHERE else tuple(sorted(says[code])),
        )
        for code, said in causes.items()
        if code not in WITHOUT_CLASS
    ]
    others = [Code(code, cause, (remedy,)) for code, (cause, remedy) in WITHOUT_CLASS.items()]
    return sorted([*found, *others], key=lambda one: one.code)


def _sources(folder: Path) -> Iterator[Path]:
    for room in ROOMS:
        yield from sorted((folder / room).rglob("*.py"))


def _code_of(node: ast.ClassDef) -> str | None:
    for statement in node.body:
        match statement:
            case (
                ast.AnnAssign(target=ast.Name("code"), value=ast.Constant(str(value)))
                | ast.Assign(targets=[ast.Name("code")], value=ast.Constant(str(value)))
            ):
                return value
    return None


def _messages(
    trees: Mapping[Path, Sequence[ast.AST]], classes: Mapping[tuple[Path, str], tuple[str, str]]
) -> dict[str, set[str]]:
    """What is said of each code: the first argument of each call of one of its classes."""
    of_name: dict[str, dict[Path, str]] = defaultdict(dict)
    for (path, name), (code, _) in classes.items():
        of_name[name][path] = code
    says: dict[str, set[str]] = defaultdict(set)
    for path, nodes in trees.items():
        imports = _imports(nodes)
        for node in nodes:
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name, named = _called(node.func)
            text = _text(node.args[0]) if name in of_name else None
            if text is not None:
                for code in _meant(of_name[name], path, imports, named):
                    says[code].add(text)
    return says


def _called(function: ast.expr) -> tuple[str, str]:
    """The name of what is called, and the name in this module that leads to it."""
    match function:
        case ast.Attribute(value=ast.Name(module), attr=name):
            return name, module
        case ast.Name(name):
            return name, name
        case _:
            return "", ""


def _imports(nodes: Sequence[ast.AST]) -> dict[str, str]:
    """What each imported name is of: the last part of its module's, or of the module it is."""
    return {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in nodes
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def _meant(
    of_path: Mapping[Path, str], path: Path, imports: Mapping[str, str], named: str
) -> Collection[str]:
    """Of classes of one name, the one of this module or of what is imported; else all of them."""
    if path in of_path and named not in imports:
        return [of_path[path]]
    module = Path(*imports.get(named, "").split("."))
    found = [
        code
        for one, code in of_path.items()
        if any(str(part) in str(one.with_suffix("")) for part in (module, module.parent))
    ]
    return found if named in imports and found else set(of_path.values())


def _text(message: ast.expr) -> str | None:
    """A message as it is written, with names where values will be."""
    match message:
        case ast.Constant(str(value)):
            return value
        case ast.JoinedStr(values=parts):
            return "".join(
                str(part.value) if isinstance(part, ast.Constant) else _placeholder(part)
                for part in parts
            )
        case _:
            return None


def _placeholder(part: ast.expr) -> str:
    value = part.value if isinstance(part, ast.FormattedValue) else part
    match value:
        case ast.Name(name) | ast.Attribute(attr=name):
            return f"{{{name}}}"
        case _:
            return "…"


def _sentence(doc: str) -> str:
    return " ".join(doc.partition("\n\n")[0].split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
