"""The figures as tables: of docs/scaling.md, and of `billing sizing`."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Final

from worker.sizing import against, saturation
from worker.sizing import costs as measured
from worker.sizing.costs import Cost, Costs
from worker.sizing.plan import Plan, plan
from worker.sizing.workload import Limits, Workload

LEVELS: Final = (
    Workload(events=1_000, tenants=1_000, uses=10, deliveries=10),
    Workload(events=10_000, tenants=10_000, uses=100, deliveries=100),
    Workload(events=100_000, tenants=100_000, uses=1_000, deliveries=1_000),
)
"""What docs/scaling.md answers for."""

_UNITS: Final = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def rows(made: Plan, costs: Costs, limits: Limits | None = None) -> list[tuple[str, str]]:
    """Return what an installation needs, a line for each thing: its name, and how much of it."""
    chosen = limits or Limits()
    database, broker, usage = made.database, made.broker, made.usage
    count = saturation.primaries(made.workload, costs, chosen)
    return [
        ("messages a second", number(made.workload.messages)),
        ("producers: processors busy", number(made.producers)),
        ("Redis: share of its thread", percent(broker.busy)),
        ("Redis: network", f"{size(broker.network)}/s"),
        (f"Redis: memory for {number(made.workload.outage)} min", size(broker.held)),
        ("processes for `usage`", f"{usage.processes} in {usage.workers} worker(s)"),
        ("a message waits, 99 of 100", seconds(usage.wait)),
        ("processes for `billing`", str(made.billing.processes)),
        ("the month's invoices", seconds(made.billing_run)),
        ("processes for `webhooks`", str(made.webhooks.processes)),
        ("PostgreSQL: processors busy", number(database.busy)),
        ("… with ingest", number(database.ingest)),
        ("… with the roll-up, at a day's end", number(database.roll_up)),
        ("… with credit and webhooks", number(database.others)),
        ("PostgreSQL: processors to have", str(database.cores)),
        ("PostgreSQL: memory for the key and a day", size(database.memory)),
        ("write-ahead log", f"{size(database.wal)}/s, {size(database.wal * 86_400)} a day"),
        ("… pages logged whole", percent(database.whole_pages / database.wal)),
        ("disk, a day", size(database.a_day)),
        (f"disk in all, events {number(made.workload.kept)} days", size(database.disk)),
        (f"… keys known for {number(made.workload.remembered)} more", size(database.remembered)),
        ("… the unique key of the events", size(database.key)),
        ("reads of it from disk", f"{number(database.reads)}/s"),
        ("connections", str(database.connections)),
        ("an event is in its total after", seconds(made.roll_up.fresh)),
        ("primaries (cells)", str(count)),
    ]


def said(costs: Costs) -> str:
    """Return what to remember, as a Markdown list."""
    rates = {bound.what: bound.rate for bound in saturation.bounds(LEVELS[0], costs)}
    storing, keeping = plan(LEVELS[1], costs).database, plan(LEVELS[2], costs).database
    cells = [saturation.primaries(level, costs) for level in LEVELS[1:]]
    service = costs.of_event(per_message=LEVELS[0].per_message).service_us
    return f"""\
- **Storing is cheap.** In messages of 1,000 an event takes {number(service)} µs of a process and
  PostgreSQL: a process stores {number(1e6 / service)} a second, and storing 10 k a second
  keeps {number(storing.ingest)} cores of PostgreSQL busy.
- **Totals keep up.** Of full days only the quarter hours that were touched are counted: those of
  a thousand tenants are ten seconds old up to {number(rates[saturation.TEN_SECONDS])} events
  a second, and later, but in time, up to {number(rates[saturation.FOR_EVER])}.
