"""What an installation needs grows as what it is asked for, and as what was measured."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import aggregation, window
from worker import schedule
from worker import settings as worker_settings
from worker.sizing import costs, rollup, saturation, tables
from worker.sizing.costs import Cost, Costs
from worker.sizing.plan import plan, whole_pages
from worker.sizing.workload import Limits, Workload

KNOWN = costs.load()

WORKLOADS = st.builds(
    Workload,
    events=st.floats(1, 200_000),
    per_message=st.integers(1, 10_000),
    tenants=st.integers(1, 1_000_000),
    metrics=st.integers(1, 50),
    subscribed=st.floats(0, 1),
    deliveries=st.floats(0, 5_000),
    uses=st.floats(0, 5_000),
    kept=st.floats(1, 400),
)

FEW = settings(max_examples=30, deadline=None)

ONE_DAY = Workload(events=4, tenants=100, metrics=2)
"""Little enough for the roll-up to keep its ten seconds, also when everything costs twice."""


def slower(known: Costs, times: float) -> Costs:
    """Return costs of so many times the processor time."""
    paths = {
        path: dataclasses.replace(
            cost,
            **{
                field.name: getattr(cost, field.name) * times
                for field in dataclasses.fields(Cost)
                if field.name.endswith("_us")
            },
        )
        for path, cost in known.paths.items()
    }
    return dataclasses.replace(known, paths=paths)


@FEW
@given(workload=WORKLOADS, times=st.floats(1, 20))
def test_more_events_never_need_less(workload: Workload, times: float) -> None:
    less = plan(workload, KNOWN)
    more = plan(dataclasses.replace(workload, events=workload.events * times), KNOWN)

    almost = 1 - 1e-9
    for part in ("ingest", "whole_pages", "a_day", "disk", "key", "memory", "reads"):
        assert getattr(more.database, part) >= getattr(less.database, part) * almost
    assert more.usage.processes >= less.usage.processes
    assert more.usage.workers >= less.usage.workers
    assert more.roll_up.fresh >= less.roll_up.fresh * almost
    assert more.broker.held >= less.broker.held
    assert more.producers >= less.producers


def test_twice_the_cost_takes_twice_the_processors() -> None:
    one, two = plan(ONE_DAY, KNOWN), plan(ONE_DAY, slower(KNOWN, 2))

    assert one.roll_up.every == two.roll_up.every == Limits().ring
    assert two.database.busy == pytest.approx(2 * one.database.busy)
    assert two.producers == pytest.approx(2 * one.producers)
    assert two.broker.busy == pytest.approx(2 * one.broker.busy)
    assert two.broker.held == one.broker.held
    assert two.database.wal == pytest.approx(one.database.wal)


@FEW
@given(workload=WORKLOADS)
def test_no_process_is_busier_than_it_should_be(workload: Workload) -> None:
    made, limits = plan(workload, KNOWN), Limits()

    assert made.billing.busy <= limits.share + 1e-9
    assert made.webhooks.busy <= limits.share + 1e-9
    assert made.database.busy <= made.database.cores * limits.share + 1e-9
    # One process more has the roll-up for as long as it looks.
    assert made.usage.busy * made.usage.processes <= (made.usage.processes - 1) * limits.share + 1


def test_sizes_of_messages_that_were_measured_cost_what_was_measured() -> None:
    for size in costs.SIZES:
        assert KNOWN.of_event(per_message=size).worker_us == pytest.approx(
            KNOWN.of(costs.path_of(size)).worker_us
        )


def test_a_message_between_two_sizes_costs_between_the_two() -> None:
    for size in (2, 50, 300, 4_000):
        between = KNOWN.of_event(per_message=size).worker_us * size
        larger = next(each for each in costs.SIZES if each > size)
        smaller = costs.SIZES[costs.SIZES.index(larger) - 1]
        ends = [KNOWN.of(costs.path_of(end)).worker_us * end for end in (smaller, larger)]
        assert min(ends) <= between <= max(ends)


def test_a_page_that_is_logged_whole_is_about_a_page() -> None:
    assert 4_000 < KNOWN.page_bytes < 8_192 + 512


def test_events_on_a_small_key_log_each_page_once_and_on_a_large_one_a_page_each() -> None:
    limits, events = Limits(checkpoint=900), 1_000.0
    small = whole_pages(events, 100, KNOWN, limits)
    large = whole_pages(events, 1e12, KNOWN, limits)

    assert small == pytest.approx(100 * KNOWN.page_bytes / 900)
    assert large == pytest.approx(events * KNOWN.page_bytes, rel=1e-3)


def test_of_a_full_day_a_quarter_hour_is_counted_whatever_the_hour() -> None:
    busy = dataclasses.replace(ONE_DAY, events=1_000.0)
    assert rollup.is_full(busy)

    at_noon, at_night = (
        rollup.roll_up(dataclasses.replace(busy, hours=hours), KNOWN, Limits())
        for hours in (12.0, 24.0)
    )

    assert at_noon.seconds == pytest.approx(at_night.seconds)


def test_a_day_of_few_events_is_counted_whole() -> None:
    assert not rollup.is_full(ONE_DAY)

    at_noon, at_night = (
        rollup.roll_up(dataclasses.replace(ONE_DAY, hours=hours), KNOWN, Limits())
        for hours in (12.0, 24.0)
    )

    assert at_noon.database_cores < at_night.database_cores


def test_metrics_that_rest_are_not_counted() -> None:
    many = dataclasses.replace(ONE_DAY, tenants=1_000_000)
    all_at_once = dataclasses.replace(many, events=many.events * 1_000)

    resting = rollup.roll_up(many, KNOWN, Limits())
    busy = rollup.roll_up(all_at_once, KNOWN, Limits())

    assert resting.seconds < busy.seconds / 100


@FEW
@given(workload=WORKLOADS)
def test_tenants_are_spread_until_no_primary_is_full(workload: Workload) -> None:
    limits = Limits()
    count = saturation.primaries(workload, KNOWN, limits)

    made = plan(workload.shared_by(count), KNOWN, limits)

    if count < saturation.MOST_PRIMARIES:
        assert all(demand(made, limits) <= 1 for demand in saturation.SHARED)


def test_at_its_rate_a_thing_is_full_and_below_it_is_not() -> None:
    found = saturation.bounds(ONE_DAY, KNOWN)
    assert [bound.rate for bound in found] == sorted(bound.rate for bound in found)
    rates = {bound.what: bound.rate for bound in found}

    for what, demand, _ in saturation.DEMANDS:
        if rates[what] < saturation.HIGHEST:
            for times, is_full in ((0.99, False), (1.01, True)):
                workload = dataclasses.replace(ONE_DAY, events=rates[what] * times)
                assert (demand(plan(workload, KNOWN), Limits()) >= 1) is is_full, what


def test_what_the_program_sets_is_what_it_sets() -> None:
    limits = Limits()

    assert limits.ring == schedule.TIMETABLE["roll up touched days"]["schedule"]
    assert limits.chunk == aggregation.CHUNK
    assert limits.slots == window.SLOTS
    assert limits.pool == worker_settings.Settings.model_fields["pool_size"].default
    remembered = worker_settings.Settings.model_fields["keys_remembered_days"].default
    assert Workload(1).remembered == remembered


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.0123, "0.012"), (7.26, "7.3"), (23.4, "23"), (1_234, "1,200"), (98_765, "99,000")],
)
def test_figures_have_two_digits(value: float, said: str) -> None:
    assert tables.number(value) == said
