"""Two beats ring twice as often, and nothing happens twice."""

from pathlib import Path

import pytest

from tests.acceptance import books, story, system
from tests.acceptance.story import TENANTS

pytestmark = pytest.mark.slow


def test_two_beats_at_once_double_nothing(tmp_path: Path) -> None:
    told = story.build(3, chunks=6)
    with system.running(tmp_path) as running:
        running.start_worker("worker")
        running.start_beat("first")
        running.start_beat("second")
        running.await_ready()
        books.open_accounts(running)

        for tenant in TENANTS:
            running.producer.send_all(told.grants(tenant))
            running.producer.send_all([*told.usage(tenant), *told.spendings(tenant)])
            running.producer.send_all([told.subscribe(tenant)])
        running.wait(lambda: books.is_closed(running), within=books.CLOSE_SECONDS)
        books.await_deliveries(running)

        books.assert_exact(running, told)
        assert running.query("SELECT task, code FROM rejected_messages") == []
