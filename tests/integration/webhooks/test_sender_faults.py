"""The fault table, as far as senders go: killed, stopped, without a database, with a dead host."""

import contextlib
import datetime as dt
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import DBAPIError

from models import database, migrations
from models.store import relay
from tasks import announce, config, readiness, sending, window
from tasks.delivery import deliver_webhooks
from tests.integration import senders
from tests.integration.outbox_world import (
    attempts,
    deliveries,
    emit,
    execute,
    later,
    now,
    sample,
    states,
    subscribe,
)
from tests.integration.webhooks.peers import Peer, Wire
from tests.processes import eventually
from tests.receiver import Answer, Receiver, receiver
from webhooks import events, signing_keys
from webhooks.keyring import Keyring, new_master_key
from worker import local

SEED = 5

SHARE = window.SLOTS // window.OWNER_SHARE
"""Attempts on the wire at once for one tenant."""
TENANTS = ("acme", "bolt", "cube", "dune")

KILLS = 16
EVERY = (0.1, 0.8)
"""Seconds between two kills."""

LONGEST = 15.0
"""Seconds of killing, however few kills that were."""

FOR_SECONDS = float(os.environ.get("BILLING_TEST_KILL_SECONDS", "0"))
"""Seconds of killing, however many kills that are: a minute, before a release."""

TIMEOUT_SECONDS = 2
"""Of one attempt; a lease is four times that."""

LOOPBACK = {"BILLING_WEBHOOK_ALLOW_HTTP": "true", "BILLING_WEBHOOK_PRIVATE_HOSTS": "127.0.0.0/8"}


@pytest.fixture
def environment(database_url: str, tmp_path: Path) -> dict[str, str]:
    """What sender processes need, and this process obeys as well."""
    return wired(database_url, tmp_path)


def wired(database_url: str, folder: Path, *, timeout: float = TIMEOUT_SECONDS) -> dict[str, str]:
    keys = new_master_key("test")
    config.use(replace(config.current(), keyring=Keyring.parse(keys)))
    return {
        **LOOPBACK,
        "DATABASE_URL": database_url,
        "BILLING_LOCAL_FOLDER": str(folder / "nothing"),
        "BILLING_MASTER_KEYS": keys,
        "BILLING_WEBHOOK_TIMEOUT_SECONDS": str(timeout),
        "BILLING_LOG": "json",
    }


@contextlib.contextmanager
def receivers(answer: Answer) -> Iterator[dict[str, Receiver]]:
    """A subscriber for each tenant."""
    with contextlib.ExitStack() as stack:
        peers = {tenant: stack.enter_context(receiver(answer)) for tenant in TENANTS}
        for tenant, peer in peers.items():
            subscribe(peer, tenant_id=tenant)
        yield peers


def sending_now(db: Engine) -> list[int]:
    return [delivery_id for delivery_id, _ in leases(db)]


def leases(db: Engine) -> list[tuple[int, UUID]]:
    """What is under way, each with the token of its lease."""
    with db.connect() as connection:
        found = connection.execute(text("SELECT delivery_id, lease_token FROM delivery_leases"))
        return [(row.delivery_id, row.lease_token) for row in found]


