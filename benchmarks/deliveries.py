"""Webhooks: from the outbox to delivered, and the share of it that the database takes."""

import dataclasses
import datetime as dt
import multiprocessing
import threading
import time
from collections.abc import Sequence
from decimal import Decimal
from uuid import uuid4

import requests

from benchmarks import receiver, rounds, servers
from benchmarks.report import Measure
from benchmarks.rounds import Way
from benchmarks.servers import Stage
from models import database
from models.store import claim, relay
from tasks import announce, outcomes, recording, sending, window
from tasks.delivery import deliver_webhooks
from tasks.endpoints import create_endpoint
from tasks.queues import Queue
from tasks.tenants import set_tenant
from webhooks import events, transport
from webhooks.retry import Outcome

JOB = "deliveries"

ENDPOINTS = 20
"""Of as many tenants: one endpoint gets only so much at once."""

MESSAGES = 2_000

BACKLOG = 10_000
BACKLOG_TENANTS = 200
"""They have an endpoint each, at a host of their own, as subscribers have."""

OWN_HOSTS = [f"http://127.0.1.{number + 1}:9" for number in range(BACKLOG_TENANTS)]
"""Nobody is there, and nothing is sent. At twenty hosts one claim fills all the lanes that there
are at twenty a host, and a second process can only wait for it, whoever holds which lock."""

SENDER = "one worker process"
SESSION = "bare requests.Session, one after the other"
THREADS = f"bare requests, {window.SLOTS} threads, one process"
SENDING_AIM = 0.60

CLAIMING = "claim and complete, no HTTP"
UPDATE = "one UPDATE … RETURNING of all"
UPDATE_AND_INSERT = "the same, with the rows of the attempts"
SAME_ROWS = "bare claim and complete of the same rows in the same chunks"
TWO_PROCESSES = "claim and complete, no HTTP, two processes"
CLAIMING_AIM = 0.45

PAUSE = 0.002
"""Seconds until a sender that found nothing looks again."""

LEASE = dt.timedelta(seconds=60)

TERMS = claim.Terms(
    rows=window.SLOTS + window.MOST_AHEAD,
    per_endpoint=sending.PER_ENDPOINT,
    per_host=sending.PER_HOST,
    per_owner=(window.SLOTS + window.MOST_AHEAD) // window.OWNER_SHARE,
)
"""What a sender claims whose attempts end at once, as they do here."""

NOTHING = dataclasses.replace(TERMS, without=(), rows=1, per_host=0)
"""So that a claim is prepared and takes nothing."""

RETURNING = """
    UPDATE deliveries SET state = 'delivered', attempt_count = 1, completed_at = now()
    WHERE state = 'pending' RETURNING id, message_id, endpoint_id
"""

BOTH = f"""
    WITH done AS ({RETURNING})
    INSERT INTO delivery_attempts (id, attempted_at, delivery_id, endpoint_id, attempt_number,
                                   outcome, status, latency_ms)
    SELECT gen_random_uuid(), now(), id, endpoint_id, 1, 'delivered', 200, 1 FROM done
"""  # noqa: S608 (a constant of this module)

BARE_CLAIM = """
    WITH taken AS MATERIALIZED (
        SELECT id, endpoint_id, message_id FROM deliveries WHERE state = 'pending' LIMIT %(rows)s
    ), leased AS (
        INSERT INTO delivery_leases (delivery_id, endpoint_id, lease_token, leased_until)
        SELECT id, endpoint_id, %(token)s, now() + interval '1 minute' FROM taken
    )
    SELECT taken.id, m.type, m.body FROM taken JOIN outbox_messages m ON m.id = taken.message_id
"""

BARE_COMPLETE = """
    WITH ended AS (
        DELETE FROM delivery_leases WHERE delivery_id = ANY(%(deliveries)s)
          AND lease_token = %(token)s
        RETURNING delivery_id, endpoint_id
    ), tried AS (
        INSERT INTO delivery_attempts (id, attempted_at, delivery_id, endpoint_id, attempt_number,
                                       outcome, status, latency_ms)
        SELECT gen_random_uuid(), now(), delivery_id, endpoint_id, 1, 'delivered', 200, 1 FROM ended
    )
    UPDATE deliveries SET state = 'delivered', attempt_count = 1, completed_at = now()
    WHERE id = ANY(ARRAY(SELECT delivery_id FROM ended))
"""


