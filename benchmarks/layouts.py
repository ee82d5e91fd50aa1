"""`python -m benchmarks.layouts`: how usage events might lie, as their table grows.

Too long for `make bench`: fifty million rows of two layouts take most of an hour and 30 GB of disk.
What came out is in docs/decisions/0008-usage-at-scale.md. Every layout holds the same events in
tables of its own, side by side; its indexes are built anew at each size. Then events of the last
day are recorded in chunks of a thousand, a chunk here, the same chunk there, and that day is read.
"""

import argparse
import itertools
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import orjson
from rich.console import Console
from rich.table import Table

from benchmarks import servers
from benchmarks.servers import Stage

SIZES: Final = (1_000_000, 5_000_000, 20_000_000)

TENANTS: Final = 200
METRICS: Final = 5
PER_DAY: Final = 1_000_000
FIRST_DAY: Final = "2026-01-01Z"
MONTHS: Final = ("2025-12-01Z", "2026-01-01Z", "2026-02-01Z", "2026-03-01Z", "2026-04-01Z")

CHUNKS: Final = 60
WARM_UP: Final = 15
"""Chunks that are not counted: they split the pages of indexes that were just built tight."""
CHUNK: Final = 1_000

READS: Final = 3

RESULT: Final = Path(__file__).parent / "results" / "layouts.json"

BY_TIME: Final = "(tenant_id, metric, at)"

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where events lie.

    Args:
        second: the index beside the key; None for none.
        is_apart: keys in a table of their own, events in partitions by the month of `at`.
    """

    name: str
    second: str | None
    is_apart: bool = False

    @property
    def table(self) -> str:
        """The name of its table of events."""
        return self.name.replace("-", "_")

    @property
    def keys(self) -> str:
        """The table whose primary key tells what is known."""
        return f"{self.table}_keys" if self.is_apart else self.table


LAYOUTS: Final = {
    layout.name: layout
    for layout in (
        Layout("key-alone", None),
        Layout("brin", "brin (at)"),
        Layout("btree", f"btree {BY_TIME}"),
        Layout("btree-amounts", f"btree {BY_TIME} INCLUDE (amount)"),
        Layout("keys-apart", f"btree {BY_TIME} INCLUDE (amount)", is_apart=True),
    )
}

COLUMNS = "id, tenant_id, metric, idempotency_key, amount, at, received_at, metadata"

# One event in thirty is up to thirty days late: what lies together did not all happen together.
FILL = f"""
    INSERT INTO {{table}} ({COLUMNS})
    SELECT usage_event_id(tenant_id, metric, key), tenant_id, metric, key, n %% 5000 + 1,
           came - CASE WHEN n %% 30 = 0 THEN interval '1 hour' * (n %% 720) ELSE '0' END, came,
           '{{{{"model": "m-7"}}}}'
    FROM (SELECT n, 'tenant-' || n %% {TENANTS} AS tenant_id,
                 'metric-' || n / {TENANTS} %% {METRICS} AS metric, 'request-' || n AS key,
                 timestamptz '{FIRST_DAY}' + n * (interval '1 day' / {PER_DAY}) AS came
          FROM generate_series(CAST(%(first)s AS bigint), %(last)s - 1) AS n) AS made
"""  # noqa: S608 (constants of this module)

SENT = """
    WITH sent AS MATERIALIZED (
        SELECT usage_event_id(tenant_id, metric, idempotency_key) AS id, event.*
        FROM jsonb_to_recordset(%(events)s::jsonb) AS event (
            tenant_id text, metric text, idempotency_key text, amount numeric, at timestamptz,
            metadata jsonb)
    )
"""

VALUES = "id, tenant_id, metric, idempotency_key, amount, at, now(), metadata"

RECORD = f"""{SENT}
    INSERT INTO {{table}} ({COLUMNS}) SELECT {VALUES} FROM sent ORDER BY id
    ON CONFLICT (id) DO NOTHING
"""  # noqa: S608 (constants of this module)

RECORD_APART = f"""{SENT}, known AS (
        INSERT INTO {{keys}} (id, at) SELECT id, at FROM sent ORDER BY id
        ON CONFLICT (id) DO NOTHING RETURNING id
    )
    INSERT INTO {{table}} ({COLUMNS}) SELECT {VALUES} FROM sent JOIN known USING (id)