@pytest.mark.slow
def test_two_senders_killed_at_random_lose_nothing_and_double_only_what_was_in_flight(
    db: Engine, environment: dict[str, str], tmp_path: Path
) -> None:
    chance = random.Random(SEED)
    in_flight: set[tuple[int, UUID]] = set()
    sent: dict[str, list[str]] = {tenant: [] for tenant in TENANTS}
    with (
        receivers(Answer(delay=0.03)) as peers,
        senders.sending_from(tmp_path, environment, 2) as both,
    ):
        kills, next_kill, until = 0, time.monotonic(), time.monotonic() + (FOR_SECONDS or LONGEST)
        while time.monotonic() < until and (FOR_SECONDS or kills < KILLS):
            tenant = chance.choice(TENANTS)
            sent[tenant] += emit(tenant, count=chance.randint(1, 8))
            victim = chance.choice(both)
            if time.monotonic() >= next_kill:
                victim.kill()
                # What it had leased is so still: for seconds nobody else may touch it.
                in_flight.update(leases(db))
                kills += 1
                next_kill = time.monotonic() + chance.uniform(*EVERY)
            time.sleep(0.01)
        eventually(lambda: set(states(db)) == {"delivered"})

        got = {tenant: Counter(peer.ids) for tenant, peer in peers.items()}
    assert kills >= KILLS / 4
    assert in_flight, "nobody was killed in the middle of anything"
    for tenant in TENANTS:
        assert got[tenant].keys() == set(sent[tenant]), tenant
    endpoint_tenant = tenants_of_endpoints(db)
    # A lease that was in flight at several kills was lost once: one duplicate for each at most.
    lost = Counter(delivery_id for delivery_id, _ in in_flight)
    for row in deliveries(db):
        tenant = endpoint_tenant[row.endpoint_id]
        times = got[tenant][f"evt_{row.message_id.hex}"]
        assert 1 <= times <= 1 + lost[row.id], (row, times)


@pytest.mark.slow
def test_what_was_claimed_but_not_begun_when_its_sender_was_killed_is_sent_once(
    db: Engine, database_url: str, tmp_path: Path
) -> None:
    environment = wired(database_url, tmp_path, timeout=1)
    with (
        receiver(*[Answer(delay=0.8)] * SHARE, Answer()) as peer,
        senders.sending_from(tmp_path, environment, 1) as [sender],
    ):
        for _ in range(3):
            subscribe(peer)
        event_ids = emit(count=5)
        eventually(lambda: len(peer.requests) == SHARE and len(sending_now(db)) == 15)
        begun = Counter(peer.ids)
        sender.kill()
        eventually(lambda: set(states(db)) == {"delivered"})

        # Those on the wire once more, those that waited for a slot only now.
        assert Counter(peer.ids) - begun == Counter(dict.fromkeys(event_ids, 3))


@pytest.mark.slow
def test_what_was_answered_well_but_not_written_when_its_sender_was_killed_is_sent_twice(
    db: Engine, database_url: str, tmp_path: Path
) -> None:
    environment = wired(database_url, tmp_path, timeout=1)
    locked = threading.Event()
    with (
        receiver(Answer(until=locked)) as peer,
        senders.sending_from(tmp_path, environment, 1) as [sender],
    ):
        subscribe(peer)
        [event_id] = emit()
        eventually(lambda: peer.requests)
        with db.begin() as held:
            held.execute(text("SELECT id FROM deliveries FOR UPDATE"))
            locked.set()
            eventually(lambda: waits_for_a_lock(db))
            sender.kill()
        assert states(db) == ["sending"]
        eventually(lambda: states(db) == ["delivered"])

        assert peer.ids == [event_id, event_id]
        # Of the first attempt nobody could tell any more.
        assert len(attempts(db)) == 1


def waits_for_a_lock(db: Engine) -> bool:
    """Tell whether somebody waits for a row of the deliveries: to write a result."""
    with db.connect() as connection:
        asked = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        return bool(connection.scalar(asked))


