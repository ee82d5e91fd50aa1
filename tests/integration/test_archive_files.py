"""Files of archived usage: whole or not there, and what is not sound purges nothing."""

import gzip
import hashlib
import stat
from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine

from models import database
from models.store import usage_archive
from models.store.usage_archive import ArchiveNotWritten, UnknownArchive
from tasks import archive_file
from tasks.archive_file import ArchiveFolderUnusable
from tests.integration import archive_world as world
from tests.integration.archive_world import event
from tests.integration.billing_world import instant, query


@pytest.fixture(autouse=True)
def folder(db: Engine, tmp_path: Path) -> Path:
    """A folder for archives, and the rule that usage goes there."""
    world.keep_in(tmp_path)
    return tmp_path


def a_billed_january(count: int = 4, tenant_id: str = "acme") -> None:
    world.on_a_plan(tenant_id)
    events = [
        event(
            f"k{number}",
            f"2026-01-{1 + number % 28:02}T10:00:00Z",
            str(number),
            metric=("api", "disk")[number % 2],
            tenant_id=tenant_id,
        )
        for number in range(count)
    ]
    world.record(*events)
    world.bill()


@pytest.fixture
def written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one file of a January that was written and not read back yet."""
    a_billed_january()
    with monkeypatch.context() as patched:
        patched.setattr("tasks.purging.purge", lambda _: 0)
        assert world.archive()["written"] == 1
    (path,) = world.files(folder)
    return path


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def lost(path: Path) -> None:
    path.unlink()


def one_event_less(path: Path) -> None:
    with gzip.open(path) as opened:
        kept = opened.readlines()[:-1]
    path.write_bytes(gzip.compress(b"".join(kept)))


def one_amount_changed(path: Path) -> None:
    with gzip.open(path) as opened:
        text = opened.read()
    path.write_bytes(gzip.compress(text.replace(b'"amount":"3"', b'"amount":"4"')))


SPOILED: list[Callable[[Path], None]] = [
    cut_short,
    emptied,
    flipped,
    lost,
    one_event_less,
    one_amount_changed,
]


@pytest.mark.parametrize("spoil", SPOILED)
def test_a_file_that_is_not_what_was_written_purges_nothing(
    written: Path, spoil: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    spoil(written)

    answer = world.archive()

    assert (answer["purged"], len(answer["unsound"])) == (0, 1)
    assert str(written) in answer["unsound"][0]
    assert "usage.archive_unsound" in caplog.text
    assert world.keys() == 4
    assert world.keys("usage_purged_keys") == 0
    assert query("SELECT state FROM usage_archives") == [("written",)]


def test_a_file_whose_record_was_changed_with_it_is_held_against_the_events(written: Path) -> None:
    """Bytes and sums agree with the record: the events themselves do not."""
    one_amount_changed(written)
    found = archive_file._measured(written, usage_archive.File("x", 0, b"", 0, {}, None, None))
    data = written.read_bytes()
    ((name,),) = query("SELECT name FROM usage_archives")
    with database.transaction() as session:
        archive = usage_archive.named(session, name)
        archive.totals, archive.byte_count = found.totals, len(data)
        archive.sha256 = hashlib.sha256(data).digest()
        session.flush()

    answer = world.archive()

    assert answer["purged"] == 0
    assert "holds 4 events, and 3 of them are stored as it says" in answer["unsound"][0]
    assert world.keys() == 4
    assert world.keys("usage_purged_keys") == 0


def test_a_file_that_is_spoiled_while_its_events_go_stops_their_going(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_billed_january()
    with monkeypatch.context() as patched:
        patched.setattr("tasks.purging._let_holders_end", lambda _: False)
        world.archive()
    assert query("SELECT state FROM usage_archives") == [("verified",)]
    cut_short(world.files(folder)[0])

    assert len(world.archive()["unsound"]) == 1
    assert world.keys() == 4
    assert query("SELECT state FROM usage_archives") == [("verified",)]


def test_a_lost_file_is_written_again_when_somebody_says_so(written: Path) -> None:
    first = written.read_bytes()
    lost(written)
    ((archive_id,),) = query("SELECT id FROM usage_archives")
    with database.transaction() as session:
        usage_archive.write_again(session, archive_id)

    answer = world.archive()

    assert (answer["written"], answer["purged"]) == (1, 4)
    assert written.read_bytes() == first
    with pytest.raises(ArchiveNotWritten, match="purged"), database.transaction() as session:
        usage_archive.write_again(session, archive_id)
    with pytest.raises(UnknownArchive), database.transaction() as session:
        usage_archive.write_again(session, 999_999)


def test_a_month_of_many_events_has_several_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.archiving.EVENTS_OF_A_FILE", 4)
    monkeypatch.setattr("models.store.archive_lines.CHUNK", 3)
    monkeypatch.setattr("tasks.purging.PURGE_CHUNK", 2)
    a_billed_january(12)

    assert world.archive() == {**world.NOTHING, "closed": 1, "written": 3, "purged": 12}

    found = [line["idempotency_key"] for path in world.files(folder) for line in world.lines(path)]
    assert found == [f"k{number}" for number in (*range(0, 12, 2), *range(1, 12, 2))]
    assert query("SELECT part, event_count, state, totals FROM usage_archives ORDER BY part") == [
        (1, 4, "purged", {"api": {"events": 4, "amount": "12"}}),
        (
            2,
            4,
            "purged",
            {"api": {"events": 2, "amount": "18"}, "disk": {"events": 2, "amount": "4"}},
        ),
        (3, 4, "purged", {"disk": {"events": 4, "amount": "32"}}),
    ]


def test_a_part_that_is_written_again_ends_where_it_ended(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_billed_january(10)
    with monkeypatch.context() as patched:
        patched.setattr("tasks.archiving.EVENTS_OF_A_FILE", 4)
        patched.setattr("tasks.purging.purge", lambda _: 0)
        world.archive()
    first, _, _ = world.files(folder)
    lost(first)
    ((archive_id,),) = query("SELECT id FROM usage_archives WHERE part = 1")
    with database.transaction() as session:
        usage_archive.write_again(session, archive_id)

    assert world.archive()["purged"] == 10
    assert [len(world.lines(path)) for path in world.files(folder)] == [4, 4, 2]


def test_only_we_can_read_what_is_written(written: Path, folder: Path) -> None:
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    assert stat.S_IMODE(written.parent.stat().st_mode) == 0o700


TENANTS = ["../up", ".", "a/b", "a_b", "a\\b", "東京" * 32, "A", "a", "x" * 64]


def test_a_tenant_of_any_name_has_a_folder_of_its_own(folder: Path) -> None:
    start, zone = instant("2026-01-01"), ZoneInfo("UTC")
    names = [
        archive_file.name_of(tenant_id, start=start, zone=zone, part=1) for tenant_id in TENANTS
    ]

    assert all((folder / name).resolve().parent.parent == folder for name in names)
    assert all(name.isascii() and len(name) <= 128 for name in names)
    # Also where "A" and "a" are the same name.
    assert len({name.lower() for name in names}) == len(TENANTS)


def test_a_file_is_named_by_its_month_and_where_that_is_cut_by_its_beginning() -> None:
    tokyo = ZoneInfo("Asia/Tokyo")
    whole, cut = instant("2026-01-31T15:00:00"), instant("2026-02-01T00:00:00")

    names = [
        archive_file.name_of("acme", start=start, zone=tokyo, part=part).split("/")[1]
        for start, part in ((whole, 1), (cut, 12))
    ]

    assert names == ["2026-02-part001.jsonl.gz", "2026-02-from-20260201T0000Z-part012.jsonl.gz"]


def test_a_folder_that_can_not_be_written_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_billed_january()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(ArchiveFolderUnusable, match="No space left on device"):
            world.archive()

    assert query("SELECT state FROM usage_archives") == [("due",)]
    assert [path for path in folder.rglob("*.gz*") if path.is_file()] == []
    assert world.archive()["purged"] == 4