def measure(stage: Stage, scale: float) -> list[Measure]:
    """Deliver to a receiver that answers at once; then claim and complete without sending."""
    with receiver.running() as urls:
        subscribe(urls, tenants=ENDPOINTS)
        sent = _sending(stage, urls[0], rounds.scaled(MESSAGES, scale))
        subscribe([*urls, *OWN_HOSTS[len(urls) :]], tenants=BACKLOG_TENANTS)
        kept = _claiming(stage, rounds.scaled(BACKLOG, scale))
    return [
        sent.beside(SENDER, SESSION, job=JOB),
        sent.beside(SENDER, THREADS, job=JOB, aim=SENDING_AIM),
        kept.beside(CLAIMING, UPDATE, job=JOB, aim=CLAIMING_AIM),
        kept.beside(CLAIMING, UPDATE_AND_INSERT, job=JOB),
        kept.beside(CLAIMING, SAME_ROWS, job=JOB),
        kept.beside(TWO_PROCESSES, UPDATE, job=JOB),
        kept.beside(TWO_PROCESSES, CLAIMING, job=JOB),
    ]


def subscribe(urls: Sequence[str], *, tenants: int) -> None:
    """Give so many tenants an endpoint each, at these hosts by turns."""
    for number in range(tenants):
        set_tenant(tenant_id=f"tenant-{number}")
        create_endpoint(
            url=f"{urls[number % len(urls)]}/{number}",
            topics=["billing.quota_consumed"],
            tenant_id=f"tenant-{number}",
            idempotency_key=f"endpoint-{number}",
        )


def _sending(stage: Stage, url: str, count: int) -> rounds.Rates:
    with stage.worker(Queue.webhooks, concurrency=1):
        _deliver(stage, ENDPOINTS)  # the process has its connections from here on
        return rounds.play(
            "deliveries/s",
            {
                SENDER: lambda: _deliver(stage, count),
                SESSION: lambda: _post(stage, url, count, threads=1),
                THREADS: lambda: _post(stage, url, count, threads=window.SLOTS),
            },
        )


def _deliver(stage: Stage, count: int) -> float:
    stage.empty(*servers.OUTBOX)
    put_in_outbox(count)

    def deliver() -> None:
        deliver_webhooks.apply_async(ignore_result=True)
        servers.wait_until(lambda: _all_delivered(stage, count))

    return rounds.rate(count, deliver)


def put_in_outbox(count: int, *, tenants: int = ENDPOINTS) -> None:
    at = now()
    announcements = [
        announce.Announcement(
            event(number, tenants=tenants), f"tenant-{number % tenants}", number + 1
        )
        for number in range(count)
    ]
    with database.transaction() as session:
        announce.announce_all(session, announcements, now=at)


def event(number: int, *, tenants: int = ENDPOINTS) -> events.QuotaConsumed:
    """Return an event of one of so many tenants, by turns."""
    return events.QuotaConsumed(
        tenant_id=f"tenant-{number % tenants}",
        product_key="TOKENS",
        amount=Decimal(number + 1),
        balance=Decimal(1_000_000),
        idempotency_key=f"call-{number}",
    )


def _all_delivered(stage: Stage, count: int) -> bool:
    # The two questions that an index answers come first: counting takes part in what is measured.
    waits = stage.value("""
        SELECT EXISTS (SELECT FROM outbox_pending)
            OR EXISTS (SELECT FROM delivery_leases)
    """)
    if waits:
        return False
    delivered = stage.value("SELECT count(*) FROM deliveries WHERE state = 'delivered'")
    return bool(delivered == count)


def _post(stage: Stage, url: str, count: int, *, threads: int) -> float:
    stage.empty(*servers.OUTBOX)
    put_in_outbox(count)
    query = b"SELECT body FROM outbox_messages"
    bodies = [bytes(row[0]) for row in stage.connection.execute(query)]
    workers = [
        threading.Thread(target=_post_all, args=(url, bodies[number::threads]))
        for number in range(threads)
    ]

    def post() -> None:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    return rounds.rate(count, post)