def rss(pid: int) -> int:
    """Return the bytes of memory that a process holds."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


OK_HEAD = b"HTTP/1.1 200 OK\r\n\r\n"
HUGE_HEAD = b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 60_000 + b"\r\n"

HOSTILE: dict[str, Callable[[Peer, Wire], None]] = {
    "endless body": lambda _, wire: poured(wire, OK_HEAD, b"x" * 65_536),
    "endless redirect": lambda _, wire: poured(
        wire, b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\n\r\n", b"x" * 65_536
    ),
    "endless chunks": lambda _, wire: poured(
        wire,
        b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"10000\r\n" + b"x" * 65_536 + b"\r\n",
    ),
    "endless head": lambda _, wire: poured(wire, HUGE_HEAD, b"X: " + b"y" * 60_000 + b"\r\n"),
    "endless line": lambda _, wire: poured(wire, b"HTTP/1.1 200 ", b"y" * 65_536),
    "endless interim answers": lambda _, wire: poured(
        wire, b"", b"HTTP/1.1 103 Early Hints\r\nX: " + b"y" * 60_000 + b"\r\n\r\n"
    ),
    "drip": lambda _, wire: dripped(wire, b"HTTP/1.1 200 OK\r\nX: " + b"y" * 10_000),
}


def poured(wire: Wire, head: bytes, body: bytes) -> None:
    wire.read_request()
    wire.send(head)
    wire.pour(body)


def dripped(wire: Wire, data: bytes) -> None:
    wire.read_request()
    wire.drip(data, 0.05)


LISTEN_SECONDS = 4.0

TOPICS = ["billing.quota_consumed"]

MOST_GROWTH = 48 * 1024 * 1024
"""Bytes: 32 attempts at once with a socket's and a reader's buffers each are a fraction of it."""


@pytest.mark.slow
def test_a_senders_memory_stays_bounded_while_hostile_peers_talk(
    db: Engine, database_url: str, tmp_path: Path
) -> None:
    environment = wired(database_url, tmp_path, timeout=1)
    with contextlib.ExitStack() as stack:
        healthy = stack.enter_context(receiver())
        for tenant in TENANTS:
            subscribe(healthy, tenant_id=tenant, topics=TOPICS)
        [sender] = stack.enter_context(senders.sending_from(tmp_path, environment, 1))
        emit(count=20)
        eventually(lambda: len(healthy.requests) == 20)
        before = most = rss(sender.pid)
        for script in HOSTILE.values():
            peer = stack.enter_context(Peer(script))
            for tenant in TENANTS:
                subscribe(f"http://127.0.0.1:{peer.port}/", tenant_id=tenant, topics=TOPICS)
        sent = [emit(tenant, count=6) for tenant in TENANTS]
        until = time.monotonic() + LISTEN_SECONDS
        while time.monotonic() < until:
            most = max(most, rss(sender.pid))
            time.sleep(0.05)
        eventually(lambda: len(healthy.requests) == 20 + sum(len(one) for one in sent))

        tried = {row.outcome for row in attempts(db)}
    assert {"timeout", "http_error", "delivered"} <= tried
    assert most - before < MOST_GROWTH


def tenants_of_endpoints(db: Engine) -> dict[UUID, str]:
    with db.connect() as connection:
        rows = connection.execute(text("SELECT id, tenant_id FROM endpoints"))
        return {row.id: row.tenant_id for row in rows}


@pytest.mark.slow
def test_a_sender_that_stood_still_past_its_lease_changes_nothing_any_more(
    db: Engine, database_url: str, tmp_path: Path
) -> None:
    environment = wired(database_url, tmp_path, timeout=1)
    stopped = threading.Event()
    with receiver(Answer(until=stopped), Answer()) as peer:
        subscribe(peer)
        with senders.sending_from(tmp_path, environment, 1) as [stale]:
            [event_id] = emit()
            eventually(lambda: peer.requests)
            stale.stop()
            stopped.set()
            assert states(db) == ["sending"]
            eventually(lambda: deliver_webhooks()["delivered"] == 1)
            [before] = deliveries(db)

            stale.go_on()
            eventually(lambda: "delivery.results_refused" in stale.log())

        assert peer.ids == [event_id, event_id]
    assert deliveries(db) == [before]
    assert (before.state, before.attempt_count) == ("delivered", 1)
    # Both attempts were made, and both are kept.
    assert len(attempts(db)) == 2


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
def test_senders_outlive_a_restart_of_postgresql(tmp_path: Path, how: signal.Signals) -> None:
    folder = tmp_path / "servers"
    with local.running(folder, fsync=True) as servers:
        engine = create_engine(servers.database_url)
        migrations.upgrade(engine)
        database.configure(database.Options(url=servers.database_url))
        environment = wired(servers.database_url, tmp_path)
        restarted = None
        try:
            with (
                receivers(Answer(delay=0.1)) as peers,
                senders.sending_from(tmp_path, environment, 2) as both,
            ):
                sent = {tenant: emit(tenant, count=40) for tenant in TENANTS}
                eventually(lambda: all(len(peer.requests) >= 3 for peer in peers.values()))
                restarted = senders.restart_postgres(folder, how=how)
                eventually(lambda: is_up(engine))
                for tenant in TENANTS:
                    sent[tenant] += emit(tenant, count=5)
                eventually(lambda: set(states(engine)) == {"delivered"})

                for tenant, peer in peers.items():
                    times = Counter(peer.ids)
                    assert times.keys() == set(sent[tenant])
                    # In flight were five of each endpoint at most, and those once more.
                    assert times.total() <= len(times) + sending.PER_ENDPOINT
                    assert max(times.values()) <= 2
                assert all(one.is_alive for one in both)
        finally:
            database.dispose()
            engine.dispose()
            if restarted is not None:
                restarted.send_signal(signal.SIGINT)
                restarted.wait(60)


def is_up(engine: Engine) -> bool:
    """Tell whether the server takes statements; its old connections are thrown away."""
    try:
        with engine.connect() as connection:
            return bool(connection.scalar(text("SELECT true")))
    except DBAPIError:
        return False


def test_a_thousand_tenants_on_one_dead_host_cost_twenty_slots(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.sending.BUDGET", 4.0)
    with receiver(Answer(503, delay=0.5)) as dead, receiver() as healthy:
        subscribe_many(db, dead.url, count=1000)
        subscribe(healthy, tenant_id="healthy")
        with database.transaction() as session:
            announce.announce_all(
                session,
                [
                    announce.Announcement(sample(events.QuotaConsumed, tenant), tenant, 1)
                    for tenant in [*(f"t{number}" for number in range(1000)), *["healthy"] * 30]
                ],
                now=now(),
            )
        both = [threading.Thread(target=deliver_webhooks) for _ in range(2)]
        for one in both:
            one.start()
        eventually(lambda: len(healthy.requests) == 30)
        tried = len(dead.requests)
        for one in both:
            one.join()

        assert dead.most_at_once <= sending.PER_HOST
        assert dead.most_at_once >= sending.PER_HOST / 2, "and the cap is used"
        # The healthy tenant did not wait until the dead host had had its turn.
        assert tried < 300


def subscribe_many(db: Engine, url: str, *, count: int) -> None:
    """Give so many tenants an endpoint each; a command for each would take a minute."""
    keyring = config.current().keyring
    assert keyring is not None
    rows = [{"tenant": f"t{number}", "id": uuid4(), "key": uuid4()} for number in range(count)]
    for row in rows:
        row["sealed"] = keyring.seal(signing_keys.new_secret(), associated=str(row["id"]))
    with db.begin() as connection:
        connection.execute(text("INSERT INTO tenants (tenant_id) VALUES (:tenant)"), rows)
        connection.execute(
            text(
                "INSERT INTO endpoints (id, tenant_id, url, topics) "
                "VALUES (:id, :tenant, :url, '{*}')"
            ),
            [{**row, "url": url} for row in rows],
        )
        connection.execute(
            text(
                "INSERT INTO endpoint_secrets (id, endpoint_id, sealed) VALUES (:key, :id, :sealed)"
            ),
            rows,
        )


def test_a_url_that_changed_between_attempts_gets_the_next_one(db: Engine) -> None:
    with receiver(Answer(500)) as before, receiver() as after:
        subscribe(before)
        [event_id] = emit()
        deliver_webhooks()
        execute(db, "UPDATE endpoints SET url = :url", url=after.url)

        assert deliver_webhooks(as_of=later(seconds=7))["delivered"] == 1
        assert (before.ids, after.ids) == ([event_id], [event_id])


def test_a_secret_that_changed_between_attempts_signs_beside_the_old_one(db: Engine) -> None:
    keyring = config.current().keyring
    assert keyring is not None
    with receiver(Answer(500), Answer()) as peer:
        made = subscribe(peer)
        emit()
        deliver_webhooks()
        secret = signing_keys.new_secret()
        execute(
            db,
            "INSERT INTO endpoint_secrets (id, endpoint_id, sealed) "
            "VALUES (gen_random_uuid(), :endpoint, :sealed)",
            endpoint=made["endpoint_id"],
            sealed=keyring.seal(secret, associated=made["endpoint_id"]),
        )
        deliver_webhooks(as_of=later(seconds=7))

        first, second = peer.requests
    first.verify(made["secret"])
    second.verify(made["secret"])
    second.verify(secret)
    assert second.headers["webhook-signature"].count("v1,") == 2


@pytest.mark.parametrize(("seconds", "sent"), [(29, 1), (-100, 1), (121, 0), (-121, 0)])
def test_a_clock_that_differs_much_from_the_databases_sends_nothing(
    db: Engine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    seconds: int,
    sent: int,
) -> None:
    skew = dt.timedelta(seconds=seconds)
    monkeypatch.setattr("tasks.sending._now", lambda: now() + skew)
    monkeypatch.setattr("tasks.readiness._stopped_until", 0.0)
    monkeypatch.setattr("tasks.readiness._warned_at", {})
    with receiver() as peer:
        subscribe(peer)
        emit()
        summary = deliver_webhooks(as_of=now() + skew + dt.timedelta(minutes=5))

        assert len(peer.requests) == summary["delivered"] == sent
    [row] = deliveries(db)
    assert row.attempt_count == sent
    assert ("sender.stopped_by_clock" in caplog.text) is (sent == 0)
    assert ("sender.clock_differs" in caplog.text) is (abs(seconds) == 100)


def test_a_process_whose_clock_was_wrong_looks_again_and_sends(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.readiness._stopped_until", 0.0)
    with receiver() as peer:
        subscribe(peer)
        emit()
        with monkeypatch.context() as wrong:
            wrong.setattr("tasks.sending._now", lambda: later(hours=1))
            deliver_webhooks()
        assert deliver_webhooks()["delivered"] == 0, "not before half a minute is over"
        over = SimpleNamespace(monotonic=lambda: time.monotonic() + readiness.STOP_SECONDS)
        monkeypatch.setattr(readiness, "time", over)

        assert deliver_webhooks()["delivered"] == 1
        assert len(peer.requests) == 1


def test_our_own_servers_are_refused_at_creation_and_at_sending(
    db: Engine, database_url: str
) -> None:
    port = db.url.port
    url = f"http://127.0.0.1:{port}/"
    allowed = config.current()
    subscribe(url)
    emit()
    ours = replace(allowed.address_policy, own_servers=frozenset({f"127.0.0.1:{port}"}))
    config.use(replace(allowed, address_policy=ours))

    with pytest.raises(Exception, match="one of our own servers"):
        subscribe(url)
    deliver_webhooks()

    [attempt] = attempts(db)
    assert attempt.outcome == "address_refused"
    assert "one of our own servers" in attempt.error


def test_nothing_is_begun_with_a_transaction_open(db: Engine) -> None:
    with receiver() as peer:
        subscribe(peer)
        emit()
        run = sending.Run(now())
        taken: list[Any] = []
        with database.transaction() as session:
            relay.fan_out(session, most=10, now=now())
            taken += run._claim(session).rows
            with pytest.raises(window.InsideTransaction):
                run._window.submit(taken[0], ["whsec_"])
            with pytest.raises(window.InsideTransaction):
                run._window.collect(patience=0)
        assert peer.requests == []
