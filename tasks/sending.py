"""One run of the sender: relay, claim, send with no transaction open, write back, again."""

import datetime as dt
import functools
import random
import time
from collections import Counter
from collections.abc import Sequence
from typing import ClassVar, TypedDict
from uuid import UUID, uuid4

import structlog

from models import database
from models.rules.states import DeliveryState
from models.store import claim, relay
from tasks import (
    announce,
    clock,
    config,
    delivery_log,
    metrics,
    outcomes,
    readiness,
    recording,
    shutdown,
    tending,
    window,
)
from tasks.outcomes import Verdict
from tasks.persisting import persist
from webhooks import events
from webhooks.keyring import TamperedSecret, UnknownMasterKey
from webhooks.signing import MAX_LIVE_SECRETS

LEASE_ATTEMPTS = 4
"""A claimed delivery is its sender's for so many attempts of the longest kind: one minute with the
usual deadline of 15 s. Half of it may be spent waiting for a slot."""

SHORTEST_LEASE = dt.timedelta(seconds=8)
"""However short the attempts: writing back takes its time."""

PER_ENDPOINT = 5
"""Deliveries of one endpoint under way at once, over all processes."""

PER_HOST = 20
"""The same of all endpoints that share a host: a thousand on one dead host cost twenty slots."""

FAN_OUT = 500
"""Messages taken off the outbox in one transaction."""

RELAY_INTERVAL = 0.2
"""Seconds before looking again into an outbox that was empty."""

TEND_INTERVAL = 5.0
"""Seconds between two looks for lost leases, failing endpoints and unsettled ones in one run."""

STAY = announce.KICK_INTERVAL + 0.05
"""Seconds that a run stays once all is done: what is written meanwhile rings no more, since it was
rung a moment ago."""

STAY_INTERVAL = 0.02
"""Seconds between two looks into the outbox of a run that stays."""

PATIENCE = 0.1
"""Seconds between two looks into the tables while nothing ends and nothing comes."""

LOOK = 0.05
"""Seconds to wait for an attempt to end before looking into the outbox: what happens now may be for
a quick endpoint while all that is on the wire is slow."""

BUDGET = 60.0
"""Seconds after which a run comes to its end: with its last attempts well before the soft time
limit."""

SLOW = 1.0
"""Seconds that a delivery may be under way before a run that ends claims nothing more of its
endpoint. The others get theirs until those have ended: nobody waits for a slow neighbour because a
run is over."""

log = structlog.get_logger(__name__)


class Summary(TypedDict):
    """What one run did: messages relayed, lost leases reclaimed, deliveries by their new state.

    `pending` will be tried again; `refused` are results that came after their lease had ended.
    """

    relayed: int
    reclaimed: int
    delivered: int
    pending: int
    held: int
    dead: int
    cancelled: int
    refused: int


