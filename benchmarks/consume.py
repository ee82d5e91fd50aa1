"""Credit spent unit by unit: by one hot tenant and by a thousand, in process and through Celery."""

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count as numbers
from typing import Any

from benchmarks import rounds, servers
from benchmarks.report import Measure
from benchmarks.rounds import Way
from benchmarks.servers import Stage
from models import database
from models.catalog import ProductType
from tasks.catalog import set_product
from tasks.credits import consume_quota
from tasks.queues import Queue
from worker import settings

JOB = "consume"

CALLS = 1_000
MESSAGES = 500
TENANTS = 1_000
CROWD = 64

PROCESSES = 2

AIM = 0.50
"""Of the calls in process, beside the same rows written without a question."""

SAME_ROWS = "bare lock, update, insert of the same rows"
AT_ONCE = f"{CROWD} threads at once, one hot tenant"
ONE_BY_ONE = "the same calls, one after the other"
UNCHECKED = "the same rows, without foreign keys"
BALANCE_ONLY = "bare lock, update, insert: balance and ledger alone"

PREPARE = (
    "INSERT INTO tenants (tenant_id) SELECT 'tenant-' || n FROM generate_series(0, {last}) n",
    """
    INSERT INTO credit_balances (tenant_id, product_key, balance)
    SELECT tenant_id, 'TOKENS', 1000000000 FROM tenants
    """,
    """
    INSERT INTO credit_batches (id, tenant_id, product_key, initial_amount, remaining_amount,
                                valid_from, source, created_at)
    SELECT gen_random_uuid(), tenant_id, 'TOKENS', 1000000000, 1000000000, '2026-01-01Z', 'bench',
           '2026-01-01Z'
    FROM tenants
    """,
    "VACUUM ANALYZE credit_batches, credit_balances, tenants",
)

HOT_BALANCE = "SELECT balance FROM credit_balances WHERE tenant_id = 'tenant-0'"

LOCK = "SELECT balance FROM credit_balances WHERE tenant_id = %(tenant)s FOR UPDATE"

UPDATE = """
    UPDATE credit_balances SET balance = balance - 1, version = version + 1
    WHERE tenant_id = %(tenant)s
"""

INSERT = """
    INSERT INTO ledger_entries (tenant_id, product_key, direction, amount, action, batch_id,
                                balance_after, cause_type, cause_id, created_at)
    SELECT tenant_id, product_key, 'DEBIT', 1, 'consume', id, remaining_amount, 'bench', %(key)s,
           now()
    FROM credit_batches WHERE tenant_id = %(tenant)s
"""

LEAST = (LOCK, UPDATE, INSERT)

# What one call of consume_quota reads, locks and writes, without any of its questions.
ALL = (
    LOCK,
    """
    UPDATE credit_batches SET remaining_amount = remaining_amount - 1
    WHERE tenant_id = %(tenant)s
    """,
    UPDATE,
    INSERT,
    """
    INSERT INTO idempotency_keys (tenant_id, operation, key, request_hash, answer)
    VALUES (%(tenant)s, 'bench', %(key)s::text, sha256(%(key)s::text::bytea), '{"consumed": true}')
    """,
    """
    WITH message AS (
        INSERT INTO outbox_messages (id, type, tenant_id, schema_version, sequence, body)
        VALUES (gen_random_uuid(), 'billing.quota_consumed', %(tenant)s, 1, 1,
                %(key)s::text::bytea)
        RETURNING id)
    INSERT INTO outbox_pending (message_id) SELECT id FROM message
    """,
)


def measure(stage: Stage, scale: float) -> list[Measure]:
    """Spend one unit a call: always of the same tenant, then of each in turn."""
    set_product(product_key="TOKENS", name="Tokens", type=ProductType.quantity)
    tenants = rounds.scaled(TENANTS, scale)
    for statement in PREPARE:
        stage.execute(statement.format(last=tenants - 1))
    calls, messages = rounds.scaled(CALLS, scale), rounds.scaled(MESSAGES, scale)
    with stage.worker(Queue.billing, concurrency=PROCESSES):
        _send_and_wait(stage, [_arguments(f"warm {key}", 0) for key in range(PROCESSES * 10)])
        measures = [
            *_spending(stage, "one hot tenant", calls, messages, 1),
            *_spending(stage, f"{TENANTS:,} tenants", calls, messages, tenants),
        ]
    return [*measures, _crowd(stage, max(calls, CROWD))]