"""  # noqa: S608 (constants of this module)

DAY = "at >= %(start)s AND at < %(end)s"

READING = {
    "one metric's day, ms": f"""
        SELECT sum(amount), count(*) FROM {{table}}
        WHERE tenant_id = 'tenant-7' AND metric = 'metric-3' AND {DAY}
    """,  # noqa: S608 (constants of this module)
    "everyone's, one pass": f"""
        SELECT tenant_id, metric, sum(amount), count(*) FROM {{table}} WHERE {DAY} GROUP BY 1, 2
    """,  # noqa: S608 (constants of this module)
    "everyone's, one by one": f"""
        SELECT span.*, sums.* FROM (
            SELECT 'tenant-' || t AS tenant_id, 'metric-' || m AS metric
            FROM generate_series(0, {TENANTS} - 1) t, generate_series(0, {METRICS} - 1) m
        ) AS span CROSS JOIN LATERAL (
            SELECT sum(amount), count(*) FROM {{table}} AS event
            WHERE event.tenant_id = span.tenant_id AND event.metric = span.metric AND {DAY}
        ) AS sums
    """,  # noqa: S608 (constants of this module)
}

SIZE = """
    SELECT coalesce(sum(pg_relation_size(relid)), pg_relation_size('{0}'))
    FROM pg_partition_tree('{0}') WHERE isleaf
"""


def main() -> None:
    """Let the layouts grow side by side and measure them at each size."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layouts", description=__doc__)
    parser.add_argument("layouts", nargs="*", metavar="LAYOUT", help=f"of {', '.join(LAYOUTS)}")
    parser.add_argument("--rows", type=int, nargs="+", default=SIZES)
    parser.add_argument("--json", type=Path, default=RESULT)
    asked = parser.parse_args()
    layouts = [LAYOUTS[name] for name in asked.layouts or LAYOUTS]
    rows: list[Row] = []
    with servers.running() as stage:
        stage.execute("SET maintenance_work_mem = '512MB'")
        # A worker's statement has one core: the other one is its neighbour's.
        stage.execute("SET max_parallel_workers_per_gather = 0")
        for measured in _grow(stage, layouts, sorted(asked.rows)):
            _show(measured)
            rows += measured
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    asked.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def _grow(stage: Stage, layouts: Sequence[Layout], sizes: Sequence[int]) -> Iterator[list[Row]]:
    for layout in layouts:
        _make(stage, layout)
    numbers = itertools.count(10**9, CHUNK)
    filled = 0
    for size in sizes:
        for layout in layouts:
            _fill(stage, layout, filled, size)
        filled = size
        stage.execute("CHECKPOINT")
        rates = _write(stage, layouts, numbers, size)
        yield [
            {"layout": layout.name, "rows": size, "load": round(os.getloadavg()[0], 1)}
            | _sizes(stage, layout, size)
            | {"events/s": rates[layout.name]}
            | _read(stage, layout, size)
            for layout in layouts
        ]


def _make(stage: Stage, layout: Layout) -> None:
    like = "(LIKE usage_events INCLUDING DEFAULTS INCLUDING CONSTRAINTS)"
    if not layout.is_apart:
        stage.execute(f"CREATE TABLE {layout.table} {like}")
        return
    stage.execute(f"CREATE TABLE {layout.keys} (id uuid, at timestamptz)")
    stage.execute(f"CREATE TABLE {layout.table} {like} PARTITION BY RANGE (at)")
    for first, then in itertools.pairwise(MONTHS):
        name = f"{layout.table}_{first[:4]}_{first[5:7]}"
        stage.execute(
            f"CREATE TABLE {name} PARTITION OF {layout.table} FOR VALUES FROM ('{first}') "
            f"TO ('{then}')"
        )


