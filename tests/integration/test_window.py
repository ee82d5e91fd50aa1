"""The slots of one sender: who gets a free one, and what is not begun."""

import dataclasses
import datetime as dt
import threading
from contextlib import ExitStack
from uuid import uuid4

import pytest
from sqlalchemy import Engine

from models.store.claim import Claimed
from tasks import config, window
from tasks.delivery import deliver_webhooks
from tests.integration.outbox_world import deliveries, emit, later, now, subscribe
from tests.receiver import Answer, Received, receiver
from webhooks import signing_keys, transport
from webhooks.keyring import Keyring, new_master_key
from webhooks.retry import Outcome

SECRETS = [signing_keys.new_secret()]
MINUTE = dt.timedelta(minutes=1)


def claimed(number: int, *, owner: str = "acme", url: str = "http://127.0.0.1:9/") -> Claimed:
    return Claimed(
        delivery_id=number,
        attempt_count=0,
        message_id=uuid4(),
        type="billing.ping",
        schema_version=1,
        body=b"{}",
        tenant_id=owner,
        correlation_id=None,
        traceparent=None,
        unwell=False,
        lease_token=uuid4(),
        endpoint_id=uuid4(),
        owner=owner,
        ordered=False,
        url=url,
        headers={},
        sealed=(),
    )


def test_owners_get_a_free_slot_by_turns(db: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has much to send and is quick does not keep a slot from one that came last."""
    monkeypatch.setattr("tasks.window.SLOTS", 4)
    everybody_waits, done = threading.Event(), threading.Event()
    with ExitStack() as stack:
        busy = stack.enter_context(receiver(Answer(until=everybody_waits)))
        slow = [stack.enter_context(receiver(Answer(until=done))) for _ in range(3)]
        last = stack.enter_context(receiver())
        before: list[int] = []
        answer = last.take

        def take(request: Received) -> Answer:
            before.append(len(busy.requests))
            return answer(request)

        last.take = take  # type: ignore[method-assign]
        slots = window.Window(window.sender(), lease=MINUTE)
        for number in range(6):
            slots.submit(claimed(number, owner="busy", url=busy.url), SECRETS)
        for number, peer in enumerate(slow, start=6):
            slots.submit(claimed(number, owner=f"slow {number}", url=peer.url), SECRETS)
        slots.submit(claimed(9, owner="last", url=last.url), SECRETS)

        everybody_waits.set()
        quick: list[window.Finished] = []
        while len(quick) < 7:
            quick += slots.collect(patience=10)
        done.set()
        while slots.under_way:
            slots.collect(patience=10)
        slots.close()

    assert before == [2]


def test_what_waited_so_long_that_its_lease_could_end_is_not_begun(db: Engine) -> None:
    attempt = config.current().send_timeout
    with receiver() as peer:
        slots = window.Window(window.sender(), lease=2 * attempt - dt.timedelta(milliseconds=1))
        slots.submit(claimed(1, url=peer.url), SECRETS)

        [finished] = slots.collect(patience=10)

        slots.close()
        assert finished.attempt is None
        assert peer.requests == []


def test_an_endpoint_is_slow_as_long_as_something_is_under_way(db: Engine) -> None:
    done = threading.Event()
    with receiver(Answer(until=done)) as peer:
        slots = window.Window(window.sender(), lease=MINUTE)
        one = claimed(1, url=peer.url)
        slots.submit(one, SECRETS)

        assert slots.endpoints_since(3600) == set()
        assert slots.endpoints_since(-1) == {one.endpoint_id}
        done.set()
        slots.collect(patience=10)
        assert slots.endpoints_since(-1) == set()
        slots.close()


def test_as_much_is_claimed_ahead_as_ended_in_the_last_second_a_quarter_for_one_owner(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.window.AHEAD", 4)
    monkeypatch.setattr("tasks.window.PACE_SECONDS", 3600)
    with receiver() as peer:
        slots = window.Window(window.sender(), lease=MINUTE)
        assert (slots.size, slots.owners_room) == (36, 9)
        for number in range(12):
            slots.submit(claimed(number, url=peer.url), SECRETS)
        while slots.under_way:
            slots.collect(patience=10)
        slots.close()

    assert (slots.size, slots.owners_room) == (44, 11)
    monkeypatch.setattr("tasks.window.PACE_SECONDS", -1)
    assert (slots.size, slots.owners_room) == (36, 9)


def test_a_mistake_of_ours_is_an_attempt_that_failed(db: Engine) -> None:
    closed = transport.Sender(policy=config.current().address_policy)
    closed.close()
    slots = window.Window(closed, lease=MINUTE)
    slots.submit(claimed(1), SECRETS)

    [finished] = slots.collect(patience=10)

    slots.close()
    assert finished.attempt is not None
    assert finished.attempt.outcome is Outcome.PROTOCOL_ERROR
    assert finished.attempt.error == "not sent: NotWatching"


def test_what_waits_for_a_slot_when_an_endpoint_is_gone_is_not_sent(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.window.SLOTS", 1)
    with receiver(Answer(410), Answer(delay=0.5)) as peer:
        subscribe(peer, topics=["billing.quota_consumed"])
        emit(count=5)

        deliver_webhooks()

        # The second may have had its slot before the first was judged.
        assert len(peer.requests) <= 2
    assert sum(row.attempt_count for row in deliveries(db)) == len(peer.requests)


def test_other_settings_are_sent_by_another_sender(db: Engine, task_config: config.Config) -> None:
    before = window.sender()
    assert window.sender() is before

    config.use(dataclasses.replace(task_config, send_timeout=dt.timedelta(seconds=7)))

    assert window.sender() is not before
    window.close_sender()


def test_an_endpoint_without_its_key_is_looked_at_again_after_five_minutes(
    db: Engine, task_config: config.Config, caplog: pytest.LogCaptureFixture
) -> None:
    def looked() -> int:
        return caplog.text.count("endpoint.can_not_sign")

    subscribe("http://127.0.0.1:9/")
    emit()
    other = Keyring.parse(new_master_key("other"))
    config.use(dataclasses.replace(task_config, keyring=other))
    deliver_webhooks()
    once = looked()
    deliver_webhooks(as_of=later(minutes=4))

    assert looked() == once >= 1
    deliver_webhooks(as_of=later(minutes=6))
    assert looked() > once
    assert [row.attempt_count for row in deliveries(db)] == [0]
    assert deliveries(db)[0].due_at <= now()