class Inexact(AssertionError):
    """A balance is not what was granted less what was spent."""


def _crowd(stage: Stage, calls: int) -> Measure:
    """Let many spend of one tenant at the same time, each on a connection of its own."""
    numbered = numbers()

    def call(_: int) -> None:
        consume_quota(**_arguments(f"crowd {next(numbered)}", 0))

    def spend_at_once() -> float:
        before = stage.value(HOT_BALANCE)
        with ThreadPoolExecutor(CROWD) as crowd:
            reached = rounds.rate(calls, lambda: list(crowd.map(call, range(calls))))
        if before - stage.value(HOT_BALANCE) != calls:
            raise Inexact(f"{calls} units were spent of {before}")
        return reached

    def alone() -> float:
        return rounds.rate(calls, lambda: list(map(call, range(calls))))

    options = settings.load().database_options()
    database.configure(dataclasses.replace(options, pool_size=CROWD))
    try:
        rates = rounds.play("calls/s", {AT_ONCE: spend_at_once, ONE_BY_ONE: alone})
    finally:
        database.configure(options)
    return rates.beside(AT_ONCE, ONE_BY_ONE, job=JOB)


def _spending(stage: Stage, whose: str, calls: int, messages: int, tenants: int) -> list[Measure]:
    keys = numbers()

    def calling(call: Callable[[str, int], object]) -> Way:
        def repeat() -> None:
            for _ in range(calls):
                key = next(keys)
                call(f"{whose} {key}", key % tenants)

        return lambda: rounds.rate(calls, repeat)

    def writing(statements: tuple[str, ...], *, role: str) -> Way:
        write = calling(lambda key, number: _write(stage, statements, key, number))

        def repeat() -> float:
            with stage.role(role):
                return write()

        return repeat

    def send() -> float:
        made = [
            _arguments(f"{whose} {key}", key % tenants)
            for key, _ in zip(keys, range(messages), strict=False)
        ]
        return rounds.rate(messages, lambda: _send_and_wait(stage, made))

    in_process, celery = f"in process, {whose}", f"through Celery, {whose}"
    rates = rounds.play(
        "calls/s",
        {
            in_process: calling(lambda key, number: consume_quota(**_arguments(key, number))),
            celery: send,
            SAME_ROWS: writing(ALL, role="origin"),
            UNCHECKED: writing(ALL, role="replica"),
            BALANCE_ONLY: writing(LEAST, role="origin"),
        },
    )
    return [
        rates.beside(in_process, SAME_ROWS, job=JOB, aim=AIM),
        rates.beside(in_process, UNCHECKED, job=JOB),
        rates.beside(in_process, BALANCE_ONLY, job=JOB),
        rates.beside(celery, SAME_ROWS, job=JOB),
        rates.beside(celery, BALANCE_ONLY, job=JOB),
    ]


def _arguments(key: str, number: int) -> dict[str, Any]:
    return {
        "tenant_id": f"tenant-{number}",
        "product_key": "TOKENS",
        "amount": "1",
        "idempotency_key": key,
    }


def _write(stage: Stage, statements: tuple[str, ...], key: str, number: int) -> None:
    given = {"key": f"bare {key}", "tenant": f"tenant-{number}"}
    with stage.connection.transaction():
        for statement in statements:
            stage.connection.execute(statement.encode(), given)


def _send_and_wait(stage: Stage, made: list[dict[str, Any]]) -> None:
    for arguments in made:
        consume_quota.apply_async(kwargs=arguments, ignore_result=True)
    last = {made[-1]["idempotency_key"], made[0]["idempotency_key"]}
    servers.wait_until(lambda: _is_done(stage, last))


def _is_done(stage: Stage, keys: set[str]) -> bool:
    # Ask the broker first: looking for rows takes part in what is measured.
    if stage.redis.llen(Queue.billing) or stage.redis.hlen("unacked"):
        return False
    found = ", ".join(f"'{key}'" for key in keys)
    return bool(
        stage.value(f"SELECT count(*) FROM idempotency_keys WHERE key IN ({found})")  # noqa: S608
        == len(keys)
    )
