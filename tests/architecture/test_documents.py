"""Documents that are written from the code say what the code says."""

import re
from pathlib import Path

import pytest

from worker import reference


def test_generated_documents_are_up_to_date(checkout: Path) -> None:
    for path, text in reference.pages(checkout).items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run `make docs`"


def documents(checkout: Path) -> list[Path]:
    return [*checkout.glob("*.md"), *(checkout / "docs").rglob("*.md")]


def test_links_between_documents_lead_somewhere(checkout: Path) -> None:
    for document in documents(checkout):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_decisions_are_short_and_numbered_in_order(checkout: Path) -> None:
    decisions = sorted((checkout / "docs" / "decisions").glob("*.md"))

    assert [int(path.name[:4]) for path in decisions] == list(range(1, len(decisions) + 1))
    for path in decisions:
        assert len(path.read_text().splitlines()) <= 50, path.name


@pytest.mark.parametrize("word", ["TODO", "FIXME"])
def test_nothing_is_put_off(checkout: Path, word: str) -> None:
    for room in ("worker", "tasks", "webhooks", "models"):
        for path in (checkout / room).rglob("*.py"):
            assert word not in path.read_text(), path
