"""Usage leaves for files when no invoice can need it any more, and nothing is billed twice."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from models import database
from models.store.horizon import UsageArchived
from models.store.usage_void import UnknownUsage
from tasks import usage_chunk
from tasks.usage import record_usage
from tasks.usage_refused import UsageConflict
from tasks.usage_voids import void_usage
from tests.integration import archive_world as world
from tests.integration.archive_world import event
from tests.integration.billing_world import instant, query


@pytest.fixture(autouse=True)
def folder(db: Engine, tmp_path: Path) -> Path:
    """A folder for archives, and the rule that usage goes there."""
    world.keep_in(tmp_path)
    return tmp_path


def test_a_billed_month_leaves_and_its_totals_stay(folder: Path) -> None:
    world.on_a_plan()
    world.record(
        event("a", "2026-01-05T10:00:00Z", "2.50", metadata={"model": "x", "n": 1.0}),
        event("b", "2026-01-05T11:00:00Z", "4"),
        event("c", "2026-02-07T00:00:00Z", "8"),
        event("d", "2026-01-31T23:59:59.999999Z", "1", metric="disk"),
    )
    world.bill()
    before = world.totals(), world.totals("month")

    answer = world.archive()

    assert answer == {**world.NOTHING, "closed": 1, "written": 2, "purged": 4}
    assert world.keys() == 0
    assert world.keys("usage_purged_keys") == 4
    assert (world.totals(), world.totals("month")) == before
    january, _ = world.files(folder)
    assert [each["idempotency_key"] for each in world.lines(january)] == ["a", "b", "d"]
    assert world.lines(january)[0] == {
        "tenant_id": "acme",
        "metric": "api",
        "idempotency_key": "a",
        "amount": "2.50",
        "at": "2026-01-05T10:00:00+00:00",
        "received_at": "2026-05-01T00:00:00+00:00",
        "metadata": {"model": "x", "n": 1.0},
        "void_reason": None,
        "void_actor": None,
        "voided_at": None,
    }
    assert query(
        "SELECT state, event_count, totals, first_at FROM usage_archives ORDER BY period_start"
    ) == [
        (
            "purged",
            3,
            {"api": {"events": 2, "amount": "6.5"}, "disk": {"events": 1, "amount": "1"}},
            instant("2026-01-05T10:00:00"),
        ),
        (
            "purged",
            1,
            {"api": {"events": 1, "amount": "8"}},
            instant("2026-02-07"),
        ),
    ]
    assert world.archive() == world.NOTHING


def a_purged_january(*more: world.Event) -> None:
    world.on_a_plan()
    world.record(event("a", "2026-01-05T10:00:00Z", "2.50", metadata={"n": 1.0}), *more)
    world.bill()
    assert world.archive()["purged"] == 1 + len(more)


SAME = event("a", "2026-01-05T11:00:00+01:00", "2.5", metadata={"n": 1})


def test_a_purged_event_that_is_sent_again_is_a_duplicate(folder: Path) -> None:
    a_purged_january()

    answer = world.record(SAME, event("new", "2026-05-05T00:00:00Z"), SAME, as_of=world.OLD)

    assert answer["verdicts"] == ["duplicate", "accepted", "duplicate"]
    assert world.keys() == 1
    assert record_usage(**SAME, as_of=world.OLD)["verdicts"] == ["duplicate"]


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"amount": "2.51"}, "amount"),
        ({"at": "2026-01-05T10:00:01Z"}, "at"),
        ({"at": "2026-05-05T10:00:00Z"}, "at"),
        ({"at": None}, "at"),
        ({"metadata": {"n": 2}}, "metadata"),
        ({"metadata": None}, "metadata"),
    ],
)
def test_a_purged_events_key_with_other_content_is_a_conflict(
    folder: Path, changed: dict[str, Any], field: str
) -> None:
    a_purged_january()

    answer = world.record({**SAME, **changed}, as_of=world.OLD)

    assert answer["verdicts"] == ["conflict"]
    assert answer["refused"][0]["field"] == field
    assert world.keys() == 0
    with pytest.raises(UsageConflict, match=field):
        record_usage(**{**SAME, **changed}, as_of=world.OLD)


def test_an_event_sent_without_an_instant_is_known_again_after_its_purge(folder: Path) -> None:
    world.on_a_plan()
    arrived = instant("2026-01-10T08:00:00")
    world.record(event("bare", None), as_of=arrived)
    world.bill()
    assert world.archive()["purged"] == 1

    bare, dated = event("bare", None), event("bare", arrived.isoformat())
    assert world.record(bare, dated, as_of=world.OLD)["verdicts"] == ["duplicate"] * 2
    assert world.record({**bare, "amount": "2"}, as_of=world.OLD)["verdicts"] == ["conflict"]


def test_usage_of_a_closed_month_is_refused_by_name_and_kept(folder: Path) -> None:
    a_purged_january()
    late, open_one = event("late", "2026-03-31T23:59:59Z"), event("open", "2026-04-01T00:00:00Z")

    answer = world.record(late, open_one, event("bare", None), as_of=world.OLD)

    assert answer["verdicts"] == ["rejected", "accepted", "accepted"]
    assert (answer["rejected"], answer["accepted"]) == (1, 2)
    (refused,) = answer["refused"]
    assert refused["field"] == "at"
    assert "2026-03-31T23:59:59+00:00 lies before 2026-04-01T00:00:00+00:00" in refused["reason"]
    assert query("SELECT code, payload ->> 'at', tenant_id FROM rejected_messages") == [
        ("usage.archived", "2026-03-31T23:59:59Z", "acme")
    ]
    with pytest.raises(UsageArchived) as caught:
        record_usage(**event("late too", "2026-01-31T00:00:00Z"), as_of=world.OLD)
    assert caught.value.field == "at"


def test_the_first_of_a_key_that_is_late_does_not_hide_the_second(folder: Path) -> None:
    a_purged_january()

    answer = world.record(
        event("x", "2026-01-07T00:00:00Z"), event("x", "2026-05-07T00:00:00Z"), as_of=world.OLD
    )

    assert answer["verdicts"] == ["conflict", "accepted"]
    assert query("SELECT at FROM usage_events") == [(instant("2026-05-07"),)]


def test_a_cloud_event_that_is_too_late_is_told_so_by_its_own_words(folder: Path) -> None:
    a_purged_january()
    late = {
        "specversion": "1.0",
        "id": "1",
        "source": "s",
        "type": "api",
        "subject": "acme",
        "time": "2026-01-07T00:00:00Z",
    }

    assert world.record(late, as_of=world.OLD)["refused"][0]["field"] == "time"


def test_other_tenants_of_the_chunk_are_recorded_as_ever(folder: Path) -> None:
    a_purged_january()

    answer = world.record(
        event("a", "2026-01-05T10:00:00Z", tenant_id="bob"),
        SAME,
        event("a", "2026-01-05T10:00:00Z", tenant_id="bob"),
        event("a", "2026-01-05T10:00:00Z", "7", tenant_id="bob"),
    )

    assert answer["verdicts"] == ["accepted", "duplicate", "duplicate", "conflict"]


def test_a_dry_run_tells_the_same_and_stores_nothing(folder: Path) -> None:
    a_purged_january()
    sent = [
        SAME,
        {**SAME, "amount": "3"},
        event("late", "2026-01-07T00:00:00Z"),
        event("new", "2026-05-07T00:00:00Z"),
        event("bob", "2026-01-07T00:00:00Z", tenant_id="bob"),
    ]

    with database.transaction() as session:
        told = usage_chunk.preview(session, usage_chunk.look(sent, now=world.OLD))

    assert (told["accepted"], told["duplicate"], told["conflict"], told["rejected"]) == (2, 1, 1, 1)
    assert [(each["index"], each["verdict"]) for each in told["refused"]] == [
        (1, "conflict"),
        (2, "rejected"),
    ]
    assert world.keys() == 0


def test_after_its_time_a_key_is_forgotten_and_its_event_refused(folder: Path) -> None:
    a_purged_january()
    in_time = world.OLD + world.REMEMBERED - dt.timedelta(seconds=1)
    late = world.OLD + world.REMEMBERED

    assert world.archive(in_time)["forgotten"] == 0
    assert world.record(SAME, as_of=late)["verdicts"] == ["duplicate"]
    assert world.archive(late)["forgotten"] == 1

    assert world.keys("usage_purged_keys") == 0
    assert query("SELECT state FROM usage_archives") == [("forgotten",)]
    answer = world.record(SAME, as_of=late)
    assert answer["verdicts"] == ["rejected"]
    assert query("SELECT code FROM rejected_messages") == [("usage.archived",)]
    assert world.archive(late) == world.NOTHING


def test_what_is_closed_can_not_be_voided_and_what_was_voided_stays_so(folder: Path) -> None:
    world.on_a_plan()
    world.record(event("a", "2026-01-05T10:00:00Z", "5"), event("wrong", "2026-01-06", "7"))
    named: Any = {"tenant_id": "acme", "metric": "api", "reason": "a test"}
    first = void_usage(**named, idempotency_key="wrong", as_of=world.ARRIVED)
    world.bill()
    assert world.archive()["purged"] == 2
    before = world.totals()

    with pytest.raises(UsageArchived, match="can not be voided"):
        void_usage(**named, idempotency_key="a", as_of=world.OLD)
    with pytest.raises(UnknownUsage):
        void_usage(**named, idempotency_key="never", as_of=world.OLD)
    assert void_usage(**named, idempotency_key="wrong", as_of=world.OLD) == first

    assert query("SELECT count(*) FROM usage_touched_days") == [(0,)]
    assert world.totals() == before
    assert before[0][3:] == (5, 1)
    (file,) = world.files(folder)
    assert [line["void_reason"] for line in world.lines(file)] == [None, "a test"]

    # The void stands for good, and so does the key by which it is known.
    much_later = world.OLD + world.REMEMBERED
    assert world.archive(much_later)["forgotten"] == 1
    assert void_usage(**named, idempotency_key="wrong", as_of=much_later) == first


def test_an_event_that_is_closed_and_not_purged_yet_can_not_be_voided(folder: Path) -> None:
    world.on_a_plan()
    world.record(event("a", "2026-01-05T10:00:00Z", "5"))
    world.bill()
    world.close_only()

    with pytest.raises(UsageArchived, match="2026-04-01"):
        void_usage(
            tenant_id="acme",
            metric="api",
            idempotency_key="a",
            reason="a test",
            as_of=world.OLD,
        )
    assert world.record(event("a", "2026-01-05T10:00:00Z", "5"))["verdicts"] == ["duplicate"]
    assert world.record(event("b", "2026-01-05T10:00:00Z"))["verdicts"] == ["rejected"]
