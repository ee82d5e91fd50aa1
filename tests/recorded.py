"""Messages of released producers, kept in `schemas/tasks/VERSION/`.

`python -m tests.recorded` writes those of the version in pyproject.toml, as the code of today sends
them. What is there stays; tasks that came since are added.
"""

import json
import os
import tomllib
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pydantic
import pydantic_core

from tasks import contract
from tests.integration import test_tasks_twice as twice
from worker import recording, schemas
from worker.settings import ROOT

MESSAGES = "messages.jsonl"
NUMBERED = frozenset({"rejected", "delivery"})


class Ids(dict[str, str]):
    """An id for whatever is asked for."""

    def __missing__(self, name: str) -> str:
        """Make one of the name."""
        return "7" if name in NUMBERED else str(uuid.uuid5(recording.NAMESPACE, name))


def messages(folder: Path = ROOT) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each recorded message with the version whose code sent it."""
    for path in sorted((folder / schemas.FOLDER / schemas.TASKS).glob(f"*/{MESSAGES}")):
        for line in path.read_text(encoding="utf-8").splitlines():
            yield path.parent.name, json.loads(line)


def record() -> Iterator[dict[str, Any]]:
    """Yield two messages for each task: a usual one, and one in which nothing is left out."""
    for name, spec in sorted(contract.REGISTRY.items()):
        usual = _arguments(name)
        yield recording.record(name, usual)
        whole = {**_defaults(spec.model), **usual}
        if whole != usual:
            yield recording.record(name, whole, kind="whole")


def write(found: Iterable[dict[str, Any]], folder: Path = ROOT) -> int:
    """Keep what is not kept yet of the version in pyproject.toml; return how many messages."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    path = folder / schemas.FOLDER / schemas.TASKS / version / MESSAGES
    kept = {message["headers"]["id"]: message for at, message in messages(folder) if at == version}
    wanted = {message["headers"]["id"]: message for message in found} | kept
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps(message, ensure_ascii=False)
        for message in sorted(wanted.values(), key=lambda one: _order(one["headers"]))
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(wanted) - len(kept)


def arguments_of(message: dict[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments in a recorded message."""
    [positional, found, _] = json.loads(message["body"])
    assert positional == []
    assert isinstance(found, dict)
    return found


def _arguments(name: str) -> dict[str, Any]:
    world: Any = SimpleNamespace(ids=Ids(), peer=SimpleNamespace(url="https://acme.example/hook"))
    dated = "as_of" in contract.REGISTRY[name].model.model_fields
    return {**({"as_of": twice.LATER} if dated else {}), **twice.ARGUMENTS[name](world)}


def _defaults(model: type[pydantic.BaseModel]) -> dict[str, Any]:
    """What arguments are when they are left out, as far as that is the same for everyone."""
    return {
        name: pydantic_core.to_jsonable_python(field.default)
        for name, field in model.model_fields.items()
        if not field.is_required() and field.default_factory is None
    }


def _order(headers: dict[str, Any]) -> tuple[str, str]:
    return headers["task"], headers["kwargsrepr"]


if __name__ == "__main__":
    # Celery wants to know of a broker, which is never connected to.
    os.environ["BROKER_URL"] = "memory://"
    print(f"{write(record())} messages are new")  # noqa: T201