class Run:
    """One run in one process. Made, gone and forgotten; where it stopped the next one goes on."""

    _cursor: ClassVar[UUID | None] = None
    _tally: ClassVar[recording.Tally] = recording.Tally()

    def __init__(self, as_of: dt.datetime) -> None:
        self._ahead = clock.ahead(as_of, now=_now())
        self._ends_at = time.monotonic() + BUDGET
        self._relay_at = self._claim_at = self._tend_at = 0.0
        self._lease = max(LEASE_ATTEMPTS * config.current().send_timeout, SHORTEST_LEASE)
        self._window = window.Window(window.sender(), lease=self._lease)
        self._unwritten: list[Verdict] = []
        self._slow: set[UUID] = set()
        self._left_work = self._is_in_a_hurry = self._is_staying = False
        self._stay_until = 0.0
        self._counts: Counter[str] = Counter()

    def go(self) -> Summary:
        """Work until nothing is due and nothing is under way, or the time is over."""
        try:
            while self._turn():
                pass
        finally:
            self._let_go()
        if self._left_work and config.current().kick:
            announce.kick_sender()
        if self._counts:
            log.info("sender.ran", **self._counts)
        return _summary(self._counts)

    def _turn(self) -> bool:
        """Do one round and tell whether there may be more to do."""
        # What is due can wait for a moment while the slots have enough to do.
        hurries = self._is_in_a_hurry and self._window.wants_more
        finished = self._window.collect(patience=0 if hurries else LOOK)
        self._judge(finished)
        if self._is_over():
            self._window.stop_waiting()
            persist(self._write_back)
            return bool(self._window.under_way or self._unwritten)
        if not (finished or hurries):
            self._relay_at = 0.0
        relayed = self._relay()
        if self._is_staying and not relayed:
            return self._stays()
        if not (hurries or finished or relayed or self._must_look()):
            return True
        self._claim_at = time.monotonic() + PATIENCE
        taken = persist(self._write_back_and_claim)
        self._send(taken.rows)
        # Once what was due is on its way: none of this is as urgent.
        tended = self._tend()
        more_is_due = bool(taken.rows) and not taken.has_seen_all
        self._is_in_a_hurry = bool(relayed == FAN_OUT or tended or more_is_due)
        self._left_work = bool(relayed or taken.rows or tended)
        self._is_staying = not (self._left_work or self._window.under_way or self._unwritten)
        if self._is_staying:
            return self._stays()
        self._stay_until = time.monotonic() + STAY
        return True

    def _must_look(self) -> bool:
        """Tell whether deliveries are to be looked for though nothing ended and nothing came."""
        waits = self._window.under_way and not self._unwritten
        return not waits or time.monotonic() >= self._claim_at

    def _stays(self) -> bool:
        """Wait a moment for what comes next, after a run that had something to do."""
        if not config.current().kick or time.monotonic() >= self._stay_until:
            return False
        time.sleep(STAY_INTERVAL)
        self._relay_at = 0.0
        return True

    def _is_over(self) -> bool:
        """Tell whether nothing more is to be begun: at the end, once all that is left is quick."""
        late = time.monotonic() - self._ends_at
        if shutdown.has_begun():
            return True
        if late < 0:
            return False
        self._slow = self._window.endpoints_since(SLOW)
        return not self._slow or late > config.current().send_timeout.total_seconds()

    def _now_due(self) -> dt.datetime:
        return _now() + self._ahead

    def _judge(self, finished: Sequence[window.Finished]) -> None:
        for one in finished:
            verdict = self._verdict(one)
            delivery_log.attempted(verdict)
            if verdict.disables:
                # Before its result is written: a crash between the two leaves nothing unheld.
                disable = functools.partial(tending.disable_gone, now=self._now_due())
                persist(functools.partial(disable, verdict.endpoint_id))
                self._window.withdraw({verdict.endpoint_id})
            self._unwritten.append(verdict)

    def _verdict(self, finished: window.Finished) -> Verdict:
        if finished.attempt is None:
            return outcomes.given_back(finished.claimed)
        outcome = finished.attempt.outcome.value
        metrics.DELIVERIES.add(outcome=outcome)
        metrics.DELIVERY_SECONDS.take(finished.attempt.latency_ms / 1000, outcome=outcome)
        return outcomes.of_attempt(
            finished.claimed,
            finished.attempt,
            began=finished.began,
            now=self._now_due(),
            random=random.random(),  # noqa: S311 (jitter, not a secret)
        )

    def _tend(self) -> int:
        """Do what is due beside sending; return how many deliveries that moved."""
        if time.monotonic() < self._tend_at:
            return 0
        self._tend_at = time.monotonic() + TEND_INTERVAL
        tended = persist(functools.partial(tending.tend, now=self._now_due()))
        self._counts.update(+Counter(reclaimed=tended.reclaimed))
        if tended.followed:
            self._tend_at = 0.0  # there may be more
        return tended.reclaimed + tended.followed

    def _relay(self) -> int:
        if time.monotonic() < self._relay_at:
            return 0
        relayed = persist(_fan_out)
        if relayed:
            self._counts["relayed"] += len(relayed)
            delivery_log.relayed(relayed)
        else:
            self._relay_at = time.monotonic() + RELAY_INTERVAL
        return len(relayed)

    def _write_back_and_claim(self) -> claim.Claim:
        may_claim = self._window.wants_more and readiness.may_send()
        nothing = claim.Claim([], Run._cursor, has_seen_all=True, clock=None)
        before = _now()
        with database.transaction() as session:
            if not self._unwritten:
                # A claim that a crash undoes is made again, and costs what a killed sender costs.
                database.relax(session)
            recorded = self._record(session)
            taken = self._claim(session) if may_claim else nothing
        self._remember(recorded)
        Run._cursor = taken.cursor
        if taken.clock is not None:
            readiness.check_clock(taken.clock, before=before, after=_now())
        return taken

    def _write_back(self) -> None:
        if not self._unwritten:
            return
        with database.transaction() as session:
            recorded = self._record(session)
        self._remember(recorded)

    def _record(self, session: database.Session) -> recording.Recorded | None:
        if not self._unwritten:
            return None
        now = self._now_due()
        return recording.record(
            session,
            self._unwritten,
            tally=Run._tally.waiting(now),
            count_all=Run._tally.is_due(now),
            now=now,
        )

    def _claim(self, session: database.Session) -> claim.Claim:
        terms = claim.Terms(
            rows=self._window.room,
            per_endpoint=PER_ENDPOINT,
            per_host=PER_HOST,
            per_owner=self._window.owners_room,
            taken=self._window.taken,
            without=self._slow,
        )
        return claim.claim(
            session,
            terms=terms,
            cursor=Run._cursor,
            token=uuid4(),
            lease=self._lease,
            now=self._now_due(),
        )

    def _remember(self, recorded: recording.Recorded | None) -> None:
        """Called once the results are committed; only then are they forgotten."""
        if recorded is None:
            return
        self._counts.update(state.value for state in recorded.states.values())
        refused = len(self._unwritten) - len(recorded.states)
        if refused:
            self._counts["refused"] += refused
            log.warning("delivery.results_refused", deliveries=refused)
        Run._tally.settle(self._unwritten, recorded, self._now_due())
        self._unwritten.clear()
        self._window.withdraw(recorded.resting)
        for endpoint_id in recorded.disabling:
            disable = functools.partial(tending.disable_failing, now=self._now_due())
            persist(functools.partial(disable, endpoint_id))

    def _send(self, claimed: Sequence[claim.Claimed]) -> None:
        if readiness.is_stopped_by_clock():
            self._unwritten += [outcomes.given_back(one) for one in claimed]
            return
        # All that one claim has of an endpoint is signed with the same keys: they are opened once.
        opened = {key: _opened(one) for key, one in {it.endpoint_id: it for it in claimed}.items()}
        for one in claimed:
            if (secrets := opened[one.endpoint_id]) is None:
                hold_until = self._now_due() + outcomes.KEY_PAUSE
                self._unwritten.append(outcomes.given_back(one, hold_until=hold_until))
            else:
                self._window.submit(one, secrets)

    def _let_go(self) -> None:
        """Give back what was not begun. After a full run there is nothing; when the process is
        stopped in mid-run, attempts on the wire are left to their lease."""
        self._window.stop_waiting()
        self._judge(self._window.collect(patience=0))
        self._window.close()
        persist(self._write_back)


