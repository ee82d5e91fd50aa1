"""What credit, invoices and webhooks take: each hot path once."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from benchmarks import consume, credit, deliveries, invoice_rows, invoices, receiver
from benchmarks.costs import Book, Scaled, is_done, wait_until
from benchmarks.servers import Stage
from models.catalog import ProductType
from tasks.catalog import set_product
from tasks.credit_upkeep import expire_batches
from tasks.credits import consume_quota
from tasks.delivery import deliver_webhooks
from tasks.invoice_runs import finalize_invoices, generate_invoices
from tasks.queues import Queue

USES = 300
SPENDERS = 100
TENANTS = 500
DELIVERIES = 1_500
BATCHES = 20_000

WARM_UP = 20
"""Uses, and deliveries, until the worker has its connections."""


def run(stage: Stage, book: Book, scaled: Scaled) -> None:
    """Measure every path, each on empty tables, and write it down."""
    for path in (_use, _bill, _deliver, _expire):
        stage.empty()
        path(stage, book, scaled)


def _use(stage: Stage, book: Book, scaled: Scaled) -> None:
    set_product(product_key="TOKENS", name="Tokens", type=ProductType.quantity)
    for statement in consume.PREPARE:
        stage.execute(statement.format(last=SPENDERS - 1))
    uses = scaled(USES, least=2)
    with book.beside(), stage.worker(Queue.billing, concurrency=1):
        _spend(stage, _numbered("warm", WARM_UP), done=0)
        made = _numbered("use", uses)
        book.enter("a use of credit", "use", uses, lambda: _spend(stage, made, done=WARM_UP))


def _numbered(word: str, count: int) -> list[dict[str, Any]]:
    return [
        {
            "tenant_id": f"tenant-{number % SPENDERS}",
            "product_key": "TOKENS",
            "amount": "1",
            "idempotency_key": f"{word}-{number}",
        }
        for number in range(count)
    ]


def _spend(stage: Stage, made: Sequence[dict[str, Any]], *, done: int) -> None:
    for arguments in made:
        consume_quota.apply_async(kwargs=arguments, ignore_result=True)
    expected = done + len(made)
    wait_until(lambda: is_done(stage, Queue.billing, "idempotency_keys", expected))


def _bill(stage: Stage, book: Book, scaled: Scaled) -> None:
    tenants = scaled(TENANTS, least=10)
    invoices.make_plan()
    for statement in invoice_rows.FILL:
        stage.execute(statement.format(tenants=tenants, prices=invoices.PRICES))
    invoices.make_due(stage)
    work = partial(generate_invoices, as_of=invoices.CLOSED)
    book.enter("a draft of five lines", "invoice", tenants, work, is_worker=True)
    stage.execute("VACUUM ANALYZE invoices, invoice_lines")
    work = partial(finalize_invoices, as_of=invoices.OVER)
    book.enter("an invoice finalized", "invoice", tenants, work, is_worker=True)


def _deliver(stage: Stage, book: Book, scaled: Scaled) -> None:
    count = scaled(DELIVERIES, least=20)
    with receiver.running() as urls:
        deliveries.subscribe(urls, tenants=deliveries.ENDPOINTS)
        with book.beside(), stage.worker(Queue.webhooks, concurrency=1):
            deliveries.put_in_outbox(WARM_UP)
            _empty_outbox(stage)
            deliveries.put_in_outbox(count)
            book.enter("a delivery", "delivery", count, lambda: _empty_outbox(stage))
    found = stage.value("SELECT count(*) FROM deliveries WHERE state = 'delivered'")
    assert found == count + WARM_UP


def _empty_outbox(stage: Stage) -> None:
    deliver_webhooks.apply_async(ignore_result=True)
    waits = """
        SELECT NOT EXISTS (SELECT FROM outbox_pending)
           AND NOT EXISTS (SELECT FROM deliveries WHERE state = 'pending')
    """
    wait_until(lambda: bool(stage.value(waits)))


def _expire(stage: Stage, book: Book, scaled: Scaled) -> None:
    set_product(product_key="TOKENS", name="Tokens", type=ProductType.quantity)
    batches = scaled(BATCHES, least=100)
    for statement in credit.DUE:
        stage.execute(statement.format(wallets=max(1, batches // 10), batches=batches))

    def expire() -> None:
        while not expire_batches(as_of=credit.LATER)["finished"]:
            pass

    book.enter("a batch expired", "batch", batches, expire, is_worker=True)
