"""What was charged ahead for subscriptions, and what of it is owed."""

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo

from models import database
from models.rules import ahead
from models.rules.ahead import Owed, Stretch
from models.rules.billing import Days, Line, PriceVersion, Subscription
from models.rules.period import Moved
from models.store import ahead as store
from tasks import ahead_taker
from tasks.ahead_taker import Versions


class Known:
    """What was charged ahead for subscriptions from some days on."""

    def __init__(
        self,
        session: database.Session,
        subscriptions: Sequence[Subscription],
        first_days: Mapping[UUID, date],
        without: Iterable[tuple[object, ...]] = (),
    ) -> None:
        left_out = set(without)
        self._begins = {
            one.id: one.cycle.containing(
                # A day less: in another zone it may have begun the day before.
                max(
                    first_days[one.id],
                    one.effective_at.astimezone(dt.UTC).date() - ahead_taker.ONE_DAY,
                ),
                _UTC,
            ).first
            for one in subscriptions
        }
        found = store.charged(
            session, list(self._begins), since=min(self._begins.values(), default=date.max)
        )
        self.lines = [
            one
            for one in found
            if one.stretch.first >= self._begins[one.line.subscription_id]
            and ahead_taker.key(ahead_taker.of(one.header)) not in left_out
        ]
        self.charged: dict[Stretch, int] = defaultdict(int)
        for one in self.lines:
            self.charged[one.stretch] += one.left_minor
        # A plain mapping from here on: what was never charged for is not in it.
        self.charged = dict(self.charged)

    def owed(
        self,
        one: Subscription,
        versions: Versions,
        since: date,
        until: date,
        zone: ZoneInfo,
    ) -> Iterator[Owed]:
        """What is owed ahead for the periods that hold two days and those between them.

        A tenant that moves to another zone owes the same days; if it is not known where it was,
        those of the zone in which a period was charged for first.
        """
        begun = None if isinstance(zone, Moved) else self._begun(one)
        for days in ahead.periods(one, since, until, zone):
            if begun is not None and days.after <= begun:
                continue
            counted_in = zone if isinstance(zone, Moved) else self._zone_of(one, days) or zone
            yield from ahead.owed(one, _of(one, versions), days, counted_in)

    def charge(self, stretch: Stretch, line: Line) -> None:
        """Remember a line that is being charged."""
        self.charged[stretch] = self.charged.get(stretch, 0) + line.amount_minor

    def _begun(self, one: Subscription) -> date | None:
        """The first day it was charged for, if it was: elsewhere that may be another day."""
        firsts = (
            line.stretch.first
            for line in self.lines
            if line.line.subscription_id == one.id
            and line.stretch.first == one.charged_days(line.header.zone).first
        )
        return next(firsts, None)

    def _zone_of(self, one: Subscription, days: Days) -> ZoneInfo | None:
        zones = (
            line.header.zone
            for line in self.lines
            if line.line.subscription_id == one.id and days.first <= line.stretch.first < days.after
        )
        return next(zones, None)


_UTC: Final = ZoneInfo("UTC")


def _of(one: Subscription, versions: Versions) -> Sequence[PriceVersion]:
    """The versions of a subscription's prices, if some are charged ahead."""
    found = versions.get((one.plan_key, one.currency), ())
    return found if any(version.ahead for version in found) else ()
