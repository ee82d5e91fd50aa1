"""Credit's chores: a million batches written off, a million ledger entries proved."""

import datetime as dt

from benchmarks import rounds
from benchmarks.report import Measure
from benchmarks.rounds import Way
from benchmarks.servers import OUTBOX, Stage
from models.catalog import ProductType
from tasks.catalog import set_product
from tasks.credit_upkeep import EXPIRY_CHUNK, audit, expire_batches

JOB = "credit"

BATCHES = 1_000_000
WALLETS = 100_000

ENTRIES_EACH = 100
AUDITED = 10_000
"""Wallets, of a hundred entries each."""

EXPIRY_ROUNDS = 1
"""A million rows are no quick turn, and long enough to even out a noisy minute."""

EXPIRE = f"expire_batches, {EXPIRY_CHUNK:,} balances a chunk"
STATEMENT = "one statement of the same rows"
TOLD = "the same, with the rows of what is told"
UNCHECKED = "one statement of the same rows, without foreign keys"
EXPIRE_AIM = 0.50

AUDIT = "audit"
SUMS = "bare sums by account and by batch"

START = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
LATER = START + dt.timedelta(days=60)

EMPTIED = (
    "ledger_entries",
    "reservation_slices",
    "reservations",
    "credit_batches",
    "credit_balances",
    *OUTBOX,
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
    -- Ids that go up, as those of the product do.
    SELECT CAST(lpad(to_hex(n), 32, '0') AS uuid), 'tenant-' || n % {wallets} + 1, 'TOKENS', 10, 10,
           '2026-03-01Z',
           timestamptz '2026-04-01Z' + n * interval '1 second', 'bench', '2026-03-01Z'
    FROM generate_series(1, {batches}) n
    """,
    "VACUUM ANALYZE credit_batches, credit_balances",
)

_ALL_AT_ONCE = """
    WITH closed AS (
        UPDATE credit_batches SET remaining_amount = 0, state = 'EXPIRED', closed_at = now()
        WHERE state = 'ACTIVE' AND expires_at <= now() + interval '100 years'
        RETURNING id, tenant_id, product_key, initial_amount AS gone
    ), balance AS (
        UPDATE credit_balances SET balance = balance - total.gone, version = version + total.count
        FROM (SELECT tenant_id, product_key, sum(gone) AS gone, count(*) FROM closed GROUP BY 1, 2)
             AS total
        WHERE credit_balances.tenant_id = total.tenant_id
    )"""

ENTRIES = """
    INSERT INTO ledger_entries (tenant_id, product_key, direction, amount, action, batch_id,
                                balance_after, cause_type, cause_id, created_at)
    SELECT tenant_id, product_key, 'DEBIT', gone, 'expire', id, 0, 'bench', id, now() FROM closed
"""

ALL_AT_ONCE = _ALL_AT_ONCE + ENTRIES

ALL_TOLD = f"""
    {_ALL_AT_ONCE}, entry AS ({ENTRIES}), message AS (
        INSERT INTO outbox_messages (id, type, tenant_id, schema_version, sequence, body)
        SELECT id, 'billing.credits_expired', tenant_id, 1, 1, convert_to(repeat('x', 400), 'UTF8')
        FROM closed
        RETURNING id
    )
    INSERT INTO outbox_pending (message_id) SELECT id FROM message
"""  # noqa: S608 (constants of this module)

# A wallet's first ten entries grant a batch each, the other ninety take one unit of one in turn.
BOOKS = (
    "INSERT INTO tenants (tenant_id) SELECT 'tenant-' || n FROM generate_series(0, {last}) n",
    """
    INSERT INTO credit_balances (tenant_id, product_key, balance)
    SELECT 'tenant-' || n, 'TOKENS', 910 FROM generate_series(0, {last}) n
    """,
    """
    INSERT INTO credit_batches (id, tenant_id, product_key, initial_amount, remaining_amount,
                                valid_from, source, created_at)
    SELECT CAST(md5(n || '-' || k) AS uuid), 'tenant-' || n, 'TOKENS', 100, 91, '2026-03-01Z',
           'bench', '2026-03-01Z'
    FROM generate_series(0, {last}) n, generate_series(0, 9) k
    """,
    """
    INSERT INTO ledger_entries (tenant_id, product_key, direction, amount, action, batch_id,
                                balance_after, cause_type, cause_id, created_at)
    SELECT 'tenant-' || n, 'TOKENS', CASE WHEN k < 10 THEN 'CREDIT' ELSE 'DEBIT' END,
           CASE WHEN k < 10 THEN 100 ELSE 1 END, CASE WHEN k < 10 THEN 'grant' ELSE 'consume' END,
           CAST(md5(n || '-' || k % 10) AS uuid),
           CASE WHEN k < 10 THEN 100 * (k + 1) ELSE 1009 - k END, 'bench', k, '2026-03-01Z'
    FROM generate_series(0, 99) k, generate_series(0, {last}) n
    """,
    "VACUUM ANALYZE credit_batches, credit_balances, ledger_entries",
)

BARE_SUMS = (
    """
    SELECT tenant_id, product_key,
           sum(CASE direction WHEN 'CREDIT' THEN amount WHEN 'DEBIT' THEN -amount ELSE 0 END)
    FROM ledger_entries GROUP BY tenant_id, product_key
    """,
    """
    SELECT batch_id,
           sum(CASE direction WHEN 'CREDIT' THEN amount WHEN 'DEBIT' THEN -amount ELSE 0 END)
    FROM ledger_entries GROUP BY batch_id
    """,
    """
    SELECT tenant_id, product_key, sum(remaining_amount), sum(held_amount)
    FROM credit_batches GROUP BY tenant_id, product_key
    """,
)


class Unsound(AssertionError):
    """What a benchmark made up does not come out."""


def measure(stage: Stage, scale: float) -> list[Measure]:
    """Let every batch run out; then prove books that are sound."""
    set_product(product_key="TOKENS", name="Tokens", type=ProductType.quantity)
    batches, wallets = rounds.scaled(BATCHES, scale), rounds.scaled(WALLETS, scale)
    expiring = _expiring(stage, batches, wallets)
    return [*expiring, _auditing(stage, rounds.scaled(AUDITED, scale))]


def _expiring(stage: Stage, batches: int, wallets: int) -> list[Measure]:
    def fill() -> None:
        _empty(stage)
        for statement in DUE:
            stage.execute(statement.format(wallets=wallets, batches=batches))

    def sweep() -> float:
        fill()
        return rounds.rate(batches, _expire_all)

    def running(statement: str, *, role: str) -> Way:
        def run() -> float:
            fill()
            with stage.role(role):
                return rounds.rate(batches, lambda: stage.execute(statement))

        return run

    ways = {
        EXPIRE: sweep,
        STATEMENT: running(ALL_AT_ONCE, role="origin"),
        TOLD: running(ALL_TOLD, role="origin"),
        UNCHECKED: running(ALL_AT_ONCE, role="replica"),
    }
    rates = rounds.play("batches/s", ways, most=EXPIRY_ROUNDS)
    return [
        rates.beside(EXPIRE, STATEMENT, job=JOB, aim=EXPIRE_AIM),
        rates.beside(EXPIRE, TOLD, job=JOB),
        rates.beside(EXPIRE, UNCHECKED, job=JOB),
    ]


def _expire_all() -> None:
    """As beat would: again, until a run has finished."""
    while not expire_batches(as_of=LATER)["finished"]:
        pass


def _auditing(stage: Stage, wallets: int) -> Measure:
    _empty(stage)
    for statement in BOOKS:
        stage.execute(statement.format(last=wallets - 1))
    entries = wallets * ENTRIES_EACH

    def add_up() -> None:
        for statement in BARE_SUMS:
            stage.rows(statement)

    rates = rounds.play(
        "entries/s",
        {
            AUDIT: lambda: rounds.rate(entries, _audit_all),
            SUMS: lambda: rounds.rate(entries, add_up),
        },
    )
    return rates.beside(AUDIT, SUMS, job=JOB)


def _audit_all() -> None:
    after: tuple[str, str] | None = ("", "")
    while after is not None:
        answer = audit(after=after)
        if not answer["ok"]:
            raise Unsound(answer["findings"][:3])
        behind = answer["next_after"]
        after = None if behind is None else (behind[0], behind[1])


def _empty(stage: Stage) -> None:
    stage.empty(*EMPTIED)
    stage.execute("DELETE FROM tenants")
