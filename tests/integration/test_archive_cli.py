"""`billing usage archive|archives|restore`, as an operator sees them."""

import json
import re
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tests.integration import archive_world as world
from tests.integration.archive_world import event
from tests.integration.billing_world import query
from tests.integration.command import Command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for archives."""
    return tmp_path


@pytest.fixture
def billing(
    db: Engine,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    database_url: str,
) -> Command:
    monkeypatch.setenv("BILLING_USAGE_ARCHIVE_AFTER_DAYS", "60")
    monkeypatch.setenv("BILLING_USAGE_ARCHIVE_FOLDER", str(folder))
    return Command(monkeypatch, capsys, database_url)


def a_billed_winter() -> None:
    world.on_a_plan()
    world.record(
        event("a", "2026-01-05T10:00:00Z", "2.5"),
        event("b", "2026-01-06T10:00:00Z", "3", metric="disk"),
        event("c", "2026-02-05T10:00:00Z", "4"),
        event("free", "2026-01-05T10:00:00Z", tenant_id="[free]"),
    )
    world.bill()


def rows(shown: str) -> list[list[str]]:
    return [re.findall(r"[^│\s][^│]*[^│\s]|[^│\s]", line) for line in shown.splitlines()]


def test_a_dry_run_says_what_would_leave_and_why_the_rest_stays(billing: Command) -> None:
    a_billed_winter()

    shown = billing("usage", "archive", "--dry-run")
    answer = json.loads(billing("usage", "archive", "--dry-run", "--json").out)

    assert shown.status == 0
    assert [
        "[free]",
        "2026-01-05T10:00:00+00:00",
        "stays",
        "0",
        "no final invoice reaches further",
    ] in rows(shown.out)
    acme = {one["tenant_id"]: one for one in answer}["acme"]
    assert (acme["events"], acme["open_since"]) == (3, "2026-01-05T10:00:00+00:00")
    assert query("SELECT 1 FROM usage_horizons") == []
    assert world.keys() == 4


def test_what_is_old_leaves_and_is_listed(billing: Command, folder: Path) -> None:
    a_billed_winter()

    ended = billing("usage", "archive")
    again = json.loads(billing("usage", "archive", "--json").out)
    listed = billing("usage", "archives").out
    of_acme = json.loads(billing("usage", "archives", "acme", "--json").out)

    assert ended.status == 0
    assert ended.out == "tenants closed 1, files written 2, events purged 3, keys forgotten 0\n"
    assert again["purged"] == 0
    january = next(row for row in rows(listed) if "2026-01" in row)
    assert january[1:6] == ["acme", "2026-01", "1", "purged", "2"]
    assert [one["month"] for one in of_acme] == ["2026-02", "2026-01"]
    assert of_acme[1]["totals"] == {
        "api": {"events": 1, "amount": "2.5"},
        "disk": {"events": 1, "amount": "3"},
    }
    assert (folder / of_acme[1]["file"]).stat().st_size == of_acme[1]["bytes"]
    assert billing("usage", "archives", "nobody").out == "no usage was archived\n"


def test_events_of_an_archive_are_printed(billing: Command, folder: Path) -> None:
    a_billed_winter()
    billing("usage", "archive")
    january = world.files(folder)[0]

    whole = billing("usage", "restore", str(january))
    disk = billing("usage", "restore", str(january.relative_to(folder)), "--metric", "disk")
    one = billing("usage", "restore", str(january), "--key", "a")

    assert [json.loads(line) for line in whole.out.splitlines()] == world.lines(january)
    assert [json.loads(line)["idempotency_key"] for line in disk.out.splitlines()] == ["b"]
    assert [json.loads(line)["amount"] for line in one.out.splitlines()] == ["2.5"]


def test_files_are_verified_one_or_all(billing: Command, folder: Path) -> None:
    a_billed_winter()
    assert billing("usage", "restore", "--verify").out == "no usage was archived\n"
    billing("usage", "archive")
    january, february = world.files(folder)

    assert billing("usage", "restore", "--verify").out == "2 of 2 files are what was written\n"
    january.write_bytes(january.read_bytes() + b"x")
    everything = billing("usage", "restore", "--verify")
    one = billing("usage", "restore", str(february), "--verify")
    spoiled = billing("usage", "restore", str(january))

    assert everything.status == 1
    assert f"{january} is not what was written: bytes is" in everything.out
    assert "1 of 2 files are what was written" in everything.out
    assert (one.status, one.out) == (0, "1 of 1 files are what was written\n")
    assert (spoiled.status, spoiled.out) == (1, "")
    assert "is not what was written" in spoiled.err


def test_a_spoiled_file_is_reported_and_written_again(
    billing: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_billed_winter()
    with monkeypatch.context() as patched:
        patched.setattr("tasks.purging.purge", lambda _: 0)
        billing("usage", "archive")
    world.files(folder)[0].unlink()

    unsound = billing("usage", "archive")
    ((archive_id,),) = query("SELECT id FROM usage_archives WHERE state = 'written'")
    mended = billing("usage", "archive", "--again", str(archive_id))

    assert unsound.status == 1
    assert "can not be read: No such file or directory" in unsound.out
    assert (mended.status, world.keys()) == (0, 1)
    late = billing("usage", "archive", "--again", str(archive_id))
    assert late.status == 1
    assert f"archive {archive_id} is purged" in late.err


@pytest.mark.parametrize(
    ("words", "status", "complaint"),
    [
        (("restore",), 2, "give a FILE, or --verify"),
        (("restore", "nothing.jsonl.gz"), 1, "no archive of usage is named 'nothing.jsonl.gz'"),
        (("archive", "--again", "5"), 1, "no archive of usage has the id 5"),
    ],
)
def test_what_makes_no_sense_is_said_in_one_line(
    billing: Command, words: tuple[str, ...], status: int, complaint: str
) -> None:
    ended = billing("usage", *words)

    assert ended.status == status
    assert complaint in " ".join(ended.err.replace("│", " ").split())
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        ("BILLING_USAGE_ARCHIVE_AFTER_DAYS", "", "AFTER_DAYS is not set"),
        ("BILLING_USAGE_ARCHIVE_AFTER_DAYS", "34", "greater than or equal to 35"),
        ("BILLING_USAGE_ARCHIVE_FOLDER", "", "must be an absolute path"),
        ("BILLING_USAGE_ARCHIVE_FOLDER", "here", "it is here"),
        ("BILLING_USAGE_ARCHIVE_FOLDER", "/no/such", "/no/such, is not there"),
        ("BILLING_USAGE_KEYS_REMEMBERED_DAYS", "0", "greater than or equal to 1"),
        ("BILLING_USAGE_ARCHIVE_UNINVOICED", "maybe", "valid boolean"),
    ],
)
def test_a_setting_that_can_not_be_used_is_named(
    billing: Command,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    complaint: str,
) -> None:
    monkeypatch.setenv(variable, value)

    ended = billing("usage", "archive")

    assert ended.status != 0
    assert complaint in ended.err
    assert "Traceback" not in ended.err
