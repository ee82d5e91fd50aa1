"""The parts of the documents that are written from the code; `make docs` rewrites them in place."""

import importlib
import re
import typing
from pathlib import Path

from pydantic.fields import FieldInfo

from models.rules import states
from tasks import contract, metrics
from webhooks import events
from worker import errors, schemas, settings, standing
from worker.celery import TASK_MODULES
from worker.settings import ROOT


def write(folder: Path = ROOT) -> None:
    """Bring the generated documents and schemas/ under `folder` up to date with the code."""
    for path, text in pages(folder).items():
        path.write_text(text, encoding="utf-8")
    schemas.write(folder)


def pages(folder: Path) -> dict[Path, str]:
    """Return each document that has generated parts, as it should read."""
    readme = folder / "README.md"
    text = readme.read_text(encoding="utf-8")
    text = _between(text, "tasks", tasks_table())
    text = _between(text, "topics", topics_table())
    text = _between(text, "metrics", metrics_table())
    text = _example(text, folder, "examples/produce.py")
    return {
        readme: text,
        folder / "docs" / "states.md": states.to_markdown(),
        folder / "docs" / "errors.md": errors.to_markdown(folder),
        folder / "docs" / "settings.md": _between(
            (folder / "docs" / "settings.md").read_text(encoding="utf-8"),
            "settings",
            settings_table(),
        ),
    }


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


def _between(text: str, mark: str, content: str) -> str:
    pattern = rf"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)"
    return re.sub(pattern, lambda m: f"{m[1]}{content}\n{m[2]}", text, flags=re.DOTALL)


def _example(text: str, folder: Path, name: str) -> str:
    code = (folder / name).read_text(encoding="utf-8")
    pattern = rf"(<!-- {re.escape(name)} -->\n```\w+\n).*?(```)"
    return re.sub(pattern, lambda m: f"{m[1]}{code}{m[2]}", text, flags=re.DOTALL)


if __name__ == "__main__":
    write()
