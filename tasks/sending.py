"""One run of the sender: relay, claim, send with no transaction open, write back, again."""

import datetime as dt
import functools
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import ClassVar, TypedDict, TypeVar
from uuid import UUID, uuid4

import structlog

from models import database
from models.rules.states import DeliveryState
from models.store import claim, delivery, endpoint, relay
from tasks import announce, config, endpoints, outcomes, shutdown, window
from tasks.outcomes import Verdict
from webhooks import events, health
from webhooks.keyring import TamperedSecret, UnknownMasterKey
from webhooks.signing import MAX_LIVE_SECRETS

T = TypeVar("T")

LEASE_ATTEMPTS = 4
"""A claimed delivery is its sender's for so many attempts of the longest kind: one minute with the
usual deadline of 15 s. Half of it may be spent waiting for a slot."""

SHORTEST_LEASE = dt.timedelta(seconds=8)
"""However short the attempts: clocks of two hosts differ, and writing back takes its time."""

PER_ENDPOINT = 5
"""Deliveries of one endpoint under way at once, over all processes."""

REFILL = 16
"""Free places in the window from which it is worth claiming more."""

FAN_OUT = 500
"""Messages taken off the outbox in one transaction."""

RELAY_INTERVAL = 0.2
"""Seconds before looking again into an outbox that was empty."""

RECLAIM = 500
"""Deliveries of dead senders made pending in one transaction."""

RECLAIM_INTERVAL = 5.0
"""Seconds between two looks for lost leases in one run."""

PATIENCE = 0.1
"""Seconds to wait for an attempt to end before looking for new work."""

BUDGET = 60.0
"""Seconds after which a run claims nothing more: with its last attempts it ends well before the
soft time limit."""

MOST_TRIES = 8
"""How often one exchange with the database is tried while it undoes us or is away."""

LONGEST_PAUSE = 5.0
"""Seconds between two of those tries; the first pause is a twentieth of it and they double."""

