"""Imports as processes: interrupted and killed in the middle, large ones in little memory."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine

from worker.imports import run

pytestmark = pytest.mark.slow

ROWS = 4 * run.CHUNK
GIVE_UP_SECONDS = 120.0

MOST_GROWTH = 64 * 1024
"""KiB that an import of 200,000 rows may take beyond one of 20,000."""

IMPORT = ("usage", "import", "--tenant=acme", "--metric=tokens=n", "--at=at", "--json")

MEASURE = """
import resource, sys
from worker import boot
from worker.imports import mapping, recording, run
boot.prepare()
columns = mapping.Columns(tenant_id="acme", metrics=[("tokens", "n")], at="at")
for name in sys.argv[1:]:
    tally = run.Tally()
    run.run([name], run.Options(columns), tally, recording=recording.storing(),
            watch=lambda _: None)
    print(tally.accepted, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def table(rows: int, at: str = "2024-05-01") -> bytes:
    return b"at,n\n" + b"".join(f"{at},{n % 7}\n".encode() for n in range(rows))


def billing(*words: str, database_url: str, **options: object) -> subprocess.Popen[bytes]:
    environment = os.environ | {"DATABASE_URL": database_url}
    return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
        [sys.executable, "-m", "worker", *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def count(database_url: str) -> tuple[int, int]:
    """Events stored, and their sum."""
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        row = connection.execute(
            "SELECT count(*), coalesce(sum(amount), 0)::bigint FROM usage_events"
        ).fetchone()
    assert row is not None
    return row[0], row[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_import_ended_in_the_middle_is_made_whole_by_another_run(
    database_url: str, tmp_path: Path, number: signal.Signals
) -> None:
    file = tmp_path / "usage.csv"
    file.write_bytes(table(ROWS))
    half = file.read_bytes()[: file.stat().st_size // 2]

    importing = billing(*IMPORT, "-", database_url=database_url, stdin=subprocess.PIPE)
    with importing:
        assert importing.stdin is not None
        importing.stdin.write(half)
        importing.stdin.flush()
        deadline = time.monotonic() + GIVE_UP_SECONDS
        while count(database_url)[0] < run.CHUNK:
            assert importing.poll() is None, "it ended before it was interrupted"
            assert time.monotonic() < deadline, "nothing was stored"
            time.sleep(0.02)
        importing.send_signal(number)
        out, err = importing.communicate(timeout=GIVE_UP_SECONDS)
    stored, amount = count(database_url)
    again = billing(*IMPORT, str(file), database_url=database_url)
    answer = json.loads(again.communicate(timeout=GIVE_UP_SECONDS)[0])

    assert 0 < stored < ROWS
    # Whole chunks, one after the other: the first rows, and no other.
    assert amount == sum(n % 7 for n in range(stored))
    if number == signal.SIGINT:
        told = json.loads(out)
        assert importing.returncode == 130
        assert (told["accepted"], told["stopped_by"]) == (stored, "interrupted")
        assert b"run it again" in err
    assert again.returncode == 0
    assert (answer["duplicate"], answer["accepted"]) == (stored, ROWS - stored)
    assert count(database_url) == (ROWS, sum(n % 7 for n in range(ROWS)))


def test_a_large_file_takes_no_more_memory_than_a_small_one(
    database_url: str, tmp_path: Path
) -> None:
    small, large = tmp_path / "small.csv", tmp_path / "large.csv"
    small.write_bytes(table(20_000))
    large.write_bytes(table(200_000, at="2024-05-02"))

    measured = subprocess.run(
        [sys.executable, "-c", MEASURE, str(small), str(large)],
        env=os.environ | {"DATABASE_URL": database_url},
        check=True,
        capture_output=True,
        timeout=2 * GIVE_UP_SECONDS,
    )

    (few, before), (many, after) = (map(int, line.split()) for line in measured.stdout.splitlines())
    assert (few, many) == (20_000, 200_000)
    assert after - before < MOST_GROWTH


def test_without_a_terminal_progress_is_lines(db: Engine, database_url: str) -> None:
    importing = billing(*IMPORT, "-", database_url=database_url, stdin=subprocess.PIPE)
    out, err = importing.communicate(table(10), timeout=GIVE_UP_SECONDS)

    assert (importing.returncode, json.loads(out)["accepted"]) == (0, 10)
    assert err == b""
