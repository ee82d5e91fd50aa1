"""Every published case is run by somebody, or said not to be supported, and why."""

import importlib
import json
from pathlib import Path

import pytest

from tests.unit.rules import vectors


@pytest.fixture(autouse=True, scope="module")
def everybody_claimed(checkout: Path) -> None:
    """Import the tests that run published cases, so that they have said which."""
    for path in sorted((checkout / "tests").rglob("test_*.py")):
        if "vectors.rows(" in path.read_text(encoding="utf-8"):
            module = path.relative_to(checkout).with_suffix("")
            importlib.import_module(".".join(module.parts))


def test_every_row_is_run_or_said_not_to_be_supported() -> None:
    claimed = vectors.CLAIMED
    for row in vectors.every():
        assert row["category"] in vectors.CATEGORIES, f"{row['id']}: unknown category"
        reason = vectors.why_unsupported(row)
        is_run = (row["category"], row["model"]) in claimed and reason is None
        assert is_run != (reason is not None), f"{row['id']}: nobody runs {row['model']}"


def test_a_folder_of_more_rows_is_read_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"id": "X1", "category": "pricing", "model": "made_up", "params": {}, "input": {}}
    (tmp_path / "more.json").write_text(json.dumps([row]))
    monkeypatch.delenv("BILLING_VECTORS", raising=False)
    vectors.every.cache_clear()
    before = vectors.every()
    monkeypatch.setenv("BILLING_VECTORS", str(tmp_path))
    vectors.every.cache_clear()
    try:
        assert vectors.every() == (*before, row)
        with pytest.raises(AssertionError, match="X1: nobody runs made_up"):
            test_every_row_is_run_or_said_not_to_be_supported()
    finally:
        vectors.every.cache_clear()


@pytest.mark.parametrize("text", ["{", "{}", "[1]", '[{"id": "X1"}]'])
def test_a_file_that_can_not_be_read_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    (tmp_path / "more.json").write_text(text)
    monkeypatch.setenv("BILLING_VECTORS", str(tmp_path))
    vectors.every.cache_clear()
    try:
        with pytest.raises(vectors.UnreadableVectors, match=r"more\.json"):
            vectors.every()
    finally:
        vectors.every.cache_clear()