WARN_INTERVAL = 60.0
"""Seconds between two warnings of one process that there is no master key."""

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
    _warned_at: ClassVar[float] = -WARN_INTERVAL

    def __init__(self, as_of: dt.datetime) -> None:
        self._ahead = as_of - _now()
        self._ends_at = time.monotonic() + BUDGET
        self._relay_at = self._reclaim_at = 0.0
        self._lease = max(LEASE_ATTEMPTS * config.current().send_timeout, SHORTEST_LEASE)
        self._window = window.Window(window.sender(), lease=self._lease)
        self._unwritten: list[Verdict] = []
        self._left_work = self._has_seen_all = False
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
        self._judge(self._window.collect(patience=PATIENCE))
        if self._is_over():
            self._window.stop_waiting()
            _persist(self._write_back)
            return bool(self._window.under_way or self._unwritten)
        self._reclaim()
        relayed = self._relay()
        claimed = _persist(self._write_back_and_claim)
        self._send(claimed)
        self._left_work = bool(relayed or claimed or not self._has_seen_all)
        return bool(self._left_work or self._window.under_way or self._unwritten)

    def _is_over(self) -> bool:
        return shutdown.has_begun() or time.monotonic() >= self._ends_at

    def _now_due(self) -> dt.datetime:
        return _now() + self._ahead

    def _judge(self, finished: Sequence[window.Finished]) -> None:
        for one in finished:
            verdict = self._verdict(one)
            if verdict.disables:
                # Before its result is written: a crash between the two leaves nothing unheld.
                _persist(functools.partial(_disable, verdict.endpoint_id))
            self._unwritten.append(verdict)

    def _verdict(self, finished: window.Finished) -> Verdict:
        if finished.attempt is None:
            return outcomes.given_back(finished.claimed)
        return outcomes.of_attempt(
            finished.claimed,
            finished.attempt,
            began=finished.began,
            now=self._now_due(),
            random=random.random(),  # noqa: S311 (jitter, not a secret)
        )

    def _reclaim(self) -> None:
        if time.monotonic() < self._reclaim_at:
            return
        self._reclaim_at = time.monotonic() + RECLAIM_INTERVAL
        with database.transaction() as session:
            reclaimed = delivery.reclaim(session, most=RECLAIM, now=_now())
        if reclaimed:
            self._counts["reclaimed"] += reclaimed
            log.warning("delivery.leases_lost", deliveries=reclaimed)

    def _relay(self) -> int:
        if time.monotonic() < self._relay_at:
            return 0
        relayed = _persist(_fan_out)
        if relayed:
            self._counts["relayed"] += relayed
        else:
            self._relay_at = time.monotonic() + RELAY_INTERVAL
        return relayed

    def _write_back_and_claim(self) -> Sequence[claim.Claimed]:
        room, cursor = self._window.room, Run._cursor
        may_claim = room >= REFILL and self._can_sign()
        with database.transaction() as session:
            accepted = self._record(session)
            taken = self._claim(session, room, cursor) if may_claim else claim.Claim([], None)
        self._count(accepted)
        Run._cursor = taken.cursor
        # Only a claim that goes from the first endpoint to the last shows that nothing is left.
        self._has_seen_all = cursor is None and taken.cursor is None
        return taken.rows

    def _write_back(self) -> None:
        if not self._unwritten:
            return
        with database.transaction() as session:
            accepted = self._record(session)
        self._count(accepted)

    def _record(self, session: database.Session) -> dict[int, DeliveryState]:
        if not self._unwritten:
            return {}
        by_endpoint: dict[UUID, list[Verdict]] = defaultdict(list)
        for verdict in self._unwritten:
            by_endpoint[verdict.endpoint_id].append(verdict)
        known = endpoint.lock_health(
            session,
            troubled={one.endpoint_id for one in self._unwritten if not one.succeeded},
            succeeded={one.endpoint_id for one in self._unwritten if one.succeeded},
        )
        now = self._now_due()
        after = {
            endpoint_id: outcomes.health_after(before, by_endpoint[endpoint_id], now=now)
            for endpoint_id, before in known.items()
        }
        endpoint.keep_health(session, {key: new for key, new in after.items() if new != known[key]})
        return delivery.record(session, [one.result for one in self._unwritten], now=now)

    def _claim(self, session: database.Session, room: int, cursor: UUID | None) -> claim.Claim:
        return claim.claim(
            session,
            terms=claim.Terms(
                rows=room, per_endpoint=PER_ENDPOINT, probe_after=health.OPEN_AFTER_CONSECUTIVE
            ),
            cursor=cursor,
            token=uuid4(),
            until=_now() + self._lease,
            now=self._now_due(),
        )

    def _count(self, accepted: dict[int, DeliveryState]) -> None:
        """Called once the results are committed; only then are they forgotten."""
        self._counts.update(state.value for state in accepted.values())
        refused = len(self._unwritten) - len(accepted)
        if refused:
            self._counts["refused"] += refused
            log.warning("delivery.results_refused", deliveries=refused)
        self._unwritten.clear()

    def _can_sign(self) -> bool:
        if config.current().keyring is not None:
            return True
        if time.monotonic() - Run._warned_at >= WARN_INTERVAL:
            Run._warned_at = time.monotonic()
            log.warning("sender.no_master_key", remedy="set BILLING_MASTER_KEYS; deliveries wait")
        return False

    def _send(self, claimed: Sequence[claim.Claimed]) -> None:
        for one in claimed:
            secrets = _opened(one)
            if secrets is None:
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
        self._write_back()


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


def _disable(endpoint_id: UUID) -> None:
    with database.transaction() as session:
        locked = endpoint.lock(session, endpoint_id)
        if endpoints.disable(session, locked, reason="gone", as_of=_now()):
            log.warning("endpoint.disabled", endpoint_id=str(endpoint_id), reason="gone")


def _fan_out() -> int:
    with database.transaction() as session:
        return relay.fan_out(
            session, most=FAN_OUT, now=_now(), operator_topics=events.operator_topics()
        )


def _persist(exchange: Callable[[], T]) -> T:
    """Run one exchange with the database, again if it was undone or the database was away.

    What is to be written back is known to nobody else: to give up at once would mean to send it
    again.
    """
    for tries_left in reversed(range(MOST_TRIES)):
        try:
            return exchange()
        except Exception as error:
            passing = database.is_retryable(error) or database.is_unreachable(error)
            if not passing or tries_left == 0:
                raise
            log.warning("sender.database_away", reason=type(error).__name__)
            doublings = MOST_TRIES - 1 - tries_left
            time.sleep(min(LONGEST_PAUSE, LONGEST_PAUSE / 20 * 2**doublings))
    raise AssertionError("unreachable: the last try returns or raises")


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
