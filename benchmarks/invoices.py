"""The billing run: a closed month of many tenants, priced, stored, numbered."""

import contextlib
import datetime as dt
import os
from collections.abc import Callable, Iterator
from decimal import Decimal

from benchmarks import invoice_rows, rounds, servers
from benchmarks.report import Measure
from benchmarks.servers import OUTBOX, Stage
from models.catalog import PriceKind
from models.rules import pricing
from tasks.invoice_runs import finalize_invoices, generate_invoices
from tasks.plans import set_plan
from tasks.price_terms import PriceTerms
from tasks.queues import Queue

JOB = "invoices"

TENANTS = 10_000
FEWER = 10
"""Times fewer tenants, or events of each, that growth is measured from."""

PRICES = 5
"""And metrics, each used on every day of the month."""

READERS = 200
"""Tenants whose price reads the events themselves."""

EVENTS = 1_000
"""Of each of them in the month."""

RUN = "drafts, in process, chunks of 500 tenants"
ONE = "drafts, one worker process"
TWO = "drafts, two worker processes"
NUMBERS = "numbers, in process, chunks of 500 drafts"
STATEMENT = "one statement: sum, price, insert"
ALL_ROWS = "the same, foreign keys checked, subscriptions moved, events told"
UPDATE = "one UPDATE: number and freeze"
SMALL = "of a tenth of the tenants"
FEW = "of a tenth of the events"
AIM = 0.60
GROWTH_AIM = 0.80

CLOSED = dt.datetime(2026, 2, 1, 1, tzinfo=dt.UTC)

OVER = CLOSED + dt.timedelta(days=3)
"""When the grace period is over."""