def _fill(stage: Stage, layout: Layout, filled: int, size: int) -> None:
    """Without indexes, which are built once all is there."""
    key = f"{layout.keys}_key"
    stage.execute(f"ALTER TABLE {layout.keys} DROP CONSTRAINT IF EXISTS {key}")
    stage.execute(f"DROP INDEX IF EXISTS {layout.table}_second")
    stage.execute(FILL.format(table=layout.table), {"first": filled, "last": size})
    if layout.is_apart:
        stage.execute(
            f"INSERT INTO {layout.keys} SELECT id, at FROM {layout.table} "  # noqa: S608
            f"WHERE received_at >= {_instant(filled)} AND received_at < {_instant(size)}"
        )
    stage.execute(f"ALTER TABLE {layout.keys} ADD CONSTRAINT {key} PRIMARY KEY (id)")
    if layout.second:
        stage.execute(f"CREATE INDEX {layout.table}_second ON {layout.table} USING {layout.second}")
    for table in {layout.table, layout.keys}:
        stage.execute(f"VACUUM (ANALYZE) {table}")


def _instant(number: int) -> str:
    return f"timestamptz '{FIRST_DAY}' + {number} * (interval '1 day' / {PER_DAY})"


def _write(
    stage: Stage, layouts: Sequence[Layout], numbers: Iterator[int], size: int
) -> dict[str, float]:
    """Record chunks of the last day, each in every layout, and return events a second."""
    times: dict[str, list[float]] = {layout.name: [] for layout in layouts}
    for _ in range(CHUNKS):
        events = _chunk(next(numbers), size)
        for layout in layouts:
            statement = RECORD_APART if layout.is_apart else RECORD
            begun = time.perf_counter()
            stage.execute(
                statement.format(table=layout.table, keys=layout.keys), {"events": events}
            )
            times[layout.name].append(time.perf_counter() - begun)
    return {name: CHUNK / median(taken[WARM_UP:]) for name, taken in times.items()}


def _chunk(first: int, size: int) -> str:
    day = _days(size)[0]
    return orjson.dumps(
        [
            {
                "tenant_id": f"tenant-{n % TENANTS}",
                "metric": f"metric-{n // TENANTS % METRICS}",
                "idempotency_key": f"request-{n}",
                "amount": n % 5000 + 1,
                "at": f"{day} {n // 60 % 24:02d}:{n % 60:02d}:00Z",
                "metadata": {"model": "m-7"},
            }
            for n in range(first, first + CHUNK)
        ]
    ).decode()


def _days(size: int) -> tuple[str, str]:
    """Return the last whole day, and the one after it."""
    last = max(0, size // PER_DAY - 1)
    month, day = divmod(last, 31)
    if month:
        month, day = (1, last - 31) if last < 31 + 28 else (2, last - 59)
    return f"2026-{month + 1:02d}-{day + 1:02d}", f"2026-{month + 1:02d}-{day + 1:02d} 24:00"


def _sizes(stage: Stage, layout: Layout, size: int) -> Row:
    bytes_a_row = {
        "heap B/row": SIZE.format(layout.table),
        "key B/row": SIZE.format(f"{layout.keys}_key"),
        "second B/row": SIZE.format(f"{layout.table}_second") if layout.second else "SELECT 0",
    }
    found = {name: float(stage.value(query)) / size for name, query in bytes_a_row.items()}
    if layout.is_apart:
        found["key B/row"] += stage.value(f"SELECT pg_relation_size('{layout.keys}')") / size
    return found


def _read(stage: Stage, layout: Layout, size: int) -> Row:
    start, end = _days(size)
    found: Row = {}
    for name, statement in READING.items():
        if not layout.second or (layout.name == "brin" and "one by one" in name):
            # A whole pass of the table each: nobody would.
            found[name] = None
            continue
        times = []
        for _ in range(READS):
            begun = time.perf_counter()
            stage.connection.execute(
                statement.format(table=layout.table).encode(),
                {"start": f"{start}Z", "end": f"{end}Z"},
            ).fetchall()
            times.append(time.perf_counter() - begun)
        found[name] = median(times) * 1000
    return found


def _show(rows: Sequence[Row]) -> None:
    table = Table(title=f"{rows[0]['rows']:,} rows")
    for name in rows[0]:
        table.add_column(name, justify="left" if name == "layout" else "right")
    for row in rows:
        table.add_row(*(_figure(value) for value in row.values()))
    Console(width=150).print(table)


def _figure(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else value or "-"


if __name__ == "__main__":
    main()
