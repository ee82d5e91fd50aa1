"""What others build against: schemas of tasks, events and tables, printed in a stable order."""

import json
from typing import Annotated, Any

import typer

from models import migrations
from tasks import contract
from webhooks import events
from worker.cli import answers

DRAFT = "https://json-schema.org/draft/2020-12/schema"

app = typer.Typer(help="JSON Schemas and SQL.", no_args_is_help=True)


@app.command("tasks")
def print_tasks(
    name: Annotated[str | None, typer.Option(help="One task, such as billing.set_tenant.")] = None,
) -> None:
    """JSON Schemas of each task's message and answer."""
    _print({key: of_task(spec) for key, spec in _chosen(contract.REGISTRY, name, "task").items()})


@app.command("events")
def print_events(
    topic: Annotated[str | None, typer.Option(help="One topic, such as billing.ping.")] = None,
) -> None:
    """JSON Schemas of each event's data."""
    found = _chosen(events.CATALOGUE, topic, "topic")
    _print({key: of_event(model) for key, model in found.items()})


@app.command("sql")
def print_sql() -> None:
    """The statements that make the tables."""
    typer.echo(migrations.sql())


def of_task(spec: contract.Spec) -> dict[str, Any]:
    """Return what a producer must know of a task."""
    return {
        "queue": spec.queue.value,
        "kind": spec.kind,
        "description": spec.doc,
        "message": {"$schema": DRAFT, **spec.model.model_json_schema()},
        "answer": {"$schema": DRAFT, **answers.json_schema(spec.answer)},
    }


def of_event(model: type[events.Event]) -> dict[str, Any]:
    """Return the schema of an event's data, with the version that its envelope names."""
    schema = model.model_json_schema(mode="serialization")
    return {"$schema": DRAFT, "schema_version": model.schema_version, **schema}


def _chosen(everything: dict[str, Any], name: str | None, noun: str) -> dict[str, Any]:
    if name is None:
        return everything
    if name not in everything:
        known = ", ".join(sorted(everything))
        raise typer.BadParameter(f"no {noun} is named {name!r}; there are {known}")
    return {name: everything[name]}


def _print(value: dict[str, Any]) -> None:
    typer.echo(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False))