def measure(stage: Stage, scale: float) -> list[Measure]:
    """Invoice every tenant, here and by workers, then the same in one statement; and number all."""
    tenants = rounds.scaled(TENANTS, scale, least=FEWER)
    make_plan()
    for statement in invoice_rows.FILL:
        stage.execute(statement.format(tenants=tenants, prices=PRICES))
    copies = stage.copy_of("invoices"), stage.copy_of("invoice_lines")
    bare = invoice_rows.FLOOR.format(invoices=copies[0], lines=copies[1], beside="")
    whole = invoice_rows.FLOOR.format(
        invoices="invoices", lines="invoice_lines", beside=invoice_rows.BESIDE
    )

    def bill() -> float:
        make_due(stage)
        return rounds.rate(tenants, lambda: generate_invoices(as_of=CLOSED))

    def bill_fewer() -> float:
        make_due(stage, which=invoice_rows.FIRST_TENTH)
        return rounds.rate(tenants // FEWER, lambda: generate_invoices(as_of=CLOSED))

    def number() -> float:
        make_due(stage)
        generate_invoices(as_of=CLOSED)
        stage.execute("VACUUM ANALYZE invoices, invoice_lines")
        return rounds.rate(tenants, lambda: finalize_invoices(as_of=OVER))

    def insert() -> float:
        stage.empty(*copies)
        return rounds.rate(tenants, lambda: stage.execute(bare))

    def insert_all() -> float:
        make_due(stage)
        with _checking(stage):
            return rounds.rate(tenants, lambda: stage.execute(whole))

    def freeze() -> float:
        insert()
        stage.execute(f"VACUUM ANALYZE {copies[0]}")
        return rounds.rate(
            tenants, lambda: stage.execute(invoice_rows.FREEZE.format(invoices=copies[0]))
        )

    ways = {RUN: bill, SMALL: bill_fewer, STATEMENT: insert, ALL_ROWS: insert_all,
            NUMBERS: number, UPDATE: freeze}  # fmt: skip
    ways |= {name: _by_workers(stage, tenants, count) for name, count in ((ONE, 1), (TWO, 2))}
    rates = rounds.play("invoices/s", ways)
    assert stage.value("SELECT count(*) FROM invoice_lines") == tenants * PRICES
    memory = _memory(stage)
    return [
        rates.beside(RUN, STATEMENT, job=JOB, aim=AIM),
        rates.beside(RUN, ALL_ROWS, job=JOB),
        rates.beside(ONE, STATEMENT, job=JOB),
        rates.beside(TWO, STATEMENT, job=JOB),
        rates.beside(TWO, ONE, job=JOB),
        rates.beside(NUMBERS, UPDATE, job=JOB),
        rates.beside(RUN, SMALL, job=f"{JOB}, growth", aim=GROWTH_AIM),
        memory,
        _by_event(stage, scale),
    ]


def make_due(stage: Stage, which: str = "true") -> None:
    """Let the month of subscriptions be billed again, and of no others."""
    stage.empty(*invoice_rows.MADE, *OUTBOX)
    stage.execute("UPDATE subscriptions SET next_invoice_at = '2026-03-01Z'")
    stage.execute(invoice_rows.DUE_AGAIN.format(which=which))
    stage.execute("UPDATE invoice_series SET last_number = 0")
    stage.execute("VACUUM ANALYZE subscriptions")


def _by_workers(stage: Stage, tenants: int, processes: int) -> Callable[[], float]:
    def bill() -> float:
        make_due(stage)
        with stage.worker(Queue.billing, concurrency=processes):

            def run() -> None:
                for _ in range(processes):
                    generate_invoices.delay(as_of=CLOSED)
                servers.wait_until(lambda: bool(stage.value(invoice_rows.IS_DONE)))

            return rounds.rate(tenants, run)

    return bill


@contextlib.contextmanager
def _checking(stage: Stage) -> Iterator[None]:
    """Let the stage's statements check foreign keys, as everybody's do."""
    stage.execute("SET session_replication_role = origin")
    try:
        yield
    finally:
        stage.execute("SET session_replication_role = replica")


def _memory(stage: Stage) -> Measure:
    """The most memory that a process had which made all drafts, beside one that made a tenth."""
    make_due(stage, which=invoice_rows.FIRST_TENTH)
    few = _megabytes(lambda: generate_invoices(as_of=CLOSED))
    make_due(stage)
    many = _megabytes(lambda: generate_invoices(as_of=CLOSED))
    return Measure(f"{JOB}, memory: {RUN}", many, "MB", SMALL, few, many / few, None, 1)


def _megabytes(work: Callable[[], object]) -> float:
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            work()
            os._exit(0)
        os._exit(1)
    _, status, used = os.wait4(child, 0)
    assert status == 0
    return used.ru_maxrss / 1024


def _by_event(stage: Stage, scale: float) -> Measure:
    """A price that looks at each event, with so many events and with ten times as many."""
    tenants = rounds.scaled(READERS, scale)
    stage.execute("UPDATE subscriptions SET next_invoice_at = '2026-03-01Z', plan_key = 'by-event'")
    which = f"substr(tenant_id, 8)::int <= {tenants}"

    def bill(events: int) -> Callable[[], float]:
        def way() -> float:
            stage.empty("usage_events")
            stage.execute(invoice_rows.USE.format(tenants=tenants, events=events))
            stage.execute("VACUUM ANALYZE usage_events")
            make_due(stage, which=which)
            return rounds.rate(tenants * events, lambda: generate_invoices(as_of=CLOSED))

        return way

    sizes = {RUN: bill(EVENTS), FEW: bill(EVENTS // FEWER)}
    rates = rounds.play("events/s", sizes)
    return rates.beside(RUN, FEW, job=f"{JOB}, priced by event", aim=GROWTH_AIM)


def make_plan() -> None:
    set_plan(
        plan_key="bench",
        name="Bench",
        prices=[
            PriceTerms(
                price_key=f"price-{number}",
                kind=PriceKind.usage,
                metric=f"metric-{number}",
                unit_amount=Decimal("0.0125"),
                currency="USD",
            )
            for number in range(PRICES)
        ],
        as_of=dt.datetime(2025, 11, 1, tzinfo=dt.UTC),
    )
    terms = {"rate_percent": "2.9", "fixed_per_event": "0.30", "free_events": 5}
    paid = PriceTerms(
        price_key="paid",
        kind=PriceKind.usage,
        metric="paid",
        model=pricing.Model.percentage,
        params=terms,
        currency="USD",
    )
    set_plan(
        plan_key="by-event",
        name="By event",
        prices=[paid],
        as_of=dt.datetime(2025, 11, 1, tzinfo=dt.UTC),
    )
