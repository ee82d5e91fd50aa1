"""Whatever happens in whatever order: one verdict for one event, and totals that only ever grow."""

import datetime as dt
import itertools
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from models.rules.refusal import Refusal
from tasks.aggregation import aggregate_usage
from tasks.recount import recount_usage
from tasks.tenants import set_tenant
from tasks.usage_voids import void_usage
from tests.integration import archive_world as world
from tests.integration.billing_world import instant, query

_examples = itertools.count()

NOW = instant("2026-05-01T00:00:00")
"""When everything is sent."""

KEYS = range(12)
ZONES = ["UTC", "Asia/Tokyo", "America/New_York"]
NIGHTS = [instant("2026-04-03"), instant("2026-05-03"), instant("2026-06-03")]
"""When January, then February, then March is old enough."""

sends = st.tuples(st.sampled_from(KEYS), st.sampled_from(["same", "amount", "at"]))
steps = st.one_of(
    st.tuples(st.just("record"), st.lists(sends, min_size=1, max_size=6)),
    st.tuples(st.just("void"), st.sampled_from(KEYS)),
    st.tuples(st.just("count"), st.none()),
    st.tuples(st.just("archive"), st.sampled_from(NIGHTS)),
    st.tuples(st.just("zone"), st.sampled_from(ZONES)),
    st.tuples(st.just("forget"), st.none()),
)


def sent(tenant_id: str, key: int, variant: str) -> world.Event:
    """An event near the end of a month, where zones do not agree which it is; or a changed one."""
    at = instant(f"2026-0{1 + key % 3}-27T20:00:00") + dt.timedelta(hours=key * 9)
    return {
        "tenant_id": tenant_id,
        "metric": ("api", "disk")[key % 2],
        "idempotency_key": f"k{key}",
        "amount": str(key + 1) if variant != "amount" else "0.5",
        "at": (at if variant != "at" else NOW - dt.timedelta(days=2)).isoformat(),
    }


@dataclass(slots=True)
class Model:
    """What should be so."""

    tenant_id: str
    known: dict[int, world.Event] = field(default_factory=dict)
    counted: list[world.Event] = field(default_factory=list)
    voided: set[int] = field(default_factory=set)
    closed_totals: list[Any] = field(default_factory=list)

    @property
    def horizon(self) -> dt.datetime | None:
        found = query(
            "SELECT closed_until FROM usage_horizons WHERE tenant_id = :id", id=self.tenant_id
        )
        return found[0][0] if found else None

    def is_closed(self, event: world.Event) -> bool:
        return self.horizon is not None and dt.datetime.fromisoformat(event["at"]) < self.horizon

    def take(self, events: list[tuple[int, world.Event]]) -> list[str]:
        """The verdicts of a chunk: of one key the first that is in time wins."""
        verdicts: dict[int, str] = {}
        for place, (key, event) in enumerate(events):
            if key not in self.known and not self.is_closed(event):
                self.known[key] = event
                self.counted.append(event)
                verdicts[place] = "accepted"
        for place, (key, event) in enumerate(events):
            if place not in verdicts and key not in self.known:
                verdicts[place] = "rejected"
            elif place not in verdicts:
                verdicts[place] = "duplicate" if event == self.known[key] else "conflict"
        return [verdicts[place] for place in range(len(events))]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(story=st.lists(steps, min_size=3, max_size=14))
def test_verdicts_and_totals_are_those_of_a_store_that_never_purges(
    db: Engine, story: list[tuple[str, Any]]
) -> None:
    model = Model(f"t{next(_examples)}")
    with tempfile.TemporaryDirectory() as folder:
        world.keep_in(Path(folder), even_uninvoiced=True)
        for step, given_to_it in story:
            STEPS[step](model, given_to_it)
            _check_closed(model)
        aggregate_usage(as_of=NOW)
        _check_closed(model)
        _check_sums(model)
        _check_places(model, Path(folder))


