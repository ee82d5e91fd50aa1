"""Quotas: used unit by unit, by one hot tenant and by a thousand in turn."""

from collections.abc import Callable
from itertools import count as numbers

from benchmarks import rounds
from benchmarks.report import Measure
from benchmarks.servers import Stage
from tasks.entitlements import set_entitlement
from tasks.quotas import consume_entitlement

JOB = "quota"

CALLS = 400
TENANTS = 1_000

HOT = "consume_entitlement, one hot tenant"
MANY = f"consume_entitlement, {TENANTS:,} tenants"
LOCK_UPDATE_INSERT = "bare lock, update, insert of the same rows"
AIM = 0.50

PREPARE = (
    "INSERT INTO tenants (tenant_id) SELECT 'tenant-' || n FROM generate_series(0, {last}) n",
    """
    INSERT INTO tenants (tenant_id) SELECT 'bare-' || n FROM generate_series(0, {last}) n
    """,
    """
    INSERT INTO plans (plan_key, name) VALUES ('all', 'All')
    """,
    """
    INSERT INTO subscriptions (id, tenant_id, plan_key, currency, effective_at, anchored_on)
    SELECT gen_random_uuid(), tenant_id, 'all', 'USD', '2026-01-01Z', '2026-01-01' FROM tenants
    """,
    """
    INSERT INTO quota_counters (tenant_id, metric, window_unit, window_start, window_end, used)
    SELECT 'bare-' || n, 'calls', 'month', '2026-03-01Z', '2026-04-01Z', 0
    FROM generate_series(0, {last}) n
    """,
    "ANALYZE tenants, subscriptions, quota_counters",
)

# What one call reads, locks and writes, without any of its questions.
BARE = (
    "SELECT used FROM quota_counters WHERE tenant_id = %(tenant)s FOR UPDATE",
    """
    UPDATE quota_counters SET used = used + 1, version = version + 1
    WHERE tenant_id = %(tenant)s
    """,
    """
    INSERT INTO usage_events
        (id, tenant_id, metric, idempotency_key, amount, at, received_at, metadata)
    VALUES (usage_event_id(%(tenant)s::text, 'calls', %(key)s::text), %(tenant)s, 'calls', %(key)s,
            1, now(), now(), '{}')
    """,
    """
    INSERT INTO usage_touched_days (tenant_ids, metrics, firsts, lasts)
    VALUES (ARRAY[%(tenant)s::text], ARRAY['calls'], ARRAY[now()], ARRAY[now()])
    """,
    """
    INSERT INTO idempotency_keys (tenant_id, operation, key, request_hash, answer)
    VALUES (%(tenant)s, 'bench', %(key)s::text, sha256(%(key)s::text::bytea), '{"allowed": true}')
    """,
)


def measure(stage: Stage, scale: float) -> list[Measure]:
    """Use one unit a call, one caller: always the same tenant, then each in turn."""
    calls, tenants = rounds.scaled(CALLS, scale), rounds.scaled(TENANTS, scale)
    for statement in PREPARE:
        stage.execute(statement.format(last=tenants - 1))
    set_entitlement(plan_key="all", metric="calls", limit=10**9)  # type: ignore[arg-type]
    return [_using(stage, HOT, calls, 1), _using(stage, MANY, max(calls, tenants), tenants)]


def _using(stage: Stage, name: str, calls: int, tenants: int) -> Measure:
    keys = numbers()

    def use(key: int) -> None:
        consume_entitlement(
            tenant_id=f"tenant-{key % tenants}", metric="calls", idempotency_key=f"{name} {key}"
        )

    def write(key: int) -> None:
        given = {"tenant": f"bare-{key % tenants}", "key": f"{name} {key}"}
        with stage.connection.transaction():
            for statement in BARE:
                stage.connection.execute(statement.encode(), given)

    def calling(call: Callable[[int], None]) -> Callable[[], float]:
        def repeat() -> None:
            for _ in range(calls):
                call(next(keys))

        return lambda: rounds.rate(calls, repeat)

    rates = rounds.play("calls/s", {name: calling(use), LOCK_UPDATE_INSERT: calling(write)})
    return rates.beside(name, LOCK_UPDATE_INSERT, job=JOB, aim=AIM)
