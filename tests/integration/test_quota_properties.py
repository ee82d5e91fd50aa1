"""Whatever is used, recorded, voided, limited and moved, in any order: what a naive model says."""

import datetime as dt
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Engine

from tasks.quota_counts import count_quotas, recount_quotas
from tasks.tenants import set_tenant
from tests.integration import allowance
from tests.integration.billing_world import said

ZONES = ("UTC", "Asia/Kathmandu", "Pacific/Kiritimati", "Europe/Berlin", "America/Santiago")
BEGIN = dt.datetime(2026, 3, 28, 20, tzinfo=dt.UTC)
"""Near the end of a month, and of winter in Berlin."""

_tenants = itertools.count()

amounts = st.integers(1, 60).map(lambda tenths: Decimal(tenths) / 10)
moments = st.integers(0, 140).map(lambda hours: BEGIN + dt.timedelta(hours=hours, minutes=20))


@dataclass
class Event:
    amount: Decimal
    at: dt.datetime
    counts: bool = True


@dataclass
class Model:
    """Nothing but the facts: every question is answered by going through all of them."""

    zone: str = "UTC"
    limits: dict[str, tuple[Decimal | None, bool]] = field(default_factory=dict)
    events: dict[str, Event] = field(default_factory=dict)
    told: set[tuple[str, dt.datetime]] = field(default_factory=set)
    may_be_told: set[tuple[str, dt.datetime]] = field(default_factory=set)

    def window(self, unit: str, at: dt.datetime) -> tuple[dt.datetime, dt.datetime]:
        """By the wall clock: good enough for these zones and months."""
        zone = ZoneInfo(self.zone)
        day = at.astimezone(zone).date()
        first = day if unit == "day" else day.replace(day=1)
        after = first + dt.timedelta(days=1)
        if unit == "month":
            after = (first + dt.timedelta(days=32)).replace(day=1)
        return midnight(first, zone), midnight(after, zone)

    def used(self, unit: str, at: dt.datetime) -> Decimal:
        start, end = self.window(unit, at)
        return sum(
            (one.amount for one in self.events.values() if one.counts and start <= one.at < end),
            Decimal(0),
        )

    def use(self, key: str, amount: Decimal, at: dt.datetime) -> bool:
        after = {unit: self.used(unit, at) + amount for unit in self.limits}
        beyond = {
            unit
            for unit, (limit, _) in self.limits.items()
            if limit is not None and after[unit] > limit
        }
        refusing = {unit for unit in beyond if not self.limits[unit][1]}
        if not self.limits:
            return False
        self.told |= {(unit, self.window(unit, at)[0]) for unit in refusing or beyond}
        if refusing:
            return False
        self.events[key] = Event(amount, at)
        return True


def midnight(day: dt.date, zone: ZoneInfo) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), tzinfo=zone).astimezone(dt.UTC)


class Quotas(RuleBasedStateMachine):
    """One tenant, one metric, a day's and a month's limit."""

    @initialize(zone=st.sampled_from(ZONES))
    def begin(self, zone: str) -> None:
        self.tenant_id = f"t{next(_tenants)}"
        self.model = Model(zone)
        self.keys = itertools.count()
        self.now = BEGIN
        set_tenant(tenant_id=self.tenant_id, timezone=zone)
        self.limit("month", Decimal(20), soft=False)

    @rule(
        unit=st.sampled_from(["day", "month"]),
        limit=st.none() | st.integers(0, 30).map(Decimal),
        soft=st.booleans(),
    )
    def limit(self, unit: str, limit: Decimal | None, soft: bool) -> None:
        allowance.allow(
            limit, tenant_id=self.tenant_id, window=unit, soft=soft, as_of=allowance.START
        )
        self.model.limits[unit] = (limit, soft)

    @rule(unit=st.sampled_from(["day", "month"]))
    def end(self, unit: str) -> None:
        if unit in self.model.limits:
            allowance.disallow(tenant_id=self.tenant_id, window=unit, as_of=allowance.START)
            del self.model.limits[unit]

    @rule(amount=amounts, when=moments)
    def use(self, amount: Decimal, when: dt.datetime) -> None:
        key = f"k{next(self.keys)}"
        self.now = when
        answer = allowance.use(amount, key, when=when, tenant_id=self.tenant_id)
        assert answer["allowed"] == self.model.use(key, amount, when)

    @rule(amount=amounts, when=moments)
    def record(self, amount: Decimal, when: dt.datetime) -> None:
        key = f"k{next(self.keys)}"
        allowance.record(amount, key, when=when, tenant_id=self.tenant_id)
        self.model.events[key] = Event(amount, when)

    @precondition(lambda self: self.model.events)
    @rule(data=st.data())
    def void(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.model.events)))
        allowance.void(key, when=self.now, tenant_id=self.tenant_id)
        self.model.events[key].counts = False

    @precondition(lambda self: self.model.events)
    @rule(data=st.data())
    def use_again(self, data: st.DataObject) -> None:
        """A key that usage has, with the same content, is allowed and uses nothing more."""
        key = data.draw(st.sampled_from(sorted(self.model.events)))
        event = self.model.events[key]
        if self.model.limits:
            again = allowance.use(event.amount, key, when=self.now, tenant_id=self.tenant_id)
            assert again["allowed"] is True

    @rule(zone=st.sampled_from(ZONES))
    def move(self, zone: str) -> None:
        set_tenant(tenant_id=self.tenant_id, timezone=zone)
        self.model.zone = zone

    @rule(when=moments)
    def count(self, when: dt.datetime) -> None:
        count_quotas(as_of=when)
        self.model.may_be_told |= {
            (unit, self.model.window(unit, when)[0])
            for unit, (limit, _) in self.model.limits.items()
            if limit is not None and self.model.used(unit, when) > limit
        }

    @invariant()
    def what_is_said_is_what_happened(self) -> None:
        answer = allowance.check(1, when=self.now, tenant_id=self.tenant_id)
        found = {
            one["window"]: (Decimal(one["used"]), allowance.at(one["window_start"]))
            for one in answer["windows"]
        }
        assert found == {
            unit: (self.model.used(unit, self.now), self.model.window(unit, self.now)[0])
            for unit in self.model.limits
        }

    def teardown(self) -> None:
        if not hasattr(self, "tenant_id"):
            return
        assert recount_quotas(as_of=BEGIN)["drifted"] == 0
        told = [
            (event["data"]["window"], allowance.at(event["data"]["window_start"]))
            for event in said("billing.quota_exceeded")
            if event["tenant_id"] == self.tenant_id
        ]
        assert len(told) == len(set(told))
        # Usage that was recorded is told of when it is counted, if it is still too much then.
        assert self.model.told <= set(told) <= self.model.told | self.model.may_be_told


@pytest.mark.slow
def test_quotas_are_what_a_naive_model_says(db: Engine) -> None:
    run: Callable[..., Any] = run_state_machine_as_test
    run(
        Quotas,
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
