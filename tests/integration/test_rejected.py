"""Rejected messages: mended and sent again, or discarded; never lost, never done twice."""

import datetime as dt
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, text

from models import database
from models.inbox import RejectedMessage
from models.rules import states
from models.store import inbox, rejected
from tasks import contract
from tasks.catalog import set_product
from tasks.rejected import AlreadyResolved, discard_rejected, replay_rejected
from tasks.usage import record_usage

CAME = dt.datetime(2026, 5, 2, 12, tzinfo=dt.UTC)
LATER = CAME + dt.timedelta(days=9)


def event(**changed: Any) -> dict[str, Any]:
    plain = {"tenant_id": "acme", "metric": "api", "amount": "1,5", "idempotency_key": "k1"}
    return plain | changed


def refuse(*events: Any) -> list[int]:
    """Send events none of which can be taken."""
    answer = record_usage(events=list(events), as_of=CAME)
    assert answer["accepted"] == 0
    return [each["rejected_message_id"] for each in answer["refused"]]


def keep(task: str, payload: Any) -> int:
    kept = inbox.Rejection(task=task, tenant_id=None, payload=payload, code="x", errors=[])
    with database.transaction() as session:
        return inbox.keep_rejections(session, [kept], now=CAME)[0]


def row(found: int) -> RejectedMessage:
    with database.transaction() as session:
        return rejected.get(session, found)


def rows(statement: str) -> list[Any]:
    with database.transaction() as session:
        return list(session.execute(text(statement)).all())


def test_a_mended_event_is_stored_at_the_instant_it_first_came(db: Engine) -> None:
    (found,) = refuse(event())

    answer = replay_rejected(
        rejected_message_id=found, payload=event(amount="1.5"), actor="ada", as_of=LATER
    )

    assert (answer["state"], answer["code"], answer["errors"]) == ("replayed", None, [])
    assert answer["answer"]["verdicts"] == ["accepted"]
    assert rows("SELECT amount, at FROM usage_events") == [(Decimal("1.5"), CAME)]
    closed = row(found)
    assert (closed.state, closed.resolved_by, closed.resolved_at) == ("replayed", "ada", LATER)
    assert closed.payload == event()
    assert closed.errors[-1] == {"field": None, "reason": "replayed by ada: mended"}


def test_an_event_that_names_its_instant_keeps_it(db: Engine) -> None:
    at = "2026-05-01T10:00:00Z"
    (found,) = refuse(event(at=at))

    replay_rejected(rejected_message_id=found, payload=event(at=at, amount=1), as_of=LATER)

    assert rows("SELECT at FROM usage_events") == [(dt.datetime.fromisoformat(at),)]


def test_a_whole_message_of_usage_is_dated_event_by_event(db: Engine) -> None:
    at = "2026-05-01T10:00:00Z"
    good = [event(amount=1), event(amount=1, idempotency_key="k2", at=at), "no event"]
    found = keep("billing.record_usage", {"events": good})

    answer = replay_rejected(rejected_message_id=found, as_of=LATER)

    assert answer["answer"]["verdicts"] == ["accepted", "accepted", "rejected"]
    assert rows("SELECT at FROM usage_events ORDER BY idempotency_key") == [
        (CAME,),
        (dt.datetime.fromisoformat(at),),
    ]
    # What is still wrong of it waits on its own.
    assert rows("SELECT payload #>> '{}' FROM rejected_messages WHERE state = 'open'") == [
        ("no event",)
    ]


def test_what_a_replay_keeps_anew_is_an_open_message(db: Engine) -> None:
    found = keep("billing.record_usage", {"events": [{"specversion": "1.0"}]})

    answer = replay_rejected(rejected_message_id=found, as_of=LATER)

    (anew,) = answer["answer"]["refused"]
    assert anew["rejected_message_id"] != found
    assert row(anew["rejected_message_id"]).state == "open"


