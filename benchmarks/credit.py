"""Credit: spent call by call from one hot balance, and written off by the thousand."""

import datetime as dt
from itertools import count as numbers

from benchmarks import rounds
from benchmarks.report import Measure
from benchmarks.servers import OUTBOX, Stage
from models.catalog import ProductType
from tasks.catalog import set_product
from tasks.credit_upkeep import EXPIRY_CHUNK, expire_batches
from tasks.credits import consume_quota

JOB = "credit"

CALLS = 400
BATCHES = 20_000
WALLETS = 2_000

CONSUME = "consume_quota, one hot tenant"
LOCK_UPDATE_INSERT = "bare lock, update, insert of the same rows"
CONSUME_AIM = 0.50

EXPIRE = f"expire_batches, chunks of {EXPIRY_CHUNK:,}"
STATEMENT = "one statement of the same rows"
EXPIRE_AIM = 0.50

START = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
LATER = START + dt.timedelta(days=60)

HOT = (
    "INSERT INTO tenants (tenant_id) VALUES ('hot')",
    """
    INSERT INTO credit_balances (tenant_id, product_key, balance)
    VALUES ('hot', 'TOKENS', 1000000000)
    """,
    """
    INSERT INTO credit_batches (id, tenant_id, product_key, initial_amount, remaining_amount,
                                valid_from, source, created_at)
    VALUES (gen_random_uuid(), 'hot', 'TOKENS', 1000000000, 1000000000, '2026-01-01Z', 'bench',
            '2026-01-01Z')
    """,
)

# What one call of consume_quota reads, locks and writes, without any of its questions.
BARE = (
    "SELECT balance FROM credit_balances WHERE tenant_id = 'hot' FOR UPDATE",
    "UPDATE credit_batches SET remaining_amount = remaining_amount - 1 WHERE tenant_id = 'hot'",
    """
    UPDATE credit_balances SET balance = balance - 1, version = version + 1
    WHERE tenant_id = 'hot'
    """,
    """
    INSERT INTO ledger_entries (tenant_id, product_key, direction, amount, action, batch_id,
                                balance_after, cause_type, cause_id, created_at)
    SELECT tenant_id, product_key, 'DEBIT', 1, 'consume', id, remaining_amount, 'bench', %(key)s,
           now()
    FROM credit_batches WHERE tenant_id = 'hot'
    """,
    """
    INSERT INTO idempotency_keys (tenant_id, operation, key, request_hash, answer)
    VALUES ('hot', 'bench', %(key)s::text, sha256(%(key)s::text::bytea), '{"consumed": true}')
    """,
    """
    WITH message AS (
        INSERT INTO outbox_messages (id, type, tenant_id, schema_version, sequence, body)
        VALUES (gen_random_uuid(), 'billing.quota_consumed', 'hot', 1, 1, %(key)s::text::bytea)
        RETURNING id)
    INSERT INTO outbox_pending (message_id) SELECT id FROM message
    """,
)

DUE = (
    "INSERT INTO tenants (tenant_id) SELECT 'tenant-' || n FROM generate_series(1, {wallets}) n",
    """
    INSERT INTO credit_balances (tenant_id, product_key, balance)
    SELECT 'tenant-' || n, 'TOKENS', 1000 FROM generate_series(1, {wallets}) n
    """,
    """
    INSERT INTO credit_batches (id, tenant_id, product_key, initial_amount, remaining_amount,
                                valid_from, expires_at, source, created_at)
    SELECT gen_random_uuid(), 'tenant-' || n % {wallets} + 1, 'TOKENS', 10, 10, '2026-03-01Z',
           timestamptz '2026-04-01Z' + n * interval '1 second', 'bench', '2026-03-01Z'
    FROM generate_series(1, {batches}) n
    """,
    "VACUUM ANALYZE credit_batches, credit_balances",
)

ALL_AT_ONCE = """
    WITH closed AS (
        UPDATE credit_batches SET remaining_amount = 0, state = 'EXPIRED', closed_at = now()
        WHERE state = 'ACTIVE' AND expires_at <= now() + interval '100 years'
        RETURNING id, tenant_id, product_key, initial_amount AS gone
    ), balance AS (
        UPDATE credit_balances SET balance = balance - total.gone, version = version + total.count
        FROM (SELECT tenant_id, product_key, sum(gone) AS gone, count(*) FROM closed GROUP BY 1, 2)
             AS total
        WHERE credit_balances.tenant_id = total.tenant_id
    )
    INSERT INTO ledger_entries (tenant_id, product_key, direction, amount, action, batch_id,
                                balance_after, cause_type, cause_id, created_at)
    SELECT tenant_id, product_key, 'DEBIT', gone, 'expire', id, 0, 'bench', id, now() FROM closed
"""


def measure(stage: Stage, scale: float) -> list[Measure]:
    """Spend one unit a call, one caller; then let every batch run out."""
    set_product(product_key="TOKENS", name="Tokens", type=ProductType.quantity)
    return [
        _consuming(stage, rounds.scaled(CALLS, scale)),
        _expiring(stage, rounds.scaled(BATCHES, scale), rounds.scaled(WALLETS, scale)),
    ]


def _consuming(stage: Stage, calls: int) -> Measure:
    for statement in HOT:
        stage.execute(statement)
    keys = numbers()

    def consume() -> None:
        for _ in range(calls):
            consume_quota(
                tenant_id="hot",
                product_key="TOKENS",
                amount=1,  # type: ignore[arg-type]
                idempotency_key=f"call-{next(keys)}",
            )

    def write() -> None:
        for _ in range(calls):
            key = {"key": f"bare-{next(keys)}"}
            with stage.connection.transaction():
                for statement in BARE:
                    stage.connection.execute(statement.encode(), key)

    rates = rounds.play(
        "calls/s",
        {
            CONSUME: lambda: rounds.rate(calls, consume),
            LOCK_UPDATE_INSERT: lambda: rounds.rate(calls, write),
        },
    )
    return rates.beside(CONSUME, LOCK_UPDATE_INSERT, job=JOB, aim=CONSUME_AIM)


def _expiring(stage: Stage, batches: int, wallets: int) -> Measure:
    def fill() -> None:
        stage.empty(
            "ledger_entries",
            "reservation_slices",
            "reservations",
            "credit_batches",
            "credit_balances",
            *OUTBOX,
        )
        stage.execute("DELETE FROM tenants")
        for statement in DUE:
            stage.execute(statement.format(wallets=wallets, batches=batches))

    def sweep() -> float:
        fill()
        return rounds.rate(batches, lambda: expire_batches(as_of=LATER))

    def close() -> float:
        fill()
        return rounds.rate(batches, lambda: stage.execute(ALL_AT_ONCE))

    rates = rounds.play("batches/s", {EXPIRE: sweep, STATEMENT: close})
    return rates.beside(EXPIRE, STATEMENT, job=JOB, aim=EXPIRE_AIM)
