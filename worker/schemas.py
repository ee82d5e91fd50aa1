"""The folder `schemas/`: what subscribers build against, made from the code, and what was released.

`python -m worker.schemas` rewrites asyncapi.json and events/. `python -m worker.schemas release`
keeps what they are now in released/, where nothing but additions changes afterwards.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from webhooks import compatibility, events, published
from worker.settings import ROOT

FOLDER = "schemas"


def pages(folder: Path) -> dict[Path, str]:
    """Return each document of today, as it should read."""
    home = folder / FOLDER
    return {
        home / "asyncapi.json": text(published.asyncapi()),
        **{
            home / "events" / f"{topic}.json": text(published.document(event))
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


def release(folder: Path = ROOT) -> list[str]:
    """Keep the schemas of today as released, unless that breaks a promise; return what would."""
    faults = compatibility.faults(released(folder), current())
    if not faults:
        home = folder / FOLDER / "released"
        home.mkdir(parents=True, exist_ok=True)
        for (topic, version), schema in current().items():
            (home / f"{topic}.v{version}.json").write_text(text(schema), encoding="utf-8")
    return faults


def text(value: Mapping[str, Any]) -> str:
    """Return a document as it is written."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    write()
    if sys.argv[1:] == ["release"]:
        sys.exit("\n".join(release()) or None)