def test_an_event_ahead_of_the_clock_can_be_replayed_when_its_time_has_come(db: Engine) -> None:
    (found,) = refuse(event(amount=1, at=(CAME + dt.timedelta(days=2)).isoformat()))

    too_early = replay_rejected(rejected_message_id=found, as_of=CAME)
    in_time = replay_rejected(rejected_message_id=found, as_of=LATER)

    assert (too_early["state"], in_time["state"]) == ("open", "replayed")


def test_what_is_refused_again_stays_open_with_its_new_reason(db: Engine) -> None:
    (found,) = refuse(event(amount=1, metric="", surprise="x"))

    answer = replay_rejected(rejected_message_id=found, as_of=LATER)

    assert (answer["state"], answer["code"]) == ("open", "message.invalid")
    assert [error["field"] for error in answer["errors"]] == ["surprise"]
    still = row(found)
    assert (still.state, still.seen_count, still.last_seen_at) == ("open", 2, LATER)
    assert still.payload == event(amount=1, metric="", surprise="x")
    assert still.received_at == CAME
    assert rows("SELECT count(*) FROM usage_events") == [(0,)]
    assert rows("SELECT count(*) FROM rejected_messages") == [(1,)]


def test_a_mend_that_is_refused_leaves_the_message_as_it_was(db: Engine) -> None:
    (found,) = refuse(event())
    before = row(found)

    answer = replay_rejected(
        rejected_message_id=found, payload=event(amount=1, tenant_id="new", metric=""), as_of=LATER
    )

    after = row(found)
    assert answer["state"] == "open"
    assert (after.payload, after.errors, after.seen_count) == (
        before.payload,
        before.errors,
        before.seen_count,
    )
    assert rows("SELECT count(*) FROM tenants") == [(0,)]


def test_a_conflict_stays_open_until_its_key_is_mended(db: Engine) -> None:
    record_usage(**event(amount=1), as_of=CAME)
    (found,) = refuse(event(amount=2))

    same = replay_rejected(rejected_message_id=found, as_of=LATER)
    mended = event(amount=2, idempotency_key="k2")
    other = replay_rejected(rejected_message_id=found, payload=mended, as_of=LATER)

    assert (same["state"], same["code"]) == ("open", "usage.conflict")
    assert other["state"] == "replayed"
    assert rows("SELECT sum(amount) FROM usage_events") == [(Decimal(3),)]


def test_twice_is_once(db: Engine) -> None:
    (found,) = refuse(event())
    replay_rejected(rejected_message_id=found, payload=event(amount=1), as_of=LATER)

    again = replay_rejected(
        rejected_message_id=found, payload=event(amount=1, idempotency_key="k2"), as_of=LATER
    )

    assert (again["state"], again["answer"]) == ("replayed", None)
    assert rows("SELECT count(*) FROM usage_events") == [(1,)]


def test_of_eight_operators_one_replays(db: Engine) -> None:
    """A command without a key of its own would be carried out eight times."""
    found = keep("billing.set_tenant", {"tenant_id": "acme", "name": "0"})
    start = threading.Barrier(8)

    def operator(number: int) -> Any:
        start.wait()
        return replay_rejected(
            rejected_message_id=found, payload={"tenant_id": "acme", "name": str(number)}
        )["answer"]

    with ThreadPoolExecutor(8) as pool:
        answers = [answer for answer in pool.map(operator, range(8)) if answer is not None]

    assert [answer["name"] for answer in answers] == [rows("SELECT name FROM tenants")[0].name]


def test_a_replay_and_a_discard_at_once_have_one_winner(db: Engine) -> None:
    for number in range(10):
        (found,) = refuse(event(idempotency_key=f"k{number}"))
        start = threading.Barrier(2)

        def replay(found: int = found, start: threading.Barrier = start, n: int = number) -> str:
            start.wait()
            try:
                mended = event(idempotency_key=f"k{n}", amount=1)
                return replay_rejected(rejected_message_id=found, payload=mended)["state"]
            except AlreadyResolved:
                return "lost"

        def discard(found: int = found, start: threading.Barrier = start) -> str:
            start.wait()
            try:
                return discard_rejected(rejected_message_id=found, reason="test")["state"]
            except AlreadyResolved:
                return "lost"

        with ThreadPoolExecutor(2) as pool:
            outcomes = [end.result() for end in (pool.submit(replay), pool.submit(discard))]

        (won,) = [outcome for outcome in outcomes if outcome != "lost"]
        stored = {one.idempotency_key for one in rows("SELECT idempotency_key FROM usage_events")}
        assert row(found).state == won
        assert (f"k{number}" in stored) is (won == "replayed")