- **What is full first is what is kept, not what comes**: the key, the log and the disk. 10 k a
  second for 66 days want {cells[0]} primaries, and 100 k, with {size(keeping.wal)}/s of log
  and {size(keeping.a_day)} a day, {cells[1]}. One can not do it."""


def taken(costs: Costs) -> str:
    """Return when and where the costs were measured."""
    return (
        f"`python -m benchmarks costs`, {costs.at[:10]}, {costs.machine}, load before it "
        f"{costs.load:g} with other work all the time. Each path once."
    )


def answer(costs: Costs) -> str:
    """Return the Markdown table of what `LEVELS` need."""
    plans = [plan(level, costs) for level in LEVELS]
    columns = [rows(made, costs) for made in plans]
    names = [name for name, _ in columns[0]]
    body = [[name, *(column[nth][1] for column in columns)] for nth, name in enumerate(names)]
    return markdown(["", *(f"{number(level.events)} events/s" for level in LEVELS)], body)


def first(costs: Costs) -> str:
    """Return the Markdown table of what is full first, for the smallest of `LEVELS`."""
    found = saturation.bounds(LEVELS[0], costs)
    body = [[bound.what, number(bound.rate), bound.then] for bound in found]
    return markdown(["full", "events/s", "beyond"], body)


def by_message(costs: Costs) -> str:
    """Return the Markdown table of how many events a second one process of each kind takes."""
    body = []
    for count in measured.SIZES:
        cost = costs.of_event(per_message=count)
        body.append(
            [
                number(count),
                *(rate(spent) for spent in (cost.producer_us, cost.broker_us, cost.dispatcher_us)),
                rate(cost.service_us),
                rate(cost.database_us),
            ]
        )
    heads = [
        "events a message",
        "producer",
        "Redis",
        "a worker's main process",
        "a process of its pool",
        "a core of PostgreSQL",
    ]
    return markdown(heads, body)


def of_units(costs: Costs) -> str:
    """Return the Markdown table of measured costs."""
    parts: Sequence[tuple[str, Callable[[Cost], float]]] = (
        ("producer", lambda cost: cost.producer_us),
        ("Redis", lambda cost: cost.broker_us),
        ("main process", lambda cost: cost.dispatcher_us),
        ("pool", lambda cost: cost.worker_us),
        ("PostgreSQL", lambda cost: cost.database_us),
        ("WAL B", lambda cost: cost.wal_bytes),
        ("heap B", lambda cost: cost.heap_bytes),
        ("index B", lambda cost: cost.index_bytes),
        ("network B", lambda cost: cost.network_bytes),
        ("held B", lambda cost: cost.held_bytes),
    )
    body = [
        [path, *(_blank(read(cost)) for _, read in parts)] for path, cost in costs.paths.items()
    ]
    return markdown(["one", *(name for name, _ in parts)], body)


def beside(costs: Costs) -> str:
    """Return the Markdown table of rates that were measured beside what the model says."""
    body = [
        [
            one.what,
            number(one.rate),
            number(one.reckoned(costs)),
            number(one.reckoned(costs) / one.rate),
        ]
        for one in against.MEASURED
    ]
    return markdown(["", "measured, a second", "reckoned", "reckoned by measured"], body)


def fill(text: str, costs: Costs) -> str:
    """Return a document with its tables written anew, between `<!-- sizing: NAME -->` marks."""
    tables = {
        "answer": answer,
        "first": first,
        "by message": by_message,
        "costs": of_units,
        "beside": beside,
        "said": said,
        "taken": taken,
    }

    def replaced(found: re.Match[str]) -> str:
        return f"{found[1]}\n{tables[found[2]](costs)}\n{found[3]}"

    pattern = r"(<!-- sizing: ([a-z ]+) -->)\n.*?(<!-- end -->)"
    return re.sub(pattern, replaced, text, flags=re.DOTALL)


def markdown(heads: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; all columns but the first are to the right."""
    lines = [heads, ["---", *("---:" for _ in heads[1:])], *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float) -> str:
    """Return a figure with two digits that count, and all of those before its point."""
    if math.isinf(value):
        return "never"
    if value == 0:
        return "0"
    if value < 10:
        return f"{value:.2g}"
    digits = max(0, math.floor(math.log10(value)) - 1)
    return f"{round(value, -digits):,.0f}" if value >= 100 else f"{value:.0f}"


def rate(microseconds: float) -> str:
    """Return how many a second that allows."""
    return number(1e6 / microseconds) if microseconds > 0 else ""


def size(value: float) -> str:
    """Return bytes, as "1.2 GB"."""
    for unit, name in _UNITS:
        if value >= unit:
            return f"{number(value / unit)} {name}"
    return f"{number(value)} B"


def seconds(value: float) -> str:
    """Return a span, as "35 ms", "12 s" or "3.1 h"."""
    if math.isinf(value):
        return "never"
    if value >= 7_200:
        return f"{number(value / 3_600)} h"
    if value >= 120:
        return f"{number(value / 60)} min"
    return f"{number(value)} s" if value >= 1 else f"{number(value * 1_000)} ms"


def percent(share: float) -> str:
    """Return a share, as "12 %"."""
    return f"{number(share * 100)} %"


def _blank(value: float) -> str:
    return number(value) if value >= 0.005 else ""
