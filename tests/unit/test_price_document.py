"""The examples of docs/prices.md cost what it says."""

import json
import re
from pathlib import Path

from models.rules.pricing import Model
from tasks import quotes

EXAMPLE = re.compile(r"```json\n(.+?)\n```\n→ (\S+)")


def test_every_example_costs_what_the_document_says(checkout: Path) -> None:
    text = (checkout / "docs" / "prices.md").read_text(encoding="utf-8")
    examples = EXAMPLE.findall(text)

    assert len(examples) == text.count("```json")
    for written, amount in examples:
        row = json.loads(written)
        quoted = quotes.answer(row["model"], row["params"], row["currency"], row["input"])
        assert (written, quoted["amount"]) == (written, amount)
    shown = {json.loads(written)["model"] for written, _ in examples}
    assert shown == set(Model) - {Model.fixed}
