"""What others build against: schemas of tasks, events and tables, printed in a stable order."""

import difflib
import importlib
import json
from typing import Annotated, Any

import typer
from rich.table import Table

from models import migrations, rights
from tasks import contract
from webhooks import events, examples, published
from webhooks.published import DRAFT
from worker.cli import answers, printing

app = typer.Typer(help="JSON Schemas and SQL.", no_args_is_help=True)


@app.command("tasks")
def print_tasks(
    name: Annotated[str | None, typer.Option(help="One task, such as billing.set_tenant.")] = None,
) -> None:
    """JSON Schemas of each task's message and answer."""
    importlib.import_module("worker.celery")  # all of them
    _print({key: of_task(spec) for key, spec in _chosen(contract.REGISTRY, name, "task").items()})


@app.command("events")
def print_events(
    topic: Annotated[str | None, typer.Option(help="One topic, such as billing.ping.")] = None,
) -> None:
    """JSON Schemas of each event's data."""
    found = _chosen(events.CATALOGUE, topic, "topic")
    _print({key: of_event(model) for key, model in found.items()})


@app.command("asyncapi")
def print_asyncapi() -> None:
    """Every topic as one AsyncAPI 3 document, byte for byte as it is in schemas/."""
    typer.echo(published.text(published.asyncapi()), nl=False)


@app.command("list")
def print_topics() -> None:
    """The topics, who hears of them, and what they mean."""
    table = Table("topic", "version", "for", "what happened")
    for topic, event in sorted(events.CATALOGUE.items()):
        summary = published.payload_schema(event)["description"].partition("\n")[0]
        heard = "the operator" if event.for_operator else "everyone"
        table.add_row(topic, str(event.schema_version), heard, summary)
    printing.show(table)


@app.command("show")
def show(
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="Such as billing.ping.")],
    *,
    example: Annotated[bool, typer.Option("--example", help="An example instead.")] = False,
) -> None:
    """The JSON Schema of one topic's body, or an example of it."""
    [model] = _chosen(events.CATALOGUE, topic, "topic").values()
    _print(examples.payload(model) if example else published.document(model))


@app.command("sql")
def print_sql() -> None:
    """The statements that make the tables."""
    typer.echo(migrations.sql())


@app.command("roles")
def print_roles() -> None:
    """The statements that make the database's roles, each with the least rights it needs.

    Run them as a superuser, after `billing migrate`: docs/safety.md says how, and what each role is
    for.
    """
    typer.echo(rights.script(), nl=False)


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
    schema = published.data_schema(model)
    return {"$schema": DRAFT, "schema_version": model.schema_version, **schema}


def _chosen(everything: dict[str, Any], name: str | None, noun: str) -> dict[str, Any]:
    if name is None:
        return everything
    if name not in everything:
        near = difflib.get_close_matches(name, everything, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(everything))}"
        raise typer.BadParameter(f"no {noun} is named {name!r}; {hint}")
    return {name: everything[name]}


def _print(value: dict[str, Any]) -> None:
    typer.echo(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False))
