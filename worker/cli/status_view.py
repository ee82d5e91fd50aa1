"""How a look at the system is shown: for 80 columns and 24 lines, as long as little is wrong."""

from collections.abc import Iterator, Mapping

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from models.store.due import MOST_COUNTED
from worker.health.finding import Verdict, ago
from worker.overview import Look, OfBroker, OfDatabase

STYLES = {Verdict.ok: "green", Verdict.warn: "yellow", Verdict.fail: "bold red"}

BEAT_SILENCE_SECONDS = 30.0


def screen(look: Look) -> RenderableType:
    """Return what one look has seen."""
    parts: list[RenderableType] = [Text(f"billing, {look.at:%Y-%m-%d %H:%M:%S}Z", style="bold")]
    for server, reason in look.away.items():
        parts.append(Text(f"the {server} does not answer: {reason}", style="bold red"))
    if look.broker is not None:
        parts += ["", _queues(look.broker)]
    if look.database is not None:
        parts += ["", _figures(look, look.database), "", *_findings(look.database)]
    return Group(*parts)


def _queues(found: OfBroker) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("queue")
    table.add_column("workers", justify="right")
    table.add_column("waiting", justify="right")
    table.add_column("")
    for place, (queue, count) in enumerate(found.workers.items()):
        waiting = f"{found.queued.get(queue.value, 0):,.0f}"
        table.add_row(
            str(queue),
            Text(str(count), style="" if count else "bold red"),
            waiting,
            _beat(found) if not place else Text(""),
        )
    if found.streamed is not None:
        table.add_row("usage stream", "", f"{found.streamed:,}", "")
    return table


def _beat(found: OfBroker) -> Text:
    age = found.beat_seconds_ago
    if age is None:
        return Text("beat was never heard", style="bold red")
    style = "" if age <= BEAT_SILENCE_SECONDS else "bold red"
    return Text(f"beat heard {age:.0f} s ago", style=style)


def _figures(look: Look, found: OfDatabase) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for name, value in _rows(look, found):
        table.add_row(name, value)
    return table


def _rows(look: Look, found: OfDatabase) -> Iterator[tuple[str, str]]:
    waiting, seen = found.backlog, found.overview
    oldest = waiting.outbox_oldest
    age = "" if oldest is None else f", the oldest for {ago(look.at - oldest)}"
    yield "usage", f"{_rate(look.usage_per_second)}; {_count(waiting.touched_days)} days to roll up"
    yield "outbox", f"{_count(waiting.outbox_pending)} waiting{age}"
    yield "deliveries", f"{_states(seen.deliveries)}; {_rate(look.attempts_per_second)} tried"
    yield (
        "endpoints",
        f"{_count(waiting.endpoints_resting)} left alone; open circuits: {seen.circuits_open:,}",
    )
    yield "invoices", _states(seen.invoices)
    yield "tenants", f"{_count(waiting.tenants_parked)} parked"
    yield "rejected", f"{_count(waiting.rejected_open)} messages open"
    yield "jobs", _jobs(found, look)


def _jobs(found: OfDatabase, look: Look) -> str:
    busy = {job: one for job, one in found.jobs.items() if one.waiting}
    if not busy:
        return "nothing due"
    return "\n".join(
        f"{job.removeprefix('billing.')} {_count(one.waiting)}"
        + ("" if one.oldest is None else f", due for {ago(look.at - one.oldest)}")
        for job, one in busy.items()
    )


def _findings(found: OfDatabase) -> Iterator[Text]:
    for one in found.findings:
        said = f"{one.subject}: {one.detail}"
        remedy = f" → {one.remedy}" if one.remedy else ""
        yield Text.assemble((f"{one.verdict} ", STYLES[one.verdict]), said, (remedy, "dim"))
    if not found.findings:
        yield Text("nothing to look at", style="green")


def _states(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{_count(count)} {state}" for state, count in counts.items())


def _count(count: int) -> str:
    return f"{count:,}+" if count >= MOST_COUNTED else f"{count:,}"


def _rate(value: float | None) -> str:
    return "…/s" if value is None else f"{value:,.1f}/s"
