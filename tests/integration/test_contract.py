"""What every task obeys, shown on tasks made for the purpose."""

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery.exceptions import Reject
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from models import database
from models.rules.refusal import Refusal
from models.store import inbox, tenant
from tasks import clock, contract, fields, trying
from tasks.queues import Queue

THREADS = 8
_numbers = itertools.count()


class Named(Refusal):
    """A refusal made for these tests."""

    code = "test.refused"


@pytest.fixture
def declare() -> Iterator[Callable[..., Any]]:
    """Declare a task for one test and forget it afterwards."""
    before = set(contract.REGISTRY)

    def as_task(body: Callable[..., Any], kind: Any = contract.command) -> Any:
        name = f"billing.test_{body.__name__}_{next(_numbers)}"
        return kind(name, queue=Queue.billing)(body)

    yield as_task
    for name in set(contract.REGISTRY) - before:
        del contract.REGISTRY[name]


def rejected(db: Engine) -> list[Any]:
    with db.connect() as connection:
        return list(connection.execute(text("SELECT * FROM rejected_messages ORDER BY id")))


def send(task: Any, **kwargs: Any) -> Any:
    """Run a task as if its message had come from the broker."""
    return task.apply(kwargs=kwargs)


def test_the_stored_answer_comes_back_for_the_same_key(
    db: Engine, declare: Callable[..., Any]
) -> None:
    runs = []

    def count(
        session: database.Session, *, tenant_id: str, idempotency_key: str, amount: int
    ) -> dict[str, int]:
        runs.append(amount)
        return {"run": len(runs)}

    task = declare(count)

    first = task(tenant_id="acme", idempotency_key="k", amount=1)
    again = task(tenant_id="acme", idempotency_key="k", amount=1)
    other = task(tenant_id="other", idempotency_key="k", amount=1)

    assert (first, again, other) == ({"run": 1}, {"run": 1}, {"run": 2})


def test_the_same_key_with_another_request_is_a_conflict_and_changes_nothing(
    db: Engine, declare: Callable[..., Any]
) -> None:
    def introduce(
        session: database.Session, *, tenant_id: str, idempotency_key: str, name: str
    ) -> dict[str, str]:
        tenant.change(session, tenant_id, now=clock.now(), name=name)
        return {}

    task = declare(introduce)
    task(tenant_id="acme", idempotency_key="k", name="First")

    with pytest.raises(inbox.IdempotencyConflict, match="was used before for another"):
        task(tenant_id="acme", idempotency_key="k", name="Second")

    with database.transaction() as session:
        assert tenant.get(session, "acme").name == "First"


