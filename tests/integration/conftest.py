"""What tests of more than one file here ask for."""

import pytest
from sqlalchemy import Engine

from tests.integration.command import Command


@pytest.fixture
def billing(
    db: Engine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    database_url: str,
) -> Command:
    """The command of a host whose database is empty, run in this process."""
    return Command(monkeypatch, capsys, database_url)
