"""Who gets a turn: caps over all senders, order, rates, and nobody left out."""

import datetime as dt
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from models import database
from models.store import claim, endpoint_health, relay
from tasks import sending, window
from tasks.announce import announce
from tasks.delivery import deliver_webhooks, skip_delivery
from tasks.endpoint_list import list_endpoints
from tasks.endpoints import disable_endpoint, enable_endpoint
from tests.integration.outbox_world import (
    TERMS,
    deliveries,
    emit,
    execute,
    finish,
    hosts,
    later,
    now,
    relay_all,
    sample,
    states,
    subscribe,
    take,
)
from tests.integration.webhooks.peers import Peer, Wire, answer
from tests.processes import eventually
from tests.receiver import Answer, receiver
from webhooks import events, health
from webhooks.endpoint_condition import Circuit
from webhooks.retry import Outcome

SHARED = "shared.example"
MINUTE = dt.timedelta(minutes=1)


def of_endpoint(rows: list[claim.Claimed]) -> Counter[UUID]:
    return Counter(row.endpoint_id for row in rows)


def many(tenants: int, *, each: int = 1, **options: object) -> None:
    """So many tenants with an endpoint each, and events for each of them."""
    for number in range(tenants):
        subscribe(tenant_id=f"t{number}", **options)
    for number in range(tenants):
        emit(f"t{number}", count=each)


def test_a_claim_goes_round_to_where_it_began(db: Engine) -> None:
    many(6, each=4)
    first = take(terms=terms(rows=4))
    second = take(terms=terms(rows=4), cursor=first.cursor)

    assert [len(first.rows), len(second.rows)] == [4, 4]
    # The second began behind the first, and came back to its beginning.
    assert len(of_endpoint([*first.rows, *second.rows])) == 6
    assert not first.has_seen_all
    assert not second.has_seen_all
    assert take(terms=terms(rows=100), cursor=second.cursor).has_seen_all


def terms(**changes: int) -> claim.Terms:
    usual = {"rows": 100, "per_endpoint": 5, "per_host": 1000, "per_owner": 1000}
    return claim.Terms(**{**usual, **changes})


def test_each_endpoint_gets_one_before_any_gets_two(db: Engine) -> None:
    many(10, each=5)

    taken = of_endpoint(list(take(terms=terms(rows=12)).rows))

    assert len(taken) == 10
    assert sorted(taken.values()) == [1] * 8 + [2] * 2


def test_no_more_than_twenty_are_under_way_to_one_host_whoever_sends(db: Engine) -> None:
    many(12, each=5)
    hosts(db, *[SHARED] * 8, *["other.example"] * 4)

    first = take()
    of_host = Counter("shared" if SHARED in row.url else "other" for row in first.rows)
    assert of_host == {"shared": 20, "other": 20}
    assert take().rows == []

    finish([row for row in first.rows if SHARED in row.url][:3])
    assert [SHARED in row.url for row in take().rows] == [True] * 3


