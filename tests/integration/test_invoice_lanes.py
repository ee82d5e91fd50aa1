"""Two chunks of one billing run at once: each invoice once; a lane's fault ends the other."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import pytest
from sqlalchemy import Engine

from models import database
from tasks import invoice_runs, invoicing, origin
from tasks.invoice_runs import generate_invoices
from tasks.origin import Origin
from tasks.parking import list_parked
from tests.integration.billing_world import fee, instant, make_plan, query, said, subscribe

WAIT = 20
"""Seconds after which a lane that should be there is missed."""

MOMENT = 1
"""Seconds that a lane stays where no other may be, for one that comes all the same."""

END = instant("2026-02-01")

Work = Callable[..., Any]


@pytest.fixture
def twelve(db: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve tenants with January to be invoiced, three to a chunk."""
    monkeypatch.setattr(invoice_runs, "CHUNK", 3)
    make_plan(fee("10"))
    for number in range(12):
        subscribe(f"t{number:02}", "2026-01-01")


@contextmanager
def around(monkeypatch: pytest.MonkeyPatch, looked: Callable[[list[str]], None]) -> Iterator[None]:
    """Let `looked` see the tenants of each chunk before it is invoiced, in its own lane."""
    invoice_due = invoicing.invoice_due

    def invoice_due_after_a_look(session: Any, timezones: Any, **given: Any) -> Any:
        looked(list(timezones))
        return invoice_due(session, timezones, **given)

    with monkeypatch.context() as patched:
        patched.setattr(invoicing, "invoice_due", invoice_due_after_a_look)
        yield


class Meeting:
    """Chunks after the first wait for each other, two by two."""

    def __init__(self) -> None:
        self._both = threading.Barrier(2, timeout=WAIT)
        self.chunks: list[list[str]] = []
        self.threads: set[int] = set()
        self.origins: set[Origin | None] = set()

    def look(self, tenant_ids: list[str]) -> None:
        if not tenant_ids:
            return
        self.chunks.append(tenant_ids)
        self.threads.add(threading.get_ident())
        self.origins.add(origin.current())
        if 2 <= len(self.chunks) <= 3:
            self._both.wait()


@pytest.mark.usefixtures("twelve")
def test_two_chunks_are_under_way_at_once_and_each_invoice_is_made_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    meeting, sender = Meeting(), origin.new()
    with around(monkeypatch, meeting.look), origin.within(sender):
        answer = generate_invoices(as_of=END)

    assert answer == {"invoices": 12, "failed": 0, "finished": True}
    assert len(meeting.threads) == 2
    assert meeting.origins == {sender}
    assert sorted(chain.from_iterable(meeting.chunks)) == [f"t{number:02}" for number in range(12)]
    assert query("SELECT count(*), count(DISTINCT tenant_id) FROM invoices") == [(12, 12)]
    assert len(said("billing.invoice.created")) == 12


@pytest.mark.usefixtures("twelve")
def test_a_fault_of_one_lane_is_parked_once_and_stops_neither(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sights, seen_twice = list[str](), threading.Event()
    inside, together = list[int](), threading.Event()

    def refuse(tenant_ids: list[str]) -> None:
        if "t05" not in tenant_ids:
            return
        sights.extend(tenant_ids)
        if sights.count("t05") == 2:
            seen_twice.set()
        raise ValueError("this one is odd")

    def look_at_each_later(*given: Any) -> int:
        # The chunk that failed is free: the other lane takes it, and fails with it as well.
        assert seen_twice.wait(WAIT)
        inside.append(threading.get_ident())
        if len(inside) == 2:
            together.set()
        together.wait(MOMENT)
        try:
            return one_by_one(*given)
        finally:
            inside.pop()

    one_by_one = invoice_runs._bill_one_by_one
    monkeypatch.setattr(invoice_runs, "_bill_one_by_one", look_at_each_later)
    with around(monkeypatch, refuse):
        answer = generate_invoices(as_of=END)

    assert answer == {"invoices": 11, "failed": 1, "finished": True}
    assert not together.is_set()
    (kept,) = list_parked()["parked"]
    assert (kept["tenant_id"], kept["tries"]) == ("t05", 1)


@pytest.mark.usefixtures("twelve")
@pytest.mark.parametrize("breaks", ["the first lane", "the second lane"])
def test_an_error_of_one_lane_is_the_runs_and_the_other_begins_no_more(
    monkeypatch: pytest.MonkeyPatch, breaks: str
) -> None:
    main, meeting = threading.get_ident(), Meeting()

    def die(tenant_ids: list[str]) -> None:
        meeting.look(tenant_ids)
        is_first_lane = threading.get_ident() == main
        if len(meeting.chunks) >= 3 and is_first_lane == (breaks == "the first lane"):
            raise KeyboardInterrupt("a fault of the lane itself")

    with around(monkeypatch, die), pytest.raises(KeyboardInterrupt, match="of the lane itself"):
        generate_invoices(as_of=END)

    # The first chunk; of the two that met one, and at most one that had begun by then.
    (made,) = query("SELECT count(*) FROM invoices")[0]
    assert made in {6, 9}
    assert generate_invoices(as_of=END) == {"invoices": 12 - made, "failed": 0, "finished": True}


@pytest.mark.usefixtures("twelve")
def test_a_run_whose_time_is_over_says_so_and_the_next_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(invoice_runs, "RUN_SECONDS", 0.0)
        assert generate_invoices(as_of=END) == {"invoices": 3, "failed": 0, "finished": False}

    assert generate_invoices(as_of=END) == {"invoices": 9, "failed": 0, "finished": True}


@pytest.mark.usefixtures("twelve")
@pytest.mark.parametrize("reason", ["one connection", "a chunk that is not full"])
def test_one_lane_does_where_there_is_no_room_or_no_use_for_another(
    monkeypatch: pytest.MonkeyPatch, database_url: str, reason: str
) -> None:
    if reason == "one connection":
        database.configure(database.Options(url=database_url, pool_size=1))
    else:
        monkeypatch.setattr(invoice_runs, "CHUNK", 13)
    threads = set[int]()

    with around(monkeypatch, lambda _: threads.add(threading.get_ident())):
        answer = generate_invoices(as_of=END)

    assert answer == {"invoices": 12, "failed": 0, "finished": True}
    assert threads == {threading.get_ident()}
