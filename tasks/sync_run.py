"""One run of invoices to a provider: claim, tell with no transaction open, write down, go on."""

import datetime as dt
import queue
import random
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypedDict
from uuid import UUID, uuid4

import structlog

from models import database
from models.store import sync_claim, sync_facts, sync_lease
from models.store.sync_claim import Claim, Leased
from tasks import clock, config, metrics, shutdown, sync_outcomes, sync_steps
from tasks.persisting import persist
from tasks.sync_outcomes import Ended, Tried
from tasks.sync_steps import Work
from tasks.window import InsideTransaction
from webhooks.provider import Answer, Fault, Provider, Verdict

LANES: Final = 8
"""Invoices at once. One run is at a provider at a time, so this is all it ever sees of us."""

LEASE_REQUESTS: Final = 5
"""A step may take three requests; a lease is for so many of the longest kind, and is renewed with
each step."""

BUDGET: Final = 25.0
"""Seconds after which no step is begun: with those under way a run ends before its time limit."""

PATIENCE: Final = 0.1
"""Seconds to wait for a step to end before looking for new work."""

CLAIM_INTERVAL: Final = 0.5
"""Seconds between two claims that found nothing."""

log = structlog.get_logger(__name__)


class Summary(TypedDict):
    """What one run did: steps tried, and invoices by how they ended.

    `lost` are those whose lease had ended; `held` tells that the provider is left alone just now.
    """

    steps: int
    synced: int
    put_off: int
    failed: int
    lost: int
    held: bool


class Run:
    """One run in one process. Where it stopped the next one goes on."""

    def __init__(self, provider: Provider, chosen: config.Provider, as_of: dt.datetime) -> None:
        self._provider, self._name = provider, chosen.name
        self._as_of, self._ahead = as_of, clock.ahead(as_of, now=_now())
        self._lease = LEASE_REQUESTS * chosen.timeout
        self._token: UUID = uuid4()
        self._ends_at = time.monotonic() + BUDGET
        self._claim_at = 0.0
        self._under_way = 0
        self._ended: queue.SimpleQueue[Tried] = queue.SimpleQueue()
        self._counts: Counter[str] = Counter()
        self._is_held = False

    def go(self) -> Summary:
        """Work until nothing is due and nothing is under way, or the time is over."""
        with ThreadPoolExecutor(LANES, thread_name_prefix="provider") as lanes:
            while True:
                found = self._claim_and_begin(lanes)
                for tried in self._collect():
                    self._go_on(lanes, tried)
                if not found and not self._under_way:
                    break
        if self._counts:
            log.info("sync.ran", provider=self._name, **self._counts)
        return {
            "steps": self._counts["steps"],
            "synced": self._counts[Ended.synced],
            "put_off": self._counts[Ended.put_off],
            "failed": self._counts[Ended.failed],
            "lost": self._counts[Ended.lost],
            "held": self._is_held,
        }

    def _claim_and_begin(self, lanes: ThreadPoolExecutor) -> bool:
        """Claim what there is room for and begin with it; tell whether anything was claimed."""
        room = LANES - self._under_way
        if room <= 0 or self._is_over() or time.monotonic() < self._claim_at:
            return False
        begun, taken = persist(lambda: self._claim(room))
        self._is_held = taken.is_held
        if not taken.rows:
            self._claim_at = time.monotonic() + CLAIM_INTERVAL
        for one in begun:
            self._carry_on(lanes, one)
        return bool(taken.rows)

    def _claim(self, room: int) -> tuple[Sequence[Work | Ended], Claim]:
        with database.transaction() as session:
            taken = sync_claim.claim(
                session,
                provider=self._name,
                token=self._token,
                rows=room,
                lease=self._lease,
                now=self._now_due(),
            )
            ids = [leased.invoice_id for leased in taken.rows]
            facts = sync_facts.read(session, ids, provider=self._name)
            begun = [
                sync_outcomes.begin(session, leased, facts[leased.invoice_id], now=self._as_of)
                for leased in taken.rows
            ]
        return begun, taken

    def _carry_on(self, lanes: ThreadPoolExecutor, next_one: Work | Ended) -> None:
        if isinstance(next_one, Ended):
            self._counts[next_one] += 1
        elif self._is_over():
            persist(lambda: self._give_back(next_one.leased))
        else:
            self._under_way += 1
            lanes.submit(self._tell, next_one)

    def _tell(self, work: Work) -> None:
        """Try a step on a thread of its own; whatever happens comes back as an answer."""
        began = _now()
        try:
            answer = sync_steps.tell(self._provider, work, now=self._now_due())
        except Exception as error:
            # Ours, not the provider's; it costs a try, so that it can not go round for ever.
            log.exception("sync.broke", invoice_id=str(work.leased.invoice_id))
            fault = Fault("provider.unexpected", f"not sent: {type(error).__name__}")
            answer = Answer(Verdict.later, None, 0, fault)
        self._ended.put(Tried(work, began, answer))

    def _collect(self) -> list[Tried]:
        """Return what has ended; wait a moment for the first if nothing has.

        Raises:
            InsideTransaction: somebody would wait for the network with a transaction open.
        """
        if database.in_transaction():
            raise InsideTransaction(InsideTransaction.__doc__)
        found: list[Tried] = []
        while len(found) < self._under_way:
            try:
                found.append(self._ended.get(timeout=0 if found else PATIENCE))
            except queue.Empty:
                break
        self._under_way -= len(found)
        return found

    def _go_on(self, lanes: ThreadPoolExecutor, tried: Tried) -> None:
        self._counts["steps"] += 1
        metrics.SYNC_STEPS.add(step=tried.work.todo.step.value, outcome=tried.answer.verdict.value)
        self._carry_on(lanes, persist(lambda: self._record(tried)))

    def _record(self, tried: Tried) -> Work | Ended:
        with database.transaction() as session:
            return sync_outcomes.record(
                session,
                tried,
                lease=self._lease,
                random=random.random(),  # noqa: S311 (jitter, not a secret)
                waits_from=self._now_due(),
                now=self._as_of,
            )

    def _give_back(self, leased: Leased) -> None:
        with database.transaction() as session:
            sync_lease.give_back(session, leased, now=self._as_of)

    def _is_over(self) -> bool:
        return shutdown.has_begun() or time.monotonic() >= self._ends_at

    def _now_due(self) -> dt.datetime:
        return _now() + self._ahead


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
