"""The folder `schemas/`: what others build against, made from the code, and what was released.

`python -m worker.schemas` rewrites asyncapi.json and events/. `python -m worker.schemas release`
keeps what they are now in released/, where nothing but additions changes afterwards, and what the
messages of tasks are in tasks/VERSION/, beside messages of that version (`tests/recorded.py`).
"""

import functools
import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import worker.celery  # noqa: F401 (the register of tasks is whole from here on)
from tasks import compatibility as of_messages
from tasks.spec import REGISTRY
from webhooks import compatibility, events, published
from worker.settings import ROOT

FOLDER = "schemas"
TASKS = "tasks"
MESSAGES = "messages.json"
"""In a folder for each version: the schema of each task's arguments."""


def pages(folder: Path) -> dict[Path, str]:
    """Return each document of today, as it should read."""
    home = folder / FOLDER
    return {
        home / "asyncapi.json": published.text(published.asyncapi()),
        **{
            home / "events" / f"{topic}.json": published.text(published.document(event))
            for topic, event in events.CATALOGUE.items()
        },
    }


def write(folder: Path = ROOT) -> None:
    """Bring the documents of today up to date, and take away those of no topic."""
    wanted = pages(folder)
    for path, content in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    for path in (folder / FOLDER / "events").glob("*.json"):
        if path not in wanted:
            path.unlink()


def current() -> dict[tuple[str, int], dict[str, Any]]:
    """Return the schema of each topic's data by topic and version."""
    return {
        (topic, event.schema_version): published.data_schema(event)
        for topic, event in events.CATALOGUE.items()
    }


def released(folder: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """Return every schema that was released, by topic and version."""
    found = {}
    for path in (folder / FOLDER / "released").glob("*.json"):
        topic, _, version = path.stem.rpartition(".v")
        found[topic, int(version)] = json.loads(path.read_text(encoding="utf-8"))
    return found


@functools.cache
def current_messages() -> dict[str, dict[str, Any]]:
    """Return the schema of each task's arguments, by the task's name."""
    return {name: spec.model.model_json_schema() for name, spec in sorted(REGISTRY.items())}


def released_messages(folder: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the same as each version had it, by version."""
    return {
        path.parent.name: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted((folder / FOLDER / TASKS).glob(f"*/{MESSAGES}"))
    }


def broken_messages(folder: Path) -> list[str]:
    """Return what a producer of some version sends and the tasks of today would not take."""
    return [
        f"{fault} (released with {version})"
        for version, before in released_messages(folder).items()
        for fault in of_messages.faults(before, current_messages())
    ]


def release(folder: Path = ROOT) -> list[str]:
    """Keep the schemas of today as released, unless that breaks a promise; return what would."""
    faults = [*compatibility.faults(released(folder), current()), *broken_messages(folder)]
    if not faults:
        path = folder / FOLDER / TASKS / _version() / MESSAGES
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(published.text(current_messages()), encoding="utf-8")
        home = folder / FOLDER / "released"
        home.mkdir(parents=True, exist_ok=True)
        for (topic, version), schema in current().items():
            (home / f"{topic}.v{version}.json").write_text(published.text(schema), encoding="utf-8")
    return faults


def _version() -> str:
    """What this program will be released as."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["version"])


if __name__ == "__main__":
    write()
    if sys.argv[1:] == ["release"]:
        sys.exit("\n".join(release()) or None)