def test_another_task_is_replayed_once_per_its_own_key(db: Engine) -> None:
    grant = {
        "tenant_id": "acme",
        "product_key": "TOKENS",
        "amount": "5",
        "idempotency_key": "g1",
    }
    found = keep("billing.add_credits", grant)

    unknown_product = replay_rejected(rejected_message_id=found)
    set_product(product_key="TOKENS", name="Tokens", type="quantity")
    done = replay_rejected(rejected_message_id=found)

    assert unknown_product["state"] == "open"
    assert unknown_product["code"] != "x"
    assert done["state"] == "replayed"
    assert rows("SELECT count(*) FROM credit_batches") == [(1,)]


def test_what_is_no_object_or_no_command_needs_an_operator(db: Engine) -> None:
    (text_alone,) = refuse("no event")
    unknown = keep("billing.no_such_task", {})
    job = keep("billing.aggregate_usage", {})

    for found, reason in ((text_alone, "mended"), (unknown, "no command"), (job, "no command")):
        answer = replay_rejected(rejected_message_id=found)
        assert answer["state"] == "open"
        assert reason in answer["errors"][0]["reason"]
    mended = replay_rejected(rejected_message_id=text_alone, payload=event(amount=1))
    assert mended["state"] == "replayed"


def test_a_discarded_message_says_who_and_why_and_is_never_replayed(db: Engine) -> None:
    (found,) = refuse(event(amount="\x00"))

    for _ in range(2):
        discard_rejected(rejected_message_id=found, reason="a test of ours", actor="ada")

    closed = row(found)
    assert (closed.state, closed.resolved_by) == ("discarded", "ada")
    assert closed.errors[-1]["reason"] == "discarded by ada: a test of ours"
    assert closed.payload == event(amount="\x00")
    with pytest.raises(AlreadyResolved, match="discarded by ada"):
        replay_rejected(rejected_message_id=found, payload=event(amount=1))
    # The same payload again is a new message.
    assert refuse(event(amount="\x00")) != [found]


def test_a_replayed_message_can_not_be_discarded(db: Engine) -> None:
    (found,) = refuse(event())
    replay_rejected(rejected_message_id=found, payload=event(amount=1))

    with pytest.raises(AlreadyResolved, match="only an open one can be discarded"):
        discard_rejected(rejected_message_id=found, reason="too late")


def test_an_unknown_message_is_refused(db: Engine) -> None:
    with pytest.raises(rejected.UnknownRejectedMessage, match="999"):
        replay_rejected(rejected_message_id=999)
    with pytest.raises(contract.InvalidMessage, match="rejected_message_id"):
        discard_rejected(rejected_message_id=2**63, reason="x")


def test_filters_find_what_they_name(db: Engine) -> None:
    found = refuse(event(), event(tenant_id="other"), "no event")
    other = keep("billing.set_tenant", {})
    everything = rejected.Filter()

    def ids(wanted: rejected.Filter) -> list[int]:
        with database.transaction() as session:
            newest = [one.id for one in rejected.list_newest(session, wanted, limit=50)]
            until = rejected.newest_id(session)
            oldest = rejected.list_ids(session, wanted, after=0, until=until, limit=50)
        assert list(reversed(newest)) == list(oldest)
        return list(oldest)

    assert set(ids(everything)) == {*found, other}
    assert ids(rejected.Filter(task="billing.set_tenant")) == [other]
    assert ids(rejected.Filter(tenant_id="other")) == [found[1]]
    assert set(ids(rejected.Filter(code="message.invalid"))) == set(found)
    assert ids(rejected.Filter(since=CAME + dt.timedelta(seconds=1))) == []
    assert ids(rejected.Filter(state=states.RejectedState.discarded)) == []