def _record(model: Model, chosen: list[tuple[int, str]]) -> None:
    events = [(key, sent(model.tenant_id, key, variant)) for key, variant in chosen]
    expected = model.take(events)
    answer = world.record(*(event for _, event in events), as_of=NOW)
    assert answer["verdicts"] == expected


def _void(model: Model, key: int) -> None:
    event = model.known.get(key)
    can = event is not None and (key in model.voided or not model.is_closed(event))
    named = {name: sent(model.tenant_id, key, "same")[name] for name in ("metric", "tenant_id")}
    try:
        void_usage(**named, idempotency_key=f"k{key}", reason="a test", as_of=NOW)
    except Refusal:
        assert not can
    else:
        assert can
        model.voided.add(key)


def _count(_: Model, __: None) -> None:
    aggregate_usage(as_of=NOW)


def _archive(model: Model, as_of: dt.datetime) -> None:
    before = model.horizon
    aggregate_usage(as_of=NOW)
    answer = world.archive(as_of)
    assert not answer["unsound"]
    assert before is None or (model.horizon or before) >= before
    model.closed_totals = _closed_totals(model)


def _zone(model: Model, zone: str) -> None:
    set_tenant(tenant_id=model.tenant_id, timezone=zone, as_of=NOW)


def _forget(model: Model, _: None) -> None:
    """Long after: everything is purged, and then not known any more, but for what was voided."""
    aggregate_usage(as_of=NOW)
    for years in (1, 2):
        world.archive(NIGHTS[-1] + years * world.REMEMBERED)
    model.closed_totals = _closed_totals(model)
    for key, event in list(model.known.items()):
        if model.is_closed(event) and key not in model.voided:
            del model.known[key]


STEPS: dict[str, Any] = {
    "record": _record,
    "void": _void,
    "count": _count,
    "archive": _archive,
    "zone": _zone,
    "forget": _forget,
}


def _closed_totals(model: Model) -> list[Any]:
    return query(
        """
        SELECT metric, granularity, period_start, period_end, total, event_count
        FROM usage_aggregates JOIN usage_horizons USING (tenant_id)
        WHERE tenant_id = :id AND period_start < closed_until ORDER BY 1, 2, 3
        """,
        id=model.tenant_id,
    )


def _check_closed(model: Model) -> None:
    assert _closed_totals(model) == model.closed_totals


def _check_sums(model: Model) -> None:
    """Nothing is lost and nothing counts twice, by days and by months."""
    for metric in ("api", "disk"):
        events = [each for each in model.counted if each["metric"] == metric]
        voided = [model.known[key] for key in model.voided]
        due = sum((Decimal(each["amount"]) for each in events), Decimal(0)) - sum(
            (Decimal(each["amount"]) for each in voided if each["metric"] == metric), Decimal(0)
        )
        for granularity in ("day", "month"):
            ((total,),) = query(
                "SELECT coalesce(sum(total), 0) FROM usage_aggregates "
                "WHERE tenant_id = :id AND metric = :metric AND granularity = :granularity",
                id=model.tenant_id,
                metric=metric,
                granularity=granularity,
            )
            assert total == due, (metric, granularity)
    assert recount_usage(as_of=instant("2026-04-01T12:00:00"))["drifted"] == 0


def _check_places(model: Model, folder: Path) -> None:
    """Each event that was taken is in the database or in one file, never in both."""
    # Earlier examples' tenants go on, and their files are here too.
    lines = (line for path in world.files(folder) for line in world.lines(path))
    in_files = [line["idempotency_key"] for line in lines if line["tenant_id"] == model.tenant_id]
    stored = query(
        "SELECT idempotency_key FROM usage_events WHERE tenant_id = :id", id=model.tenant_id
    )
    found = Counter([*in_files, *(key for (key,) in stored)])
    assert found == Counter(each["idempotency_key"] for each in model.counted)
