"""What subscribers build against: equal to the code, true of what is sent, only added to."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from webhooks import compatibility, events, examples, published
from worker import schemas

TOPICS = sorted(events.CATALOGUE)


def test_the_committed_documents_are_what_the_code_says(checkout: Path) -> None:
    wanted = schemas.pages(checkout)

    for path, text in wanted.items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run `make docs`"
    assert set((checkout / "schemas" / "events").iterdir()) <= wanted.keys()


def test_nothing_but_additions_happened_to_what_was_released(checkout: Path) -> None:
    assert compatibility.faults(schemas.released(checkout), schemas.current()) == []


def test_every_topic_was_released(checkout: Path) -> None:
    assert {topic for topic, _ in schemas.released(checkout)} == set(TOPICS)


@pytest.mark.parametrize("topic", TOPICS)
def test_an_example_is_what_is_sent(topic: str) -> None:
    payload = examples.payload(events.CATALOGUE[topic])

    assert payload["type"] == topic
    assert events.CATALOGUE[topic].model_validate(payload["data"]) == examples.data(
        events.CATALOGUE[topic]
    )
    schema = published.data_schema(events.CATALOGUE[topic])
    assert list(payload["data"]) == list(schema["properties"]) == schema["required"]


@pytest.mark.parametrize("topic", TOPICS)
def test_a_schema_forbids_no_field_that_may_be_added(topic: str) -> None:
    assert "additionalProperties" not in json.dumps(published.document(events.CATALOGUE[topic]))


def test_every_reference_of_the_document_leads_somewhere() -> None:
    document = published.asyncapi()

    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [found for item in value.values() for found in references(item)]
        return (
            [found for item in value for found in references(item)]
            if value and isinstance(value, list)
            else []
        )

    found = references(document)
    assert len(found) == 2 * len(TOPICS) + 1
    for reference in found:
        place: Any = document
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]


BEFORE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "amount": {"type": "string", "description": "how much"},
        "reason": {"enum": ["a", "b"], "type": "string"},
        "at": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "page": {"type": "object", "properties": {"title": {"type": "string"}}},
    },
    "required": ["amount", "reason"],
    "$defs": {"Line": {"type": "string", "description": "a line"}},
}


def changed(**changes: Any) -> dict[str, Any]:
    after = copy.deepcopy(BEFORE)
    for name, schema in changes.items():
        if schema is None:
            del after["properties"][name]
        else:
            after["properties"][name] = schema
    return after


@pytest.mark.parametrize(
    "after",
    [
        changed(),
        changed(more={"type": "integer"}),
        changed(amount={"type": "string", "description": "in other words", "title": "Amount"}),
        changed(at={"anyOf": [{"type": "string", "description": "when"}, {"type": "null"}]}),
        {**changed(more={"type": "string"}), "required": ["amount", "reason", "more"]},
        {**changed(), "required": ["amount", "reason", "at"]},
        {**changed(), "$defs": {"Line": {"type": "string", "description": "in other words"}}},
    ],
)
def test_what_is_added_or_said_in_other_words_breaks_nothing(after: dict[str, Any]) -> None:
    assert list(compatibility.changes(BEFORE, after)) == []


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (changed(amount=None), "amount is gone"),
        (changed(amount={"type": "integer"}), "field amount was"),
        (changed(amount={"anyOf": [{"type": "string"}, {"type": "null"}]}), "field amount was"),
        (changed(reason={"enum": ["a", "b", "c"], "type": "string"}), "field reason was"),
        (
            changed(page={"type": "object", "properties": {"title": {"type": "integer"}}}),
            "field page was",
        ),
        (changed(description={"type": "string"}, at={"type": "string"}), "field at was"),
        ({**changed(), "required": ["amount"]}, "reason was always there"),
        ({**changed(), "$defs": {"x": {}}}, "refer to"),
    ],
)
def test_what_a_receiver_could_not_take_is_named(after: dict[str, Any], said: str) -> None:
    assert said in "; ".join(compatibility.changes(BEFORE, after))


@pytest.mark.parametrize(
    ("current", "said"),
    [
        ({("t", 1): BEFORE}, None),
        ({("t", 2): changed(amount=None)}, None),
        ({("t", 2): BEFORE, ("new", 1): BEFORE}, None),
        ({("t", 1): changed(amount=None)}, "takes schema_version 2"),
        ({("t", 3): BEFORE}, "must be 1 or 2"),
        ({("new", 1): BEFORE}, "t: the topic is gone"),
    ],
)
def test_a_break_takes_the_next_version_and_no_topic_goes(
    current: dict[tuple[str, int], Any], said: str | None
) -> None:
    faults = compatibility.faults({("t", 1): BEFORE}, current)

    assert (said is None) == (faults == [])
    assert (said or "") in "; ".join(faults)


def test_each_topic_has_versions_of_its_own() -> None:
    released = {("t", 1): BEFORE, ("other", 1): BEFORE, ("other", 2): BEFORE}

    assert not compatibility.faults(released, {("t", 1): BEFORE, ("other", 2): BEFORE})


def test_a_topic_never_goes_back_to_an_older_version() -> None:
    released = {("t", 1): BEFORE, ("t", 2): BEFORE}

    assert compatibility.faults(released, {("t", 1): BEFORE})
    assert not compatibility.faults(released, {("t", 2): BEFORE})


def test_a_release_keeps_what_is_and_is_refused_when_it_breaks_a_promise(tmp_path: Path) -> None:
    assert schemas.release(tmp_path) == []
    kept = tmp_path / "schemas" / "released" / "billing.ping.v1.json"
    assert schemas.released(tmp_path) == schemas.current()
    promised = json.loads(kept.read_text())
    promised["properties"]["more"] = {"type": "string"}
    kept.write_text(json.dumps(promised))

    [fault] = schemas.release(tmp_path)

    assert fault.startswith("billing.ping: field more is gone")
    assert json.loads(kept.read_text()) == promised


def test_documents_of_no_topic_are_taken_away(tmp_path: Path) -> None:
    stray = tmp_path / "schemas" / "events" / "billing.gone.json"
    stray.parent.mkdir(parents=True)
    stray.write_text("{}")

    schemas.write(tmp_path)

    assert not stray.exists()
    assert (tmp_path / "schemas" / "asyncapi.json").exists()