def _opened(claimed: claim.Claimed) -> list[str] | None:
    """Return the secrets that sign for a delivery, or None: nothing is ever sent unsigned."""
    keyring = config.current().keyring
    endpoint_id = str(claimed.endpoint_id)
    if keyring is None or not claimed.sealed:
        log.warning("endpoint.can_not_sign", endpoint_id=endpoint_id, reason="no key or no secret")
        return None
    sealed = claimed.sealed[:MAX_LIVE_SECRETS]
    try:
        return [keyring.open(one, associated=endpoint_id) for one in sealed]
    except (UnknownMasterKey, TamperedSecret) as error:
        log.warning("endpoint.can_not_sign", endpoint_id=endpoint_id, reason=str(error))
        return None


def _fan_out() -> list[relay.Relayed]:
    with database.transaction() as session:
        database.relax(session)  # what a crash undoes waits in the outbox again
        return relay.fan_out(
            session, most=FAN_OUT, now=_now(), operator_topics=events.operator_topics()
        )


def _summary(counts: Counter[str]) -> Summary:
    return {
        "relayed": counts["relayed"],
        "reclaimed": counts["reclaimed"],
        "delivered": counts[DeliveryState.delivered],
        "pending": counts[DeliveryState.pending],
        "held": counts[DeliveryState.held],
        "dead": counts[DeliveryState.dead],
        "cancelled": counts[DeliveryState.cancelled],
        "refused": counts["refused"],
    }


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
