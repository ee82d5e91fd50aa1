"""A worker does not start on a database that it does not fit, and says so in one line."""

import json
import os
import subprocess
import sys

import pytest
from sqlalchemy import Engine, text

from models import migrations
from worker import boot, settings

pytestmark = pytest.mark.slow

SECONDS = 120


def test_a_worker_refuses_an_empty_database(empty_database: Engine, broker_url: str) -> None:
    ended = run_worker(url_of(empty_database), broker_url)

    assert ended.returncode == boot.EXIT_REFUSED
    line = only_line(ended.stderr)
    assert line["event"] == "start.refused"
    assert line["reason"] == (
        f"the database is at revision none, this program needs {migrations.head()}; run "
        "`billing migrate`"
    )


def test_a_worker_refuses_a_database_of_a_newer_program(
    empty_database: Engine, broker_url: str
) -> None:
    migrations.upgrade(empty_database)
    with empty_database.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        # As a migration leaves it that says `breaks_older`: only its own release works there.
        connection.execute(text(f"COMMENT ON TABLE alembic_version IS '{migrations.FITS}9999'"))

    ended = run_worker(url_of(empty_database), broker_url)

    assert ended.returncode == boot.EXIT_REFUSED
    assert "at revision 9999, which is newer" in only_line(ended.stderr)["reason"]


def test_a_worker_refuses_keys_that_it_can_not_read(database_url: str, broker_url: str) -> None:
    ended = run_worker(database_url, broker_url, BILLING_MASTER_KEYS="hunter2")

    assert ended.returncode == boot.EXIT_REFUSED
    assert only_line(ended.stderr)["cause"] == "InvalidSettings"
    assert "hunter2" not in ended.stderr


def run_worker(
    database_url: str, broker_url: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a worker as Celery's own command does, until it ends."""
    chosen = {"DATABASE_URL": database_url, "BROKER_URL": broker_url, "BILLING_LOG": "json"}
    return subprocess.run(
        [sys.executable, "-m", "celery", "-q", "-A", "worker", "worker", "--concurrency=1"],
        cwd=settings.ROOT,
        # Celery warns of root in words of its own.
        env={**os.environ, **chosen, **variables, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )


def url_of(engine: Engine) -> str:
    """The URL of an engine, password and all."""
    return engine.url.render_as_string(hide_password=False)


def only_line(said: str) -> dict[str, str]:
    """The one line that was logged."""
    (line,) = said.splitlines()
    parsed: dict[str, str] = json.loads(line)
    return parsed
