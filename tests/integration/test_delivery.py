"""From a committed event to a verified request, and what happens when the far end misbehaves."""

import datetime as dt
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from models import database
from models.rules import ids
from models.rules.states import DeliveryState
from models.store import delivery, endpoint, relay
from tasks import announce as announcing
from tasks import config, recording, sending
from tasks.announce import announce
from tasks.delivery import deliver_webhooks, skip_delivery
from tasks.endpoint_update import update_endpoint
from tasks.endpoints import delete_endpoint, disable_endpoint, enable_endpoint
from tasks.pings import ping_endpoint
from tasks.replays import replay_delivery
from tests.integration.outbox_world import (
    attempts,
    deliveries,
    emit,
    execute,
    later,
    now,
    relay_all,
    sample,
    states,
    subscribe,
    take,
)
from tests.integration.test_credit_crashes import ends_by_kill, kill
from tests.processes import eventually
from tests.receiver import Answer, receiver
from webhooks import events
from webhooks.keyring import Keyring, new_master_key


def query_leases(db: Engine) -> list[Any]:
    """The shortest and the longest lease, in seconds from now."""
    with db.connect() as connection:
        return list(
            connection.execute(
                text("""
                    SELECT min(lease), max(lease)
                    FROM (SELECT extract(epoch FROM leased_until - now()) AS lease
                          FROM delivery_leases) AS leases
                """)
            )
        )


def test_an_event_reaches_its_endpoint_and_verifies(db: Engine) -> None:
    with receiver() as peer:
        secret = subscribe(peer)["secret"]
        [event_id] = emit()

        summary = deliver_webhooks()

        [request] = peer.requests
    request.verify(secret)
    assert summary["relayed"] == summary["delivered"] == 1
    assert request.id == request.event["id"] == event_id
    assert request.event["tenant_id"] == "acme"
    assert request.headers["x-topic"] == "billing.quota_consumed"
    assert request.headers["x-attempt"] == "1"
    [row] = deliveries(db)
    assert (row.state, row.attempt_count, row.lease_token) == ("delivered", 1, None)
    assert row.completed_at is not None
    [attempt] = attempts(db)
    assert (attempt.outcome, attempt.status, attempt.attempt_number) == ("delivered", 200, 1)
    assert attempt.delivery_id == row.id
    assert attempt.response_excerpt is None


def die_as_it_rings(_: Engine) -> None:
    """What was done is committed, and the process ends where it would tell a worker."""
    config.use(replace(config.current(), kick=True))
    announcing.kick_sender = kill


def test_a_kill_between_the_commit_and_the_ring_loses_no_webhook(db: Engine) -> None:
    with receiver() as peer:
        subscribe(peer)
        assert ends_by_kill(die_as_it_rings, emit)

        summary = deliver_webhooks()

        assert summary["delivered"] == len(peer.ids) == 1