def test_eight_concurrent_calls_with_one_key_run_once(
    db: Engine, declare: Callable[..., Any]
) -> None:
    runs: list[int] = []
    answers: list[dict[str, int]] = []
    gate = threading.Barrier(THREADS)

    def count(session: database.Session, *, tenant_id: str, idempotency_key: str) -> dict[str, int]:
        runs.append(1)
        return {"run": len(runs)}

    task = declare(count)

    def call() -> None:
        gate.wait()
        answers.append(task(tenant_id="acme", idempotency_key="k"))

    threads = [threading.Thread(target=call) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert runs == [1]
    assert answers == [{"run": 1}] * THREADS


def test_a_message_that_does_not_fit_is_kept_with_the_field_and_the_reason(
    db: Engine, declare: Callable[..., Any]
) -> None:
    def take(
        session: database.Session, *, tenant_id: fields.TenantId, amount: fields.Amount
    ) -> None:
        raise AssertionError("never runs")

    result = send(declare(take), tenant_id="acme", amount="-1", colour="blue")

    [row] = rejected(db)
    assert result.state == "FAILURE"
    assert row.task.startswith("billing.test_take")
    assert (row.tenant_id, row.code) == ("acme", "message.invalid")
    assert row.payload == {"tenant_id": "acme", "amount": "-1", "colour": "blue"}
    assert {fault["field"] for fault in row.errors} == {"amount", "colour"}


def test_the_same_bad_message_again_is_counted_not_kept_twice(
    db: Engine, declare: Callable[..., Any]
) -> None:
    def take(session: database.Session, *, amount: fields.Amount) -> None:
        raise AssertionError("never runs")

    task = declare(take)
    for _ in range(3):
        send(task, amount="-1")

    [row] = rejected(db)
    assert row.seen_count == 3


@pytest.mark.parametrize("value", [float("nan"), "a\x00b", "\ud800", 2**200, {"x": [None]}])
def test_whatever_a_message_holds_it_can_be_kept(
    db: Engine, declare: Callable[..., Any], value: object
) -> None:
    def take(
        session: database.Session, *, tenant_id: fields.TenantId, amount: fields.Amount
    ) -> None:
        raise AssertionError("never runs")

    send(declare(take), tenant_id=value, amount="0")

    assert len(rejected(db)) == 1


def test_a_refusal_undoes_everything_and_is_kept_under_its_code(
    db: Engine, declare: Callable[..., Any]
) -> None:
    def refuse(session: database.Session, *, tenant_id: str, idempotency_key: str) -> None:
        tenant.ensure(session, tenant_id, now=clock.now())
        raise Named("tenant_id 'acme' is not wanted here", field="tenant_id")

    task = declare(refuse)
    send(task, tenant_id="acme", idempotency_key="k")

    [row] = rejected(db)
    assert row.code == "test.refused"
    assert row.errors == [{"field": "tenant_id", "reason": "tenant_id 'acme' is not wanted here"}]
    with database.transaction() as session, pytest.raises(tenant.UnknownTenant):
        tenant.get(session, "acme")
    with pytest.raises(Named):  # the key was given back: once mended, the same call may succeed
        task(tenant_id="acme", idempotency_key="k")


def test_a_call_in_this_process_gets_its_error_and_leaves_no_row(
    db: Engine, declare: Callable[..., Any]
) -> None:
    def take(session: database.Session, *, amount: fields.Amount) -> None:
        raise AssertionError("never runs")

    with pytest.raises(contract.InvalidMessage, match="amount"):
        declare(take)(amount="-1")

    assert rejected(db) == []


def test_a_deadlock_is_run_again(db: Engine, declare: Callable[..., Any]) -> None:
    gate = threading.Barrier(2)
    met: list[str] = []
    for tenant_id in ("a", "b"):
        with database.transaction() as session:
            tenant.ensure(session, tenant_id, now=clock.now())

    def cross(session: database.Session, *, first: str, second: str) -> None:
        lock = text("SELECT FROM tenants WHERE tenant_id = :id FOR UPDATE")
        session.execute(lock, {"id": first})
        if first not in met:
            met.append(first)
            gate.wait()
        session.execute(lock, {"id": second})

    task = declare(cross)
    threads = [
        threading.Thread(target=task, kwargs={"first": "a", "second": "b"}),
        threading.Thread(target=task, kwargs={"first": "b", "second": "a"}),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert sorted(met) == ["a", "b"]
    assert not any(thread.is_alive() for thread in threads)


def test_a_command_goes_back_to_its_queue_when_the_database_stays_away(
    declare: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trying, "REQUEUE_PAUSE", 0)
    monkeypatch.setattr(trying, "SHORTEST_PAUSE", 0)
    database.configure(database.Options(url="postgresql://nobody@127.0.0.1:1/none"))

    def take(session: database.Session, *, tenant_id: str) -> None:
        tenant.get(session, tenant_id)

    task = declare(take)
    taken = send(task, tenant_id="acme")
    unreadable = send(task, tenant_id=7)

    assert isinstance(taken.result, Reject)
    assert taken.result.requeue
    assert isinstance(unreadable.result, Reject)  # there is nowhere to keep it either
    with pytest.raises(OperationalError):
        task(tenant_id="acme")
    database.dispose()


def test_a_transaction_inside_another_is_refused(db: Engine) -> None:
    with (
        database.transaction(),
        pytest.raises(database.NestedTransaction),
        database.transaction(),
    ):
        pass


def test_what_is_to_follow_a_commit_does_not_follow_a_rollback(db: Engine) -> None:
    done: list[str] = []

    with database.transaction() as session:
        database.after_commit(session, "once", lambda: done.append("committed"))
        database.after_commit(session, "once", lambda: done.append("committed"))
        assert done == []
    with contextlib.suppress(ZeroDivisionError), database.transaction() as session:
        database.after_commit(session, "once", lambda: done.append("rolled back"))
        raise ZeroDivisionError

    assert done == ["committed"]


def test_arguments_go_by_keyword(db: Engine, declare: Callable[..., Any]) -> None:
    def take(session: database.Session, *, tenant_id: str) -> None:
        raise AssertionError("never runs")

    with pytest.raises(contract.InvalidMessage, match="by keyword"):
        declare(take)("acme")


def test_the_schema_of_a_message_is_made_once() -> None:
    spec = contract.REGISTRY["billing.set_tenant"]

    assert spec.model is spec.model
