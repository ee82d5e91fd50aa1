"""A decorated function runs as often as its tenant may, and not once more."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine

from models.rules.refusal import Refusal
from tasks.require_quota import QuotaRefused, require_quota
from tests import zones
from tests.integration import allowance
from tests.integration.allowance import allow


@pytest.fixture(autouse=True)
def three(db: Engine) -> None:
    """Acme may make three reports a month, which does not end now."""
    allow(3, metric="reports", zone=zones.amid_a_day().key)


def used() -> list[Decimal]:
    """The amounts of usage that counts."""
    live = """
        SELECT amount FROM usage_events WHERE id NOT IN (SELECT event_id FROM usage_voids)
        ORDER BY received_at
    """
    return [amount for (amount,) in allowance.rows(live)]


@require_quota("reports", tenant="tenant_id")
def report(tenant_id: str, title: str = "untitled") -> str:
    """Make a report."""
    return f"{title} of {tenant_id}"


def test_a_function_runs_until_the_quota_is_used_up() -> None:
    made = [report("acme"), report(tenant_id="acme", title="a"), report("acme", "b")]

    with pytest.raises(QuotaRefused) as refused:
        report("acme")

    assert made == ["untitled of acme", "a of acme", "b of acme"]
    assert refused.value.answer["reason"] == "quota_exceeded"
    assert refused.value.answer["resets_at"] is not None
    assert "3 of 3 used; it resets at" in str(refused.value)
    with pytest.raises(QuotaRefused, match="no_entitlement"):
        report("bolt")
    assert (report.__name__, report.__doc__) == ("report", "Make a report.")


def test_tenant_amount_and_key_come_from_arguments_or_functions() -> None:
    def tenant_of(request: dict[str, str], *_: Any, **__: Any) -> str:
        return request["tenant"]

    @require_quota("reports", tenant=tenant_of, amount="pages", key="name")
    def by_name(request: dict[str, str], pages: Decimal = Decimal("0.5"), *, name: str) -> str:
        return name

    def amount(request: dict[str, str], **_: Any) -> int:
        return len(request)

    @require_quota("reports", tenant=tenant_of, amount=amount)
    def by_function(request: dict[str, str], *, name: str) -> str:
        return name

    request = {"tenant": "acme"}
    assert by_name(request, name="a") == by_name(request, name="a") == "a"
    assert by_name(request, Decimal("1.25"), name="b") == "b"
    assert by_function(request, name="c") == "c"

    assert used() == [Decimal("0.5"), Decimal("1.25"), 1]


def test_what_fails_is_given_back_unless_it_is_to_be_kept() -> None:
    @require_quota("reports", tenant="tenant_id", metadata={"kind": "short"})
    def fails(tenant_id: str) -> None:
        raise ZeroDivisionError

    @require_quota("reports", tenant="tenant_id", on_error="keep")
    def fails_and_counts(tenant_id: str) -> None:
        raise ZeroDivisionError

    for _ in range(5):
        with pytest.raises(ZeroDivisionError):
            fails("acme")
    with pytest.raises(ZeroDivisionError):
        fails_and_counts("acme")

    assert used() == [1]
    assert allowance.rows("SELECT DISTINCT reason FROM usage_voids") == [
        ("failed: ZeroDivisionError",)
    ]
    assert allowance.rows("SELECT count(*) FROM usage_events WHERE metadata <> '{}'") == [(5,)]


def test_coroutines_are_awaited_and_given_back_when_they_are_cancelled() -> None:
    @require_quota("reports", tenant="tenant_id")
    async def slow(tenant_id: str, began: asyncio.Event) -> str:
        began.set()
        await asyncio.Event().wait()
        return "never"

    @require_quota("reports", tenant="tenant_id")
    async def quick(tenant_id: str) -> str:
        return "done"

    async def main() -> list[str]:
        began = asyncio.Event()
        hanging = asyncio.create_task(slow("acme", began))
        await began.wait()
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging
        return [await quick("acme") for _ in range(3)]

    assert asyncio.run(main()) == ["done"] * 3
    assert used() == [1, 1, 1]
    with pytest.raises(QuotaRefused):
        asyncio.run(quick("acme"))


def test_many_threads_run_it_exactly_as_often_as_they_may() -> None:
    together = threading.Barrier(16)

    def call(_: int) -> bool:
        together.wait(30)
        try:
            report("acme")
        except QuotaRefused:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        ran = list(pool.map(call, range(16)))

    assert sum(ran) == 3
    assert used() == [1, 1, 1]


def generator(tenant_id: str) -> Iterator[int]:
    yield 1


async def async_generator(tenant_id: str) -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize("function", [generator, async_generator])
def test_a_generator_is_refused_where_it_is_decorated(function: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match="is a generator"):
        require_quota("reports", tenant="tenant_id")(function)


@pytest.mark.parametrize("argument", ["tenant", "amount", "key"])
def test_an_argument_that_is_not_there_is_told_where_it_is_decorated(argument: str) -> None:
    given: dict[str, Any] = {"tenant": "tenant_id", argument: "nonsense"}
    with pytest.raises(TypeError, match="report has no argument 'nonsense'"):
        require_quota("reports", **given)(report)


def test_an_amount_that_is_none_is_refused_and_the_function_does_not_run() -> None:
    @require_quota("reports", tenant="tenant_id", amount="pages")
    def by_pages(tenant_id: str, pages: int) -> None:
        pytest.fail("it ran")

    with pytest.raises(Refusal, match="amount"):
        by_pages("acme", 0)
