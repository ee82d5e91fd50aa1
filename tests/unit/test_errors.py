"""Every refusal has one stable code, and it is the same wherever somebody hears of it."""

import importlib
import pickle
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery
from celery.backends.base import Backend

import models
import tasks
import worker.cli
from models.rules.order import AlreadyRefunded
from models.rules.refusal import Refusal
from tasks import contract
from worker import errors


def every(kind: type[Refusal]) -> Iterator[type[Refusal]]:
    for one in kind.__subclasses__():
        yield one
        yield from every(one)


def refusals() -> list[type[Refusal]]:
    """Every refusal of the program."""
    for room in (models, tasks, worker.cli):
        for module in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
            if ".migrations" not in module.name:
                importlib.import_module(module.name)
    return [one for one in every(Refusal) if one.__module__.partition(".")[0] in errors.ROOMS]


def test_every_refusal_is_in_the_document_with_its_cause_and_what_to_do(checkout: Path) -> None:
    found = {one.code: one for one in errors.codes(checkout)}

    assert {one.code for one in refusals()} <= found.keys()
    for one in found.values():
        assert one.cause.endswith("."), f"{one.code}: say when, in the class's docstring"
        assert one.says, f"{one.code}: say what would be right, where it is raised"


def test_nothing_is_explained_that_nobody_says(checkout: Path) -> None:
    kept = [(checkout / "tasks" / name).read_text() for name in ("execution.py", "keeping.py")]
    said = set(re.findall(r'code="([a-z_.]+)"', "".join(kept))) | {Refusal.code}

    assert set(errors.WITHOUT_CLASS) == said
    assert set(errors.SAID_ELSEWHERE) <= {one.code for one in refusals()}


@pytest.mark.parametrize("refusal", refusals(), ids=lambda one: f"{one.__module__}.{one.__name__}")
def test_a_code_is_of_a_noun_and_a_cause(refusal: type[Refusal]) -> None:
    assert re.fullmatch(r"[a-z_]+\.[a-z_]+", refusal.code)


@pytest.mark.parametrize("code", ["order.already_refunded", "order.payment_conflict"])
def test_codes_that_clients_were_told_of_stay(checkout: Path, code: str) -> None:
    assert f"| `{code}` |" in (checkout / "docs" / "errors.md").read_text()


def test_a_callers_in_any_language_get_the_code_and_in_python_the_error() -> None:
    refusal = AlreadyRefunded("order 7 was refunded; make a new one", field="order_id")
    backend = Backend(Celery(set_as_current=False, result_serializer="json"))

    kept = backend.prepare_exception(refusal)
    again = backend.exception_to_python(kept)

    assert list(kept["exc_message"]) == [
        "order 7 was refunded; make a new one",
        "order.already_refunded",
        "order_id",
    ]
    assert type(again) is AlreadyRefunded
    assert (str(again), again.code, again.field) == (str(refusal), refusal.code, "order_id")


def test_an_error_comes_whole_out_of_a_workers_child() -> None:
    invalid = contract.InvalidMessage("no", errors=[{"field": "x", "reason": "y"}])

    again = pickle.loads(pickle.dumps(invalid))  # noqa: S301 (as the pool does)

    assert (again.message, again.code, again.errors) == ("no", "message.invalid", invalid.errors)


@pytest.mark.parametrize("refusal", refusals(), ids=lambda one: f"{one.__module__}.{one.__name__}")
def test_every_error_can_be_made_again_of_what_is_kept_of_it(refusal: type[Refusal]) -> None:
    made = refusal("it was", field="place")

    again = refusal(*made.args)

    assert (again.message, again.code, again.field) == ("it was", refusal.code, "place")


def test_a_sentence_is_all_that_an_error_says() -> None:
    assert str(AlreadyRefunded("it was", field="order_id")) == "it was"
