"""What every task, queue and timetable entry owes."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import pydantic
import pytest

import tasks
from tasks import contract
from tasks.queues import Queue
from worker import app
from worker.celery import TASK_MODULES
from worker.schedule import TIMETABLE


def specs() -> Iterator[contract.Spec]:
    for module in TASK_MODULES:
        importlib.import_module(module)
    yield from contract.REGISTRY.values()


def test_every_module_with_tasks_is_included_by_name() -> None:
    modules = {f"tasks.{module.name}" for module in pkgutil.iter_modules(tasks.__path__)}
    for module in modules:
        importlib.import_module(module)
    with_tasks = {spec.body.__module__ for spec in contract.REGISTRY.values()}

    assert with_tasks <= set(TASK_MODULES)
    assert set(TASK_MODULES) <= modules


def by_name(spec: contract.Spec) -> str:
    return spec.name


@pytest.mark.parametrize("spec", list(specs()), ids=by_name)
def test_a_task_is_named_documented_keyword_only_and_has_a_schema(spec: contract.Spec) -> None:
    parameters = inspect.signature(spec.body).parameters.values()
    positional = [p.name for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY]

    assert spec.name.startswith("billing.")
    assert positional == (["session"] if spec.kind == "command" else [])
    assert len(spec.doc.splitlines()) >= 3, "say when it runs, what it does, why twice is harmless"
    assert spec.model.model_json_schema()["additionalProperties"] is False


def tenants_of(spec: contract.Spec) -> list[str]:
    """The arguments of a task that name a tenant and may not be left out."""
    fields = spec.model.model_fields.items()
    return [name for name, field in fields if name.endswith("tenant_id") and field.is_required()]


@pytest.mark.parametrize("spec", [one for one in specs() if tenants_of(one)], ids=by_name)
def test_a_missing_tenant_is_an_error_and_never_a_tenant_called_none(spec: contract.Spec) -> None:
    for name in tenants_of(spec):
        for given in ({}, {name: None}, {name: ""}, {name: 0}, {name: False}, {name: ["acme"]}):
            with pytest.raises(pydantic.ValidationError) as refused:
                spec.model.model_validate(given)
            assert (name,) in {error["loc"] for error in refused.value.errors()}


def test_a_task_is_registered_with_celery_and_routed_to_its_queue() -> None:
    registered = set(app.tasks)
    for spec in specs():
        assert spec.name in registered
        assert spec.queue in set(Queue)


@pytest.mark.parametrize("entry", list(TIMETABLE))
def test_a_timetable_entry_rings_a_registered_job(entry: str) -> None:
    names = {spec.name: spec for spec in specs()}
    task = TIMETABLE[entry]["task"]

    assert names[task].kind == "job"
    assert "as_of" in names[task].model.model_fields
    assert TIMETABLE[entry]["options"]["expires"] > 0
