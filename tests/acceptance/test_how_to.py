"""What the documents tell to type works as it stands there."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

import worker.cli
from models import database
from tasks import contract
from tasks.usage import record_usage
from tests.acceptance import recipes
from tests.acceptance.recipes import Recipe
from tests.integration.billing_world import assert_reconciled, query
from tests.integration.command import Command
from tests.integration.outbox_world import NOWHERE, emit, execute, states, take
from tests.integration.outbox_world import subscribe as listen

MENDED = '{"tenant_id": "acme", "metric": "calls", "amount": "5", "idempotency_key": "k"}'
SHELL = re.compile(r"```sh\n(.*?)```", re.DOTALL)


@pytest.fixture
def recipe(
    db: Engine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    database_url: str,
    checkout: Path,
) -> Recipe:
    billing = Command(monkeypatch, capsys, database_url)
    return Recipe(checkout / "docs" / "how-to.md", billing)


def invoice_of(tenant_id: str) -> str:
    [(found,)] = query("SELECT id FROM invoices WHERE tenant_id = :who", who=tenant_id)
    return str(found)


def test_a_plan_is_priced_and_a_month_of_it_billed(recipe: Recipe, checkout: Path) -> None:
    recipe.run("price", CATALOG=str(checkout / "examples" / "catalog.yaml"))
    recipe.run("bill", INVOICE=lambda: invoice_of("acme"))

    # 45 for the month, and a million tokens at 0.0000028 each.
    invoices = query("SELECT state, number, total_minor, paid_minor FROM invoices")
    assert invoices == [("paid", "INV-000001", 4780, 4780)]
    assert_reconciled()


def test_what_was_refused_and_what_did_not_arrive_is_sent_again(
    recipe: Recipe, tmp_path: Path
) -> None:
    mended = tmp_path / "mended.json"
    mended.write_text(MENDED)
    answer = record_usage(events=[json.loads(MENDED) | {"amount": "-5"}])
    [rejected] = [one["rejected_message_id"] for one in answer["refused"]]
    endpoint = listen(NOWHERE)["endpoint_id"]
    emit(count=2)
    take()
    for gone in ("DELETE FROM delivery_leases", "UPDATE deliveries SET state = 'dead'"):
        execute(database.engine(), gone)

    recipe.run("replay", REJECTED=str(rejected), MENDED=str(mended), ENDPOINT=endpoint)

    assert query("SELECT amount FROM usage_events") == [(5,)]
    assert query("SELECT state FROM rejected_messages") == [("replayed",)]
    assert states(database.engine()) == ["pending", "pending"]


def documents(checkout: Path) -> Iterator[Path]:
    yield checkout / "README.md"
    yield from (checkout / "docs").glob("*.md")


def test_every_block_that_is_to_be_run_is_run_by_a_test(checkout: Path) -> None:
    tests = "".join(path.read_text() for path in (checkout / "tests").rglob("test_*.py"))
    named = [name for path in documents(checkout) for name in recipes.blocks(path)]

    assert len(named) > 10
    assert [name for name in named if f'"{name}"' not in tests] == []


def test_every_command_of_the_documents_exists_with_its_options(checkout: Path) -> None:
    billing = worker.cli.whole()
    faults = [
        f"{path.name}: {line}: {fault}"
        for path in documents(checkout)
        for body in SHELL.findall(path.read_text(encoding="utf-8"))
        for line in recipes.commands(body)
        if line.startswith("billing ")
        for fault in faults_of(billing, shlex.split(line.partition(" | ")[0])[1:])
    ]

    assert faults == []


def faults_of(command: Any, words: list[str]) -> Iterator[str]:
    """What is wrong with a command: an unknown word, option, task or argument of a task."""
    while words and hasattr(command, "commands"):
        name, *words = words
        if name not in command.commands:
            yield f"there is no {name!r}"
            return
        command = command.commands[name]
    options = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    given = {word.split("=")[0] for word in words if word.startswith("--")}
    yield from (f"no option {name}" for name in sorted(given - options - {"--help"}))
    if command.name == "call" and len(words) > 1:
        spec = contract.REGISTRY.get(words[0])
        known = set(spec.model.model_fields) if spec else set()
        yield from (f"no argument {key}" for key in json.loads(words[1]) if key not in known)
