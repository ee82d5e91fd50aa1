"""What released producers send is taken today: their schemas by the rule, their messages too."""

import ast
import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tasks import compatibility
from tasks.spec import REGISTRY
from tests import recorded
from worker import schemas
from worker.schedule import TIMETABLE

VERSION = "0.1.0"


def test_nothing_that_was_released_is_refused_today(checkout: Path) -> None:
    assert schemas.released_messages(checkout).keys() >= {VERSION}
    assert schemas.broken_messages(checkout) == []


def test_every_released_task_has_a_recorded_message(checkout: Path) -> None:
    kept: dict[str, set[str]] = {}
    for version, message in recorded.messages(checkout):
        kept.setdefault(version, set()).add(message["headers"]["task"])

    for version, found in schemas.released_messages(checkout).items():
        lacking = found.keys() - kept[version]
        assert not lacking, "run `python -m tests.recorded`"


def test_every_recorded_message_fits_its_task(checkout: Path) -> None:
    for _, message in recorded.messages(checkout):
        REGISTRY[message["headers"]["task"]].model.model_validate(recorded.arguments_of(message))


def test_what_we_send_ourselves_is_taken_by_the_release_before(checkout: Path) -> None:
    """A new worker or beat rings old workers in the middle of a deploy."""
    released = list(schemas.released_messages(checkout).values())[-1]
    sent = [*_sent_in(checkout / "tasks"), *((row["task"], set()) for row in TIMETABLE.values())]

    assert ("billing.audit", {"after", "as_of"}) in sent
    for task, arguments in sent:
        if task in released:  # a task that is new is unknown there: its bells are let pass
            assert arguments <= released[task]["properties"].keys(), task


def _sent_in(folder: Path) -> list[tuple[str, set[str]]]:
    """Tasks and the arguments with which our own code sends them."""
    bodies = {spec.body.__name__: name for name, spec in REGISTRY.items()}
    found = []
    for path in folder.glob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
                continue
            given = next((one.value for one in call.keywords if one.arg == "kwargs"), None)
            named = given.keys if isinstance(given, ast.Dict) else []
            keys = {ast.literal_eval(key) for key in named if key is not None}
            if call.func.attr == "apply_async":
                found.append((bodies[ast.unparse(call.func.value)], keys))
            elif call.func.attr == "send_task" and isinstance(call.args[0], ast.Constant):
                found.append((call.args[0].value, keys))
    return found


BEFORE: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["tenant_id"],
    "properties": {
        "tenant_id": {"type": "string", "minLength": 1, "maxLength": 64},
        "amount": {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": "^1"}]},
        "kind": {"enum": ["a", "b"], "type": "string", "default": "a"},
        "limit": {"type": "integer", "minimum": 1, "maximum": 9, "default": 5},
        "events": {"type": "array", "items": {"$ref": "#/$defs/Event"}, "maxItems": 3},
        "metadata": {"type": "object", "additionalProperties": True},
    },
    "$defs": {
        "Event": {
            "type": "object",
            "properties": {"at": {"type": "string", "format": "date-time"}},
            "required": ["at"],
        }
    },
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """The schema with one place of it set, or taken away by None."""
    after = copy.deepcopy(BEFORE)
    *way, last = path.split("/")
    place = after
    for step in way:
        place = place[step]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return after


@pytest.mark.parametrize(
    "after",
    [
        BEFORE,
        changed("properties/more", {"type": "string", "default": "x"}),
        changed("properties/tenant_id/maxLength", 128),
        changed("properties/tenant_id/description", "in other words"),
        changed("required", []),
        changed("properties/kind/enum", ["a", "b", "c"]),
        changed("properties/amount/anyOf", [{"type": "integer"}, {"type": "string"}]),
        changed("properties/amount", {"type": ["integer", "string"]}),
        changed("properties/limit/type", "number"),
        changed("properties/limit/minimum", None),
        changed("properties/tenant_id", {"anyOf": [{"type": "null"}, {"type": "string"}]}),
        changed("$defs/Event/required", []),
        changed("properties/events/items", {"type": "object"}),
    ],
)
def test_what_takes_more_breaks_nothing(after: dict[str, Any]) -> None:
    assert compatibility.faults({"t": BEFORE}, {"t": after, "new": {}}) == []


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (changed("properties/kind", None), "argument kind is gone"),
        (changed("properties/kind/default", "b"), "left out meant a and means b"),
        (changed("required", ["tenant_id", "kind"]), "kind could be left out; give it a default"),
        (changed("properties/kind/enum", ["a"]), "kind could be ['b'], and can not any more"),
        (changed("properties/tenant_id/minLength", 2), "tenant_id: minLength was 1 and is 2"),
        (changed("properties/tenant_id/maxLength", 9), "tenant_id: maxLength was 64 and is 9"),
        (changed("properties/tenant_id/pattern", "^a"), "pattern was None and is ^a"),
        (changed("properties/tenant_id/type", "integer"), "tenant_id was string and is integer"),
        (changed("properties/amount", {"type": "integer"}), "amount. was string"),
        (changed("properties/events/maxItems", None) | {"required": ["tenant_id", "x"]}, "x could"),
        (changed("$defs/Event/properties/at/format", "date"), "events.[].at: format was"),
        (changed("$defs/Event/required", ["at", "id"]), "events.[].id could be left out"),
        (changed("properties/metadata/additionalProperties", False), "metadata.* could be"),
        (changed("properties/tenant_id/contains", {}), "tenant_id: contains was None"),
    ],
)
def test_what_takes_less_is_named(after: dict[str, Any], said: str) -> None:
    assert said in "; ".join(compatibility.faults({"t": BEFORE}, {"t": after}))


def test_a_task_never_goes() -> None:
    assert "t: the task is gone" in compatibility.faults({"t": BEFORE}, {})[0]


def test_a_release_is_refused_when_a_task_takes_less(tmp_path: Path) -> None:
    assert schemas.release(tmp_path) == []
    kept = tmp_path / "schemas" / "tasks" / VERSION / schemas.MESSAGES
    promised = json.loads(kept.read_text())
    promised["billing.set_tenant"]["properties"]["colour"] = {"type": "string"}
    kept.write_text(json.dumps(promised))

    [fault] = schemas.release(tmp_path)

    assert fault.startswith("billing.set_tenant: argument colour is gone")
    assert json.loads(kept.read_text()) == promised


def test_what_is_recorded_stays_and_only_what_is_new_is_added(tmp_path: Path) -> None:
    kept = tmp_path / "schemas" / "tasks" / VERSION / recorded.MESSAGES
    kept.parent.mkdir(parents=True)
    old = {"headers": {"id": "1", "task": "billing.purge", "kwargsrepr": ""}, "body": "as it was"}
    new = {"headers": {"id": "2", "task": "billing.audit", "kwargsrepr": ""}, "body": "[[], {}]"}
    kept.write_text(json.dumps(old) + "\n")

    assert recorded.write([{**old, "body": "as it is"}, new], tmp_path) == 1

    assert [message for _, message in recorded.messages(tmp_path)] == [new, old]