def test_what_makes_something_due_rings_the_sender_at_once(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    rung, said = list[str](), ""
    monkeypatch.setattr(announcing, "kick_sender", lambda: rung.append(said))
    config.use(replace(config.current(), kick=True))
    endpoint_id = UUID(subscribe()["endpoint_id"])
    commands: dict[str, Callable[[], object]] = {
        "emit": emit,
        "disable": lambda: disable_endpoint(endpoint_id=endpoint_id),
        "change": lambda: update_endpoint(endpoint_id=endpoint_id, rate_per_minute=60),
        "change nothing": lambda: update_endpoint(endpoint_id=endpoint_id, rate_per_minute=60),
        "enable": lambda: enable_endpoint(endpoint_id=endpoint_id),
        "enable again": lambda: enable_endpoint(endpoint_id=endpoint_id),
        "relay": relay_all,
        "replay": lambda: replay_delivery(
            delivery_id=deliveries(db)[0].id, idempotency_key="replay"
        ),
        "skip": lambda: skip_delivery(delivery_id=deliveries(db)[0].id, reason="no"),
        "ping": lambda: ping_endpoint(endpoint_id=endpoint_id, idempotency_key="ping"),
    }

    for said, command in commands.items():  # noqa: B007 (who rings says it)
        command()

    assert rung == ["emit", "disable", "change", "enable", "replay", "skip", "ping"]


def test_a_run_that_leaves_something_rings_for_the_next_one(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    rung: list[str] = []
    with receiver() as peer:
        subscribe(peer)
        emit()
        monkeypatch.setattr(announcing, "kick_sender", lambda: rung.append("rung"))
        config.use(replace(config.current(), kick=True))
        unfinished = sending.Run(now())
        unfinished._turn()
        monkeypatch.setattr(unfinished, "_ends_at", 0.0)

        unfinished.go()
        assert rung == ["rung"]
        sending.Run(now()).go()
        assert rung == ["rung"]


def test_what_a_fast_clock_tells_or_relays_is_due_at_once(db: Engine) -> None:
    endpoint_id = UUID(subscribe()["endpoint_id"])
    emit()

    with database.transaction() as session:
        relay.fan_out(session, most=10, now=later(minutes=1))
    ping_endpoint(endpoint_id=endpoint_id, idempotency_key="p", as_of=later(minutes=1))

    assert [row.due_at <= now() for row in deliveries(db)] == [True, True]


def test_the_oldest_messages_are_relayed_first(db: Engine) -> None:
    subscribe()
    oldest, *_ = emit(count=3)
    execute(db, "DELETE FROM outbox_pending WHERE message_id = :id", id=UUID(oldest[4:]))
    execute(db, "INSERT INTO outbox_pending VALUES (:id)", id=UUID(oldest[4:]))

    with database.transaction() as session:
        [relayed] = relay.fan_out(session, most=1, now=now())

    assert relayed.message_id == UUID(oldest[4:])


def test_a_second_run_sends_nothing_twice(db: Engine) -> None:
    with receiver() as peer:
        subscribe(peer)
        emit()
        deliver_webhooks()

        summary = deliver_webhooks()

        assert len(peer.requests) == 1
    assert set(summary.values()) == {0}


def test_a_failure_is_retried_later_under_the_same_id(db: Engine) -> None:
    with receiver(Answer(500, body=b"sorry"), Answer(200)) as peer:
        secret = subscribe(peer)["secret"]
        [event_id] = emit()

        assert deliver_webhooks()["pending"] == 1
        assert deliver_webhooks()["delivered"] == 0, "not due yet"
        assert deliver_webhooks(as_of=later(seconds=7))["delivered"] == 1

        first, second = peer.requests
    assert first.id == second.id == event_id
    assert first.body == second.body
    assert [first.headers["x-attempt"], second.headers["x-attempt"]] == ["1", "2"]
    second.verify(secret)
    [failed, fine] = attempts(db)
    assert (failed.outcome, failed.status) == ("http_error", 500)
    assert failed.response_excerpt == b"sorry"
    assert fine.attempt_number == 2


def test_a_delivery_that_spent_its_attempts_is_dead(db: Engine) -> None:
    with receiver(Answer(500)) as peer:
        # Of its own failing, which is told too, it hears nothing.
        subscribe(peer, topics=["billing.quota_consumed"])
        emit()
        deliver_webhooks()
        execute(db, "UPDATE deliveries SET attempt_count = 9")

        assert deliver_webhooks(as_of=later(days=2))["dead"] == 1

    [row] = deliveries(db)
    assert (row.state, row.attempt_count) == ("dead", 10)
    assert row.completed_at is not None


def test_what_is_rolled_back_was_never_said(db: Engine) -> None:
    with receiver() as peer:
        subscribe(peer)
        with database.Session(db) as undone:
            event = sample(events.Ping, "acme")
            announce(undone, event, tenant_id="acme", sequence=1, now=now())
            undone.rollback()

        summary = deliver_webhooks()

        assert peer.requests == []
    assert summary["relayed"] == 0


def test_the_database_refuses_to_change_what_was_said(db: Engine) -> None:
    emit()

    with pytest.raises(DBAPIError, match="append-only"):
        execute(db, "UPDATE outbox_messages SET body = '{}'")


def test_a_tenant_never_hears_of_another_and_the_operator_hears_of_all(db: Engine) -> None:
    with receiver() as ours, receiver() as theirs, receiver() as operators:
        subscribe(ours, tenant_id="acme")
        subscribe(theirs, tenant_id="other")
        subscribe(operators, tenant_id=None)
        mine, others = emit("acme", count=3), emit("other", count=2)

        deliver_webhooks()

        assert sorted(ours.ids) == sorted(mine)
        assert sorted(theirs.ids) == sorted(others)
        assert sorted(operators.ids) == sorted(mine + others)


def test_what_is_about_the_system_is_for_the_operator_alone(db: Engine) -> None:
    with receiver() as ours, receiver() as operators:
        subscribe(ours)
        subscribe(operators, tenant_id=None)
        [event_id] = emit(topic=events.UsageDrifted)

        deliver_webhooks()

        assert operators.ids == [event_id]
        assert ours.ids == []


def test_a_prefix_means_children_only_to_the_fan_out(db: Engine) -> None:
    subscribe()
    for prefix, deliveries_then in (("billing.quota.*", 0), ("billing.*", 1)):
        execute(db, "UPDATE endpoints SET topics = ARRAY[:prefix]", prefix=prefix)
        emit()
        take()
        assert len(deliveries(db)) == deliveries_then


def test_an_endpoint_hears_only_of_its_topics(db: Engine) -> None:
    with receiver() as exact, receiver() as prefix, receiver() as everything:
        subscribe(exact, topics=["billing.quota_consumed"])
        subscribe(prefix, topics=["billing.invoice.*"])
        subscribe(everything, topics=["billing.*"])
        emit()
        emit(topic=events.InvoiceCreated)
        emit(topic=events.Ping)

        deliver_webhooks()

        assert exact.topics == ["billing.quota_consumed"]
        assert prefix.topics == ["billing.invoice.created"]
        assert len(everything.topics) == 3


def test_a_message_that_commits_late_with_a_lower_id_is_delivered(db: Engine) -> None:
    with receiver() as peer:
        subscribe(peer)
        with database.Session(db) as late:
            event = sample(events.Ping, "acme")
            lower = announce(late, event, tenant_id="acme", sequence=1, now=later(seconds=-5))
            late.flush()
            [higher] = emit()
            deliver_webhooks()
            assert peer.ids == [higher]
            late.commit()

        deliver_webhooks()

        assert peer.ids == [higher, lower]
    assert ids.parse_event_id(lower) < ids.parse_event_id(higher)


def test_two_senders_at_once_deliver_each_once(db: Engine) -> None:
    with receiver(Answer(delay=0.005)) as one, receiver(Answer(delay=0.005)) as two:
        subscribe(one)
        subscribe(two)
        sent = emit(count=150)
        senders = [threading.Thread(target=deliver_webhooks) for _ in range(2)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        deliver_webhooks()

        assert sorted(one.ids) == sorted(two.ids) == sorted(sent)
        assert max(one.most_at_once, two.most_at_once) <= sending.PER_ENDPOINT


def test_a_run_that_begins_in_the_middle_comes_round_to_all_endpoints(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiver() as peer:
        for _ in range(3):
            subscribe(peer)
        emit(count=9)
        with database.transaction() as session:
            relay.fan_out(session, most=100, now=now())
        monkeypatch.setattr(sending.Run, "_cursor", UUID(int=2**128 - 1))

        assert deliver_webhooks()["delivered"] == 27


def test_no_more_than_five_are_under_way_to_one_endpoint_whoever_sends(db: Engine) -> None:
    subscribe("http://127.0.0.1:9/")
    emit(count=20)
    first = take(uuid4())
    second = take(uuid4())

    assert len(first.rows) == 5
    assert second.rows == []


def test_a_lease_that_ran_out_is_sent_again_and_its_late_result_is_refused(db: Engine) -> None:
    with receiver() as peer:
        subscribe(peer)
        [event_id] = emit()
        stale = take(uuid4(), lease=dt.timedelta(seconds=-1)).rows[0]

        summary = deliver_webhooks()

        assert summary["reclaimed"] == summary["delivered"] == 1
        assert peer.ids == [event_id]
    with database.transaction() as session:
        late = delivery.Result(
            delivery_id=stale.delivery_id,
            endpoint_id=stale.endpoint_id,
            lease_token=stale.lease_token,
            state=DeliveryState.dead,
            spent=True,
        )
        assert delivery.record(session, [late], now=now()) == {}
    assert states(db) == ["delivered"]


def test_a_dead_endpoint_with_many_rows_does_not_delay_a_healthy_one(db: Engine) -> None:
    with receiver() as healthy:
        dead = subscribe("http://127.0.0.1:9/")
        emit(count=1)
        deliver_webhooks()
        execute(
            db,
            "INSERT INTO outbox_messages (id, type, tenant_id, schema_version, sequence, body) "
            "SELECT gen_random_uuid(), 'billing.ping', 'acme', 1, 1, '{}' "
            "FROM generate_series(1, 3000)",
        )
        execute(
            db,
            "INSERT INTO deliveries (message_id, endpoint_id, due_at) "
            "SELECT id, :endpoint, now() - interval '1 day' FROM outbox_messages "
            "ON CONFLICT DO NOTHING",
            endpoint=dead["endpoint_id"],
        )
        subscribe(healthy, tenant_id="other")
        emit("other", count=40)

        deliver_webhooks()

        assert len(healthy.requests) == 40
    with db.connect() as connection:
        tried = connection.scalar(
            text("SELECT count(*) FROM delivery_attempts WHERE endpoint_id = :id"),
            {"id": dead["endpoint_id"]},
        )
    assert tried is not None
    assert tried < 15, "its circuit opens after five failures"


def test_an_open_circuit_lets_one_probe_through_and_closes_on_success(db: Engine) -> None:
    with receiver(*[Answer(500)] * 5, Answer(200)) as peer:
        subscribe(peer, topics=["billing.quota_consumed"])
        emit(count=5)
        deliver_webhooks()
        emit(count=20)
        assert deliver_webhooks()["delivered"] == 0, "left alone for 30 s"

        assert len(take(at=later(seconds=31)).rows) == 1
        execute(db, "UPDATE delivery_leases SET leased_until = now()")
        assert deliver_webhooks(as_of=later(seconds=31))["delivered"] == 25

        assert len(peer.requests) == 30


def test_retry_after_holds_the_whole_endpoint(db: Engine) -> None:
    with receiver(Answer(429, headers={"Retry-After": "3600"}), Answer(200)) as peer:
        subscribe(peer)
        emit()
        deliver_webhooks()
        emit()

        assert deliver_webhooks(as_of=later(minutes=59))["delivered"] == 0
        assert deliver_webhooks(as_of=later(minutes=73))["delivered"] == 2

        assert len(peer.requests) == 3


def test_an_endpoint_deleted_between_attempts_gets_nothing_more(db: Engine) -> None:
    with receiver(Answer(500)) as peer:
        endpoint_id = subscribe(peer)["endpoint_id"]
        emit()
        deliver_webhooks()

        delete_endpoint(endpoint_id=UUID(endpoint_id))
        emit()
        deliver_webhooks(as_of=later(days=1))

        assert len(peer.requests) == 1
    with db.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM endpoint_health")) == 0
    [row] = deliveries(db)
    assert row.state == "cancelled"
    assert row.completed_at is not None


def test_an_endpoint_deleted_during_an_attempt_cancels_it_unless_it_arrives(db: Engine) -> None:
    endpoint_id = UUID(subscribe("http://127.0.0.1:9/")["endpoint_id"])
    emit(count=2)
    failing, fine = take(uuid4()).rows
    delete_endpoint(endpoint_id=endpoint_id)

    with database.transaction() as session:
        results = [
            delivery.Result(
                delivery_id=row.delivery_id,
                endpoint_id=row.endpoint_id,
                lease_token=row.lease_token,
                state=state,
                due_at=now(),
                spent=True,
            )
            for row, state in [
                (failing, DeliveryState.pending),
                (fine, DeliveryState.delivered),
            ]
        ]
        delivery.record(session, results, now=now())

    assert states(db) == ["cancelled", "delivered"]
    assert all(row.completed_at is not None for row in deliveries(db))


def test_a_deletion_waits_for_a_fan_out_and_cancels_what_it_added(db: Engine) -> None:
    endpoint_id = UUID(subscribe("http://127.0.0.1:9/")["endpoint_id"])
    emit()
    deletion = threading.Thread(target=lambda: delete_endpoint(endpoint_id=endpoint_id))
    with database.transaction() as session:
        relay.fan_out(session, most=100, now=now())
        deletion.start()
        wait_for_a_lock(db)
    deletion.join()

    assert states(db) == ["cancelled"]


@pytest.mark.parametrize(
    ("move", "expected"),
    [(endpoint.delete, "cancelled"), (endpoint.disable, "held"), (endpoint.enable, "pending")],
)
def test_a_fan_out_that_met_a_change_of_its_endpoint_obeys_it(
    db: Engine, move: Any, expected: str
) -> None:
    endpoint_id = UUID(subscribe(topics=["billing.quota_consumed"])["endpoint_id"])
    if move is endpoint.enable:
        disable_endpoint(endpoint_id=endpoint_id)
    emit()
    fan_out = threading.Thread(target=relay_all)
    with database.transaction() as session:
        move(session, endpoint.lock(session, endpoint_id), now=now())
        fan_out.start()
        wait_for_a_lock(db)
    fan_out.join()

    assert states(db) == [expected]
    assert (deliveries(db)[0].completed_at is not None) == (expected == "cancelled")


def wait_for_a_lock(db: Engine) -> None:
    """Return when some transaction of this database waits for another."""
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")

    def somebody_waits() -> bool:
        with db.connect() as connection:
            return bool(connection.scalar(waiting))

    eventually(somebody_waits)


def test_gone_disables_the_endpoint_once_holds_its_deliveries_and_says_so(db: Engine) -> None:
    with receiver(Answer(410)) as peer, receiver() as operators:
        endpoint_id = subscribe(peer)["endpoint_id"]
        subscribe(operators, tenant_id=None, topics=["billing.endpoint.*"])
        emit(count=12)

        deliver_webhooks()
        emit()
        deliver_webhooks()

        asked = len(peer.requests)
        assert asked <= sending.PER_ENDPOINT
        [notice] = operators.requests
        assert notice.event["type"] == "billing.endpoint.disabled"
        assert notice.event["data"] == {"endpoint_id": endpoint_id, "reason": "gone"}
        held = [row for row in deliveries(db) if str(row.endpoint_id) == endpoint_id]
        assert {row.state for row in held} == {"held"}
        # Its own notice is among what waits for it.
        assert len(held) == 14


def test_enabling_an_endpoint_sends_what_was_held(db: Engine) -> None:
    with receiver() as peer:
        endpoint_id = UUID(subscribe(peer)["endpoint_id"])
        disable_endpoint(endpoint_id=endpoint_id)
        before = emit(count=3)
        assert deliver_webhooks()["delivered"] == 0
        assert "pending" not in states(db)

        enable_endpoint(endpoint_id=endpoint_id)
        deliver_webhooks()

        assert set(before) <= set(peer.ids)
    assert set(states(db)) == {"delivered"}


def test_results_written_twice_count_once(db: Engine) -> None:
    subscribe("http://127.0.0.1:9/")
    emit()
    [row] = take(uuid4()).rows
    attempt = delivery.Attempt(now(), 1, "timeout", None, 5, "slow", None)
    result = delivery.Result(
        delivery_id=row.delivery_id,
        endpoint_id=row.endpoint_id,
        lease_token=row.lease_token,
        state=DeliveryState.pending,
        due_at=later(seconds=5),
        spent=True,
        attempt=attempt,
    )

    accepted = []
    for _ in range(2):
        with database.transaction() as session:
            accepted.append(delivery.record(session, [result], now=now()))

    assert accepted == [{row.delivery_id: DeliveryState.pending}, {}]
    assert len(attempts(db)) == 1
    assert [one.attempt_count for one in deliveries(db)] == [1]


def test_without_a_master_key_everything_waits_and_nothing_is_sent(
    db: Engine,
    task_config: config.Config,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("tasks.readiness._warned_at", {})
    with receiver() as peer:
        secret = subscribe(peer)["secret"]
        emit()
        config.use(config.Config(address_policy=task_config.address_policy, kick=False))

        summary = deliver_webhooks()

        assert (summary["relayed"], summary["delivered"]) == (1, 0)
        assert peer.requests == []
        assert states(db) == ["pending"]
        deliver_webhooks()
        assert caplog.text.count("sender.no_master_key") == 1, "once a minute is enough"
        config.use(task_config)
        assert deliver_webhooks()["delivered"] == 1
        peer.requests[0].verify(secret)


def test_an_unknown_master_key_defers_the_endpoint_without_spending_an_attempt(
    db: Engine, task_config: config.Config, caplog: pytest.LogCaptureFixture
) -> None:
    with receiver() as peer:
        subscribe(peer)
        emit(count=20)
        other = config.Config(
            keyring=Keyring.parse(new_master_key("other")),
            address_policy=task_config.address_policy,
            kick=False,
        )
        config.use(other)

        deliver_webhooks()

        assert peer.requests == []
        assert set(states(db)) == {"pending"}
        assert {row.attempt_count for row in deliveries(db)} == {0}
        assert "endpoint.can_not_sign" in caplog.text
        config.use(task_config)
        assert deliver_webhooks(as_of=later(minutes=6))["delivered"] == 20


@pytest.mark.parametrize(
    "broken",
    [
        "UPDATE endpoint_secrets SET sealed = sealed || '\\x00' WHERE endpoint_id = :id",
        "UPDATE endpoint_secrets SET sealed = '\\x0102ffff' || sealed WHERE endpoint_id = :id",
        "DELETE FROM endpoint_secrets WHERE endpoint_id = :id",
    ],
)
def test_an_endpoint_whose_secret_is_spoiled_waits_and_keeps_nobody_else(
    db: Engine, broken: str
) -> None:
    with receiver() as peer, receiver() as other:
        execute(db, broken, id=subscribe(peer)["endpoint_id"])
        subscribe(other)
        emit(count=3)

        summary = deliver_webhooks()

        assert (peer.requests, len(other.requests)) == ([], 3)
    assert (summary["delivered"], summary["pending"]) == (3, 3)
    assert len(attempts(db)) == 3
    assert len(take(at=later(minutes=6)).rows) == 3


def test_what_came_of_attempts_is_on_disk_before_it_is_forgotten(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(
        db,
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = on', "
        "current_database()); END $$",
    )
    db.dispose()
    record, waits = recording.record, []

    def look(session: database.Session, *verdicts: Any, **options: Any) -> recording.Recorded:
        waits.append(session.scalar(text("SHOW synchronous_commit")))
        return record(session, *verdicts, **options)

    monkeypatch.setattr(recording, "record", look)
    with receiver() as peer:
        subscribe(peer)
        emit(count=3)
        deliver_webhooks()

    assert states(db) == ["delivered"] * 3
    assert set(waits) == {"on"}


def test_a_refused_address_waits_an_hour_without_spending_an_attempt(
    db: Engine, task_config: config.Config
) -> None:
    with receiver() as peer:
        subscribe(peer)
        emit(count=9)
        config.use(config.Config(keyring=task_config.keyring, kick=False))

        deliver_webhooks()
        deliver_webhooks(as_of=later(minutes=59))

        assert peer.requests == []
    assert {attempt.outcome for attempt in attempts(db)} == {"address_refused"}
    assert len(attempts(db)) <= sending.PER_ENDPOINT
    assert {(row.state, row.attempt_count) for row in deliveries(db)} == {("pending", 0)}


def test_neither_secret_nor_body_nor_signature_reaches_a_log(
    db: Engine, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    with receiver(Answer(500), Answer(410), Answer(200)) as peer:
        secret = subscribe(peer)["secret"]
        emit()
        deliver_webhooks()
        deliver_webhooks(as_of=later(seconds=10))
        signatures = [request.headers["webhook-signature"] for request in peer.requests]
        body = peer.requests[0].body.decode()

    captured = capsys.readouterr()
    logged = captured.out + captured.err + caplog.text
    assert "sender.ran" in logged
    for private in [secret, secret.removeprefix("whsec_"), body, "TOKENS", *signatures]:
        assert private not in logged


def test_shutdown_begins_nothing_and_gives_back_what_was_claimed(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiver() as peer:
        subscribe(peer)
        emit()
        monkeypatch.setattr("tasks.shutdown.has_begun", lambda: True)

        deliver_webhooks()

        assert peer.requests == []


@pytest.mark.parametrize(("seconds", "left"), [(1, 5), (10, 30), (15, 45), (30, 90)])
def test_a_lease_leaves_time_to_wait_for_a_slot_whatever_the_deadline_of_an_attempt(
    db: Engine, seconds: int, left: int
) -> None:
    config.use(replace(config.current(), send_timeout=dt.timedelta(seconds=seconds)))
    with receiver() as peer:
        subscribe(peer)
        emit(count=3)
        run = sending.Run(now())
        run._turn()

        [(least, most)] = query_leases(db)
        while run._turn():
            pass

    assert states(db) == ["delivered"] * 3
    # Half of it to wait in, and an attempt that begins last still ends well before it. Of the
    # shortest ones there is time to write back what came of them.
    assert least >= most - 1 >= left


def test_a_run_whose_process_stood_still_sends_what_happened_meanwhile(db: Engine) -> None:
    with receiver() as peer:
        subscribe(peer)
        emit()

        assert sending.Run(later(seconds=-20)).go()["delivered"] == 1


def test_a_run_as_of_an_hour_ago_sends_nothing_that_happened_since(db: Engine) -> None:
    with receiver() as peer:
        subscribe(peer)
        emit()

        assert sending.Run(later(hours=-1)).go()["delivered"] == 0


def test_a_run_that_is_stopped_gives_back_what_it_has_not_begun(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.window.SLOTS", 1)
    done = threading.Event()
    with receiver(Answer(200, until=done)) as peer:
        subscribe(peer)
        emit(count=5)
        run = sending.Run(now())
        run._turn()
        assert sorted(states(db)) == ["sending"] * 5

        run._let_go()

        left = states(db)
        assert left.count("pending") == 4
        assert left.count("sending") == 1
        assert {row.attempt_count for row in deliveries(db)} == {0}
        done.set()
        # The one on the wire ends before its server does.
        eventually(lambda: len(peer.requests) == 1 and not peer.at_once)