def _post_all(url: str, bodies: Sequence[bytes]) -> None:
    with requests.Session() as session:
        for body in bodies:
            headers = {"content-type": "application/json"}
            session.post(url, data=body, headers=headers, timeout=15).raise_for_status()


def _claiming(stage: Stage, count: int) -> rounds.Rates:
    def way(work: Way) -> Way:
        def prepared() -> float:
            _queue(stage, count)
            return work()

        return prepared

    return rounds.play(
        "deliveries/s",
        {
            CLAIMING: way(lambda: rounds.rate(count, _claim_and_complete)),
            UPDATE: way(lambda: rounds.rate(count, lambda: stage.rows(RETURNING))),
            UPDATE_AND_INSERT: way(lambda: rounds.rate(count, lambda: stage.execute(BOTH))),
            SAME_ROWS: way(lambda: rounds.rate(count, lambda: _bare(stage))),
            TWO_PROCESSES: way(lambda: _in_processes(2, count)),
        },
    )


def _queue(stage: Stage, count: int) -> None:
    """Make deliveries that are due."""
    stage.empty(*servers.OUTBOX)
    put_in_outbox(count, tenants=BACKLOG_TENANTS)
    with database.transaction() as session:
        relay.fan_out(session, most=count, now=now())
    stage.execute("VACUUM ANALYZE deliveries")


def _bare(stage: Stage) -> None:
    """Write what a sender writes, chunk by chunk, and choose, check and judge nothing."""
    while True:
        token = uuid4()
        claimed = {"rows": TERMS.rows, "token": token}
        taken = stage.connection.execute(BARE_CLAIM.encode(), claimed, binary=True).fetchall()
        if not taken:
            return
        ended = {"deliveries": [row[0] for row in taken], "token": token}
        stage.connection.execute(BARE_COMPLETE.encode(), ended)


def _in_processes(processes: int, count: int) -> float:
    """Claim and complete in so many processes, that have their connections before it counts."""
    forking = multiprocessing.get_context("fork")
    gate, left = forking.Barrier(processes + 1), forking.Value("i", count)

    def work() -> None:
        with database.transaction() as session:
            claim.claim(session, terms=NOTHING, cursor=None, token=uuid4(), lease=LEASE, now=now())
        gate.wait()
        while left.value > 0:
            completed = _claim_and_complete()
            with left.get_lock():
                left.value -= completed
            if not completed:
                time.sleep(PAUSE)  # the others have all that there is in their hands

    children = [forking.Process(target=work, daemon=True) for _ in range(processes)]
    for child in children:
        child.start()
    gate.wait()

    def wait() -> None:
        for child in children:
            child.join(servers.LONGEST_WAIT)
            if child.exitcode != 0:
                raise servers.NeverDone(f"a process ended with {child.exitcode}")

    return rounds.rate(count, wait)


def _claim_and_complete() -> int:
    """Do what the sender does in its transactions, and think that every endpoint said 200.

    Return how many deliveries that completed.
    """
    verdicts: list[outcomes.Verdict] = []
    tally, cursor, completed = recording.Tally(), None, 0
    while True:
        at = now()
        with database.transaction() as session:
            recorded = recording.record(
                session,
                verdicts,
                tally=tally.waiting(at),
                count_all=tally.is_due(at),
                now=at,
            )
            taken = claim.claim(
                session, terms=TERMS, cursor=cursor, token=uuid4(), lease=LEASE, now=at
            )
        tally.settle(verdicts, recorded, at)
        completed += len(verdicts)
        if not taken.rows and not verdicts:
            return completed
        cursor = taken.cursor
        verdicts = [_delivered(one) for one in taken.rows]


def _delivered(claimed: claim.Claimed) -> outcomes.Verdict:
    attempt = transport.Attempt(Outcome.DELIVERED, 200, 1, "", None, None)
    at = now()
    return outcomes.of_attempt(claimed, attempt, began=at, now=at, random=0.5)


def now() -> dt.datetime:
    """Return the instant."""
    return dt.datetime.now(dt.UTC)