def test_two_claims_at_once_together_keep_to_a_hosts_cap(db: Engine) -> None:
    many(30, each=5)
    hosts(db, *[SHARED] * 30)
    gate = threading.Barrier(8)
    taken: list[claim.Claimed] = []

    def race() -> None:
        gate.wait()
        for _ in range(5):
            taken.extend(take(terms=TERMS).rows)

    racers = [threading.Thread(target=race) for _ in range(8)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()

    assert len(taken) == 20
    assert len({row.delivery_id for row in taken}) == 20


def test_two_senders_claim_side_by_side_and_neither_waits_for_the_other(db: Engine) -> None:
    many(8, each=5)
    hosts(db, *[f"host-{number}.example" for number in range(8)])
    few = terms(rows=4)
    with ThreadPoolExecutor(1) as other:
        with database.transaction() as session:
            relay.fan_out(session, most=1000, now=now())
        with database.transaction() as session:
            first = claim.claim(
                session, terms=few, cursor=None, token=uuid4(), lease=MINUTE, now=now()
            ).rows
            # Nothing of it is committed yet.
            second = other.submit(take, terms=few).result(30).rows

    assert len(first) == len(second) == 4
    assert not of_endpoint([*first]).keys() & of_endpoint([*second]).keys()
    # Each has lanes left, whoever took the first of them.
    assert len(of_endpoint([*take(terms=terms(rows=16)).rows])) == 8


def test_a_claim_waits_for_no_endpoint_that_somebody_else_has(db: Engine) -> None:
    many(2)
    hosts(db, "a.example", "b.example")
    taken, _ = endpoint_ids = [UUID(made["endpoint_id"]) for made in list_endpoints()["endpoints"]]
    with ThreadPoolExecutor(1) as other, database.transaction() as session:
        endpoint_health.lock(session, [taken])

        rows = other.submit(take).result(30).rows

    assert {row.endpoint_id for row in rows} == {*endpoint_ids} - {taken}


def test_a_host_that_a_claim_counts_is_left_alone_by_another(db: Engine) -> None:
    many(8, each=5)
    hosts(db, *[SHARED] * 8)
    with ThreadPoolExecutor(1) as other:
        with database.transaction() as session:
            relay.fan_out(session, most=1000, now=now())
        with database.transaction() as session:
            few = terms(rows=4, per_host=5)
            claim.claim(session, terms=few, cursor=None, token=uuid4(), lease=MINUTE, now=now())
            # What the first has taken can not be counted yet: the host is its own meanwhile.
            assert other.submit(take, terms=few).result(30).rows == []
    assert len(take(terms=terms(rows=4, per_host=5)).rows) == 1


def test_an_owner_gets_no_more_than_its_share_of_a_sender(db: Engine) -> None:
    for _ in range(10):
        subscribe()
    subscribe(tenant_id="other")
    emit(count=5)
    emit("other", count=5)

    first = take(terms=terms(per_owner=24))
    assert Counter(row.owner for row in first.rows) == {"acme": 24, "other": 5}

    taken = {"acme": 20, "other": 24}
    second = claim.Terms(100, 5, 1000, 24, taken)
    assert Counter(row.owner for row in take(terms=second).rows) == {"acme": 4}


def test_one_tenant_has_a_quarter_of_the_slots_on_the_wire(db: Engine) -> None:
    share = window.SLOTS // 4
    at_once, most = 0, 0
    lock, full = threading.Lock(), threading.Event()
    with ExitStack() as stack:
        peers = [stack.enter_context(receiver(Answer(until=full, delay=0.05))) for _ in range(6)]
        for peer in peers:
            subscribe(peer)
            answer = peer.take

            def take_one(request: object, answer: object = answer) -> object:
                nonlocal at_once, most
                with lock:
                    at_once += 1
                    most = max(most, at_once)
                    if at_once == share:
                        full.set()
                try:
                    return answer(request)  # type: ignore[operator]
                finally:
                    with lock:
                        at_once -= 1

            peer.take = take_one  # type: ignore[method-assign, assignment]
        emit(count=10)

        assert deliver_webhooks()["delivered"] == 60

    assert most == share


def test_a_slow_tenant_leaves_three_quarters_of_the_slots(db: Engine) -> None:
    done = threading.Event()
    with ExitStack() as stack:
        slow = [stack.enter_context(receiver(Answer(until=done))) for _ in range(8)]
        quick = stack.enter_context(receiver())
        for peer in slow:
            subscribe(peer, tenant_id="slow")
        subscribe(quick, tenant_id="quick")
        emit("slow", count=5)
        emit("quick", count=20)
        run = threading.Thread(target=deliver_webhooks)
        run.start()
        pause = threading.Event()
        while run.is_alive() and len(quick.requests) < 20:
            pause.wait(0.01)

        # All is delivered where it is quick while the slow one waits for its second turn.
        assert len(quick.requests) == 20
        assert sum(len(peer.requests) for peer in slow) <= window.SLOTS // 4
        done.set()
        run.join()


def test_an_ordered_endpoint_gets_one_at_a_time_oldest_first(db: Engine) -> None:
    with receiver(Answer(delay=0.002)) as peer:
        subscribe(peer, ordered=True)
        sent = emit(count=12)
        senders = [threading.Thread(target=deliver_webhooks) for _ in range(2)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        while set(states(db)) != {"delivered"}:
            deliver_webhooks()

        assert peer.ids == sent
        assert peer.most_at_once == 1


def test_what_one_transaction_says_is_heard_in_the_order_it_was_said(db: Engine) -> None:
    subscribe(ordered=True)
    at = now()
    with database.transaction() as session:
        said = [
            announce(session, sample(events.Ping, "acme"), tenant_id="acme", sequence=1, now=at)
            for _ in range(20)
        ]

    heard = []
    for _ in range(20):
        rows = take().rows
        heard += [f"evt_{row.message_id.hex}" for row in rows]
        finish(rows)
    assert heard == said


def test_an_ordered_endpoint_stands_still_for_a_failure_until_it_arrives(db: Engine) -> None:
    with receiver(Answer(), Answer(500), Answer(500), Answer()) as peer:
        subscribe(peer, ordered=True)
        sent = emit(count=3)

        deliver_webhooks()
        deliver_webhooks(as_of=later(seconds=7))
        assert peer.ids == [sent[0], sent[1], sent[1]]
        sent += emit(count=1)
        deliver_webhooks(as_of=later(seconds=9))
        assert len(peer.ids) == 3

        deliver_webhooks(as_of=later(minutes=7))

        assert peer.ids == [sent[0], sent[1], sent[1], *sent[1:]]
    assert set(states(db)) == {"delivered"}


def test_an_ordered_endpoint_goes_on_trying_long_after_the_schedule_is_over(db: Engine) -> None:
    with receiver(*[Answer(500)] * 14, Answer()) as peer:
        subscribe(peer, ordered=True, topics=["billing.quota_consumed"])
        sent = emit(count=2)
        for day in range(15):
            deliver_webhooks(as_of=later(days=2 * day))

        assert peer.ids == [sent[0]] * 15 + [sent[1]]
        assert [request.headers["x-attempt"] for request in peer.requests[-2:]] == ["15", "1"]
    assert states(db) == ["delivered", "delivered"]


def test_skipping_what_failed_lets_an_ordered_endpoint_go_on(db: Engine) -> None:
    with receiver(Answer(500), Answer()) as peer:
        subscribe(peer, ordered=True)
        sent = emit(count=3)
        deliver_webhooks()
        first, *_ = deliveries(db)

        answer = skip_delivery(delivery_id=first.id, reason="the receiver can not read it")
        deliver_webhooks()

        assert peer.ids == sent
        assert (answer["event_id"], answer["state"]) == (sent[0], "cancelled")
    assert states(db) == ["cancelled", "delivered", "delivered"]
    assert deliveries(db)[0].skip_reason == "the receiver can not read it"


def test_skipping_one_further_back_does_not_let_it_go_on(db: Engine) -> None:
    with receiver(Answer(500), Answer()) as peer:
        subscribe(peer, ordered=True)
        emit(count=3)
        deliver_webhooks()
        *_, last = deliveries(db)

        skip_delivery(delivery_id=last.id, reason="a test")
        deliver_webhooks()

        assert len(peer.ids) == 1
        deliver_webhooks(as_of=later(seconds=7))
        assert len(peer.ids) == 3
    assert states(db) == ["delivered", "delivered", "cancelled"]


def test_an_ordered_endpoint_waits_for_an_older_message_that_a_relay_has_in_its_hands(
    db: Engine,
) -> None:
    subscribe(ordered=True)
    [older, newer] = emit(count=2)
    with database.Session(db) as slow:
        # The first relay has taken one message, and not committed.
        relay.fan_out(slow, most=1, now=now())
        slow.flush()
        assert take().rows == []
        slow.commit()

    for expected in (older, newer):
        [row] = take().rows
        assert f"evt_{row.message_id.hex}" == expected
        finish([row])


def test_order_outlives_disabling_in_chunks(db: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.store.following.CHUNK", 3)
    with receiver() as peer:
        subscribed = subscribe(peer, ordered=True, topics=["billing.quota_consumed"])
        endpoint_id = UUID(subscribed["endpoint_id"])
        before = emit(count=8)
        with database.transaction() as session:
            relay.fan_out(session, most=100, now=now())
        disable_endpoint(endpoint_id=endpoint_id)
        assert Counter(states(db)) == {"held": 3, "pending": 5}
        deliver_webhooks()
        assert Counter(states(db)) == {"held": 8}
        enable_endpoint(endpoint_id=endpoint_id)
        assert Counter(states(db)) == {"held": 5, "pending": 3}
        after = emit(count=2)
        while set(states(db)) != {"delivered"}:
            deliver_webhooks()

        assert peer.ids == before + after


@pytest.mark.parametrize(("rate", "burst"), [(6, 1), (60, 1), (600, 10), (60_000, 1000)])
def test_a_rate_limit_allows_a_seconds_worth_at_once_and_then_its_rate(
    db: Engine, rate: int, burst: int
) -> None:
    subscribe(rate_per_minute=rate)
    emit(count=40)
    start = now()
    plenty = terms(per_endpoint=1000, rows=1000)

    taken = [len(take(at=start, terms=plenty).rows)]
    assert take(at=start, terms=plenty).rows == []
    for step in range(1, 4):
        at = start + dt.timedelta(seconds=step * 60 / rate)
        taken.append(len(take(at=at, terms=plenty).rows))

    first = min(burst, 40)
    left = 40 - first
    assert taken == [first, *[1 if place < left else 0 for place in range(3)]]


@given(
    rate=st.integers(1, 6000),
    looks=st.lists(st.tuples(st.integers(0, 20_000), st.integers(1, 8)), min_size=1, max_size=12),
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_rate_is_never_exceeded_over_any_stretch(
    db: Engine, rate: int, looks: list[tuple[int, int]]
) -> None:
    """Looks are so many milliseconds apart, and each takes so many at most."""
    endpoint_id = UUID(subscribe(rate_per_minute=rate)["endpoint_id"])
    emit(count=60)
    with database.transaction() as session:
        relay.fan_out(session, most=100, now=now())
    at = later(seconds=1)
    taken: list[tuple[dt.datetime, int]] = []
    for pause, most in looks:
        at += dt.timedelta(milliseconds=pause)
        rows = take(at=at, terms=terms(rows=most, per_endpoint=100)).rows
        taken.append((at, len(rows)))
    capacity = -(-rate // 60)
    for begin, (first, _) in enumerate(taken):
        total = 0
        for when, count in taken[begin:]:
            total += count
            allowed = capacity + rate / 60 * (when - first).total_seconds()
            assert total <= allowed + 1e-6
    execute(db, "DELETE FROM deliveries")
    execute(db, "DELETE FROM endpoint_health")
    execute(db, "DELETE FROM endpoint_secrets")
    execute(db, "DELETE FROM endpoints WHERE id = :id", id=endpoint_id)


@pytest.mark.parametrize("seconds", [0, 29, 30, 31, 100])
def test_sql_and_the_rules_agree_on_how_many_lanes_there_are(db: Engine, seconds: int) -> None:
    endpoint_id = UUID(subscribe()["endpoint_id"])
    emit(count=9)
    start = later(seconds=1)
    probe_at = start + dt.timedelta(seconds=30)
    with database.transaction() as session:
        endpoint_health.keep(session, {endpoint_id: endpoint_health.Health(probe_at=probe_at)})

    at = start + dt.timedelta(seconds=seconds)
    rule = health.lanes(Circuit(probe_at=probe_at), most=TERMS.per_endpoint, now=at)
    assert len(take(at=at).rows) == rule


def test_an_idle_or_resting_endpoint_costs_a_claim_no_lock(db: Engine) -> None:
    many(3, each=1)
    rows = take().rows
    finish(rows[:1], Outcome.ADDRESS_REFUSED)
    finish(rows[1:2])
    with database.Session(db) as session:
        claim.claim(
            session,
            terms=TERMS,
            cursor=None,
            token=uuid4(),
            lease=dt.timedelta(seconds=9),
            now=now(),
        )
        held = session.scalar(
            text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted")
        )
    assert held == 0


def test_a_refused_address_is_looked_at_once_an_hour(db: Engine) -> None:
    subscribe()
    emit(count=9)
    finish(take().rows, Outcome.ADDRESS_REFUSED)

    looks = []
    for hour in range(1, 5):
        assert take(at=later(hours=hour, minutes=-1)).rows == []
        rows = take(at=later(hours=hour)).rows
        finish(rows, Outcome.ADDRESS_REFUSED, at=later(hours=hour))
        looks.append(len(rows))
    assert looks == [1, 1, 1, 1]

    [row] = take(at=later(hours=6)).rows
    finish([row], at=later(hours=6))
    assert len(take(at=later(hours=6)).rows) == sending.PER_ENDPOINT


def test_endpoints_that_have_their_one_under_way_do_not_fill_a_claim(db: Engine) -> None:
    many(6, each=2, ordered=True)
    subscribe(tenant_id="other")
    emit("other")
    assert len(take(terms=terms(rows=6)).rows) == 6

    # Its room is for six endpoints, and six have nothing to give.
    claimed = take(terms=terms(rows=6))
    assert [row.owner for row in claimed.rows] == ["other"]
    assert claimed.has_seen_all


def test_two_relays_whose_clocks_differ_keep_the_order(db: Engine) -> None:
    subscribe(ordered=True)
    sent = emit(count=4)
    with database.Session(db) as fast, database.Session(db) as slow:
        relay.fan_out(fast, most=2, now=later(seconds=20))
        relay.fan_out(slow, most=2, now=later(seconds=-20))
        slow.commit()
        fast.commit()

    heard = []
    for _ in sent:
        rows = take(at=later(seconds=30)).rows
        heard += [f"evt_{row.message_id.hex}" for row in rows]
        finish(rows)
    assert heard == sent


def test_the_end_of_a_run_makes_nobody_wait_for_a_slow_neighbour(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.sending.BUDGET", 0.5)
    monkeypatch.setattr("tasks.sending.SLOW", 0.2)
    may_answer = threading.Semaphore(0)

    def hold(wire: Wire) -> None:
        wire.read_request()
        may_answer.acquire(timeout=10)
        wire.send(answer())

    with Peer(lambda _, wire: hold(wire)) as slow, receiver() as healthy:
        subscribe(slow.url(), tenant_id="slow")
        subscribe(healthy, tenant_id="quick")
        emit("slow", count=50)
        run = threading.Thread(target=deliver_webhooks)
        run.start()
        eventually(lambda: slow.connections == sending.PER_ENDPOINT)
        time.sleep(2 * sending.BUDGET)  # its time is over

        may_answer.release()  # one lane of the slow one is free again
        eventually(lambda: "delivered" in states(db))
        emit("quick", count=3)
        eventually(lambda: len(healthy.requests) == 3)
        assert run.is_alive()
        may_answer.release(100)
        run.join()
    # Of the slow one nothing more was begun.
    assert Counter(states(db)) == {"delivered": 8, "pending": 45}


def test_a_run_ends_though_slow_neighbours_never_do(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.sending.SLOW", 0.0)
    done = threading.Event()
    with receiver(Answer(until=done)) as slow:
        subscribe(slow, tenant_id="slow")
        subscribe(slow, tenant_id="other")
        emit("slow")
        run = sending.Run(now())
        run._turn()
        eventually(lambda: len(slow.requests) == 1)
        monkeypatch.setattr(run, "_ends_at", time.monotonic() - 16)
        emit("other")
        relay_all()

        run._turn()

        assert states(db) == ["sending", "pending"]
        done.set()
        while run._turn():
            pass
    assert states(db) == ["delivered", "pending"]


def test_each_claim_of_a_run_goes_on_behind_the_one_before(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that always have something due would else be the only ones."""
    monkeypatch.setattr("tasks.window.SLOTS", 4)
    monkeypatch.setattr("tasks.window.AHEAD", 0)
    monkeypatch.setattr("tasks.window.MOST_AHEAD", 1)
    with receiver() as peer:
        for number in range(8):
            subscribe(peer, tenant_id=f"t{number}", topics=["billing.quota_consumed"])
        for number in range(8):
            emit(f"t{number}", count=5)

        deliver_webhooks()

        assert len({one.event["tenant_id"] for one in peer.requests[:16]}) == 8
        assert len(peer.requests) == 40


def test_what_happens_while_all_that_is_on_the_wire_is_slow_goes_out_at_once(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody waits for the next look into the tables: it would be in an hour.
    monkeypatch.setattr("tasks.sending.RELAY_INTERVAL", 3600)
    monkeypatch.setattr("tasks.sending.PATIENCE", 3600)
    answered = threading.Event()

    def hold(wire: Wire) -> None:
        wire.read_request()
        answered.wait(20)
        wire.send(answer())

    with Peer(lambda _, wire: hold(wire)) as slow, receiver() as healthy:
        subscribe(slow.url(), tenant_id="slow")
        subscribe(healthy, tenant_id="quick")
        emit("slow")
        run = threading.Thread(target=deliver_webhooks)
        run.start()
        eventually(lambda: slow.connections == 1)
        sent: list[str] = []
        for _ in range(3):
            sent.extend(emit("quick"))
            eventually(lambda: healthy.ids == sent)
        assert not answered.is_set()
        assert run.is_alive()
        answered.set()
        run.join()
    assert states(db) == ["delivered"] * 4
