"""The parts of the documents that are written from the code; `make docs` rewrites them in place."""

import importlib
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from models import rights
from models.rules import states
from models.rules.states import drawing
from tasks import contract, metrics
from webhooks import events
from worker import cli, errors, schemas, settings, standing
from worker.celery import TASK_MODULES
from worker.settings import ROOT
from worker.sizing import costs
from worker.sizing import tables as sizing

HEAD = """# Reference

Written from the code by `make docs`; a test keeps it equal. Also written so: the code of every
refusal in [errors](errors.md), every life cycle in [states](states.md), the schema of every event
in [schemas](../schemas).
"""

WORDS = {
    "Commands": """\
`billing COMMAND --help` has the arguments. What is refused is said in one line; status 1 says that
it failed, 2 that it was asked wrongly or the servers are not there.""",
    "Tasks": """\
Callable by name from any Celery client, as `task.delay(…)`, or as a plain function in process,
always with the same keyword arguments. `billing schema tasks` prints every schema.""",
    "Topics": """\
The body of every event: `{id, type, timestamp, tenant_id, schema_version, sequence, data}`;
`sequence` counts per object, so that a receiver can tell stale from new.""",
    "Metrics": """\
Processes count when `BILLING_METRICS_FOLDER` names a folder, the same for all on a host; `billing
metrics` adds up what is in it and serves it to Prometheus, `billing metrics --once` prints it.""",
    "Settings": """\
Variables of the environment. An empty one is not set; one that can not be used is named, and its
value is not shown. [How they are read](settings.md), and secrets from files.""",
}


def write(folder: Path = ROOT) -> None:
    """Bring the generated documents and schemas/ under `folder` up to date with the code."""
    for path, text in pages(folder).items():
        path.write_text(text, encoding="utf-8")
    schemas.write(folder)


def pages(folder: Path) -> dict[Path, str]:
    """Return each document that has generated parts, as it should read."""
    how_to = folder / "docs" / "how-to.md"
    scaling = folder / "docs" / "scaling.md"
    return {
        scaling: sizing.fill(scaling.read_text(encoding="utf-8"), costs.load()),
        how_to: _example(how_to.read_text(encoding="utf-8"), folder, "examples/produce.py"),
        folder / "docs" / "reference.md": reference_page(),
        folder / "docs" / "states.md": drawing.to_markdown(states.MACHINES),
        folder / "docs" / "errors.md": errors.to_markdown(folder),
        folder / "models" / "roles.sql": rights.script(),
    }


def reference_page() -> str:
    """Return the page of every command, task, topic, metric and setting."""
    tables = {
        "Commands": commands_table(),
        "Tasks": tasks_table(),
        "Topics": topics_table(),
        "Metrics": metrics_table(),
        "Settings": settings_table(),
    }
    parts = [f"## {title}\n\n{WORDS[title]}\n\n{table}\n" for title, table in tables.items()]
    return "\n".join([HEAD, *parts])


def commands_table() -> str:
    """Return a Markdown table of every command: its words and first sentence."""
    rows = [
        f"| `{' '.join(('billing', *words))}` | {_sentence(command.help or '')} |"
        for words, command in _commands(cli.whole(), ())
    ]
    return "\n".join(["| command | does |", "|---|---|", *rows])


def tasks_table() -> str:
    """Return a Markdown table of every task: its name, queue, arguments and first sentence."""
    for module in TASK_MODULES:
        importlib.import_module(module)
    rows = [
        f"| `{spec.name}` | {spec.queue} | {_arguments(spec)} | {_sentence(spec.doc)} |"
        for spec in sorted(contract.REGISTRY.values(), key=lambda spec: spec.name)
    ]
    return "\n".join(["| task | queue | arguments | |", "|---|---|---|---|", *rows])


def topics_table() -> str:
    """Return a Markdown table of every topic: its name, the fields of its data and its meaning."""
    rows = [
        f"| `{topic}` | {', '.join(event.model_fields)} | {_sentence(event.__doc__ or '')} |"
        for topic, event in sorted(events.CATALOGUE.items())
    ]
    return "\n".join(["| topic | data | |", "|---|---|---|", *rows])


def metrics_table() -> str:
    """Return a Markdown table of every metric: its name, labels and meaning."""
    rows = [
        f"| `{one.name}` | {', '.join(one.labels)} | {one.says} |"
        for one in (*metrics.ALL, *standing.ALL)
    ]
    return "\n".join(["| metric | labels | |", "|---|---|---|", *rows])


def settings_table() -> str:
    """Return a Markdown table of every variable: its default, what it may be and what it means."""
    rows = [
        f"| `{field.validation_alias}` | {_default(field)} | {_allowed(field)} "
        f"| {' '.join((field.description or '').split())} |"
        for field in settings.Settings.model_fields.values()
    ]
    return "\n".join(["| variable | default | | |", "|---|---|---|---|", *rows])


def _default(field: FieldInfo) -> str:
    match field.default:
        case None | frozenset():
            return ""
        case Path() as path:
            return f"`{path.relative_to(ROOT)}`"
        case bool() as wanted:
            return str(wanted).lower()
        case other:
            return str(other)


def _allowed(field: FieldInfo) -> str:
    if str(field.validation_alias) in settings.SECRETS:
        return "secret"
    choices = [
        str(choice)
        for kind in (field.annotation, *typing.get_args(field.annotation))
        if typing.get_origin(kind) is typing.Literal
        for choice in typing.get_args(kind)
    ]
    bounds = {
        name: value
        for limit in field.metadata
        for name in ("ge", "le")
        if (value := getattr(limit, name, None)) is not None
    }
    return ", ".join(choices) or " to ".join(f"{bound:,}" for bound in bounds.values())


def _arguments(spec: contract.Spec) -> str:
    return ", ".join(
        name if field.is_required() else f"{name}?"
        for name, field in spec.model.model_fields.items()
    )


def _sentence(doc: str) -> str:
    paragraph = " ".join(doc.strip().split("\n\n")[0].split())
    return paragraph.split(". ")[0].rstrip(".")


def _commands(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, child in sorted(getattr(command, "commands", {}).items()):
        below = (*words, name)
        if getattr(child, "commands", None):
            yield from _commands(child, below)
        else:
            yield below, child


def _example(text: str, folder: Path, name: str) -> str:
    code = (folder / name).read_text(encoding="utf-8")
    pattern = rf"(<!-- {re.escape(name)} -->\n```\w+\n).*?(```)"
    return re.sub(pattern, lambda m: f"{m[1]}{code}{m[2]}", text, flags=re.DOTALL)


if __name__ == "__main__":
    write()
