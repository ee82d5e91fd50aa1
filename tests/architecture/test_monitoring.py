"""Dashboard and alerts ask for metrics that exist, by labels that they have."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks import metrics
from tasks.metrics import Counter, Duration, Gauge
from worker import standing

KNOWN: dict[str, Counter | Duration | Gauge] = {
    one.name: one for one in (*metrics.ALL, *standing.ALL)
}
SUFFIXES = ("_bucket", "_count", "_sum")
WORD = re.compile(r"\bbilling_\w+")
LABELS = re.compile(r"(billing_\w+)\{([^}]*)\}")
GROUPED = re.compile(r"\b(?:by|without) *\(([^)]*)\)")
SHOWN = re.compile(r"\{\{ *(?:\$labels\.)?(\w+) *\}\}")


def rules(folder: Path) -> list[dict[str, Any]]:
    loaded = yaml.safe_load((folder / "alerts.yml").read_text("utf-8"))
    return [rule for group in loaded["groups"] for rule in group["rules"]]


def panels(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "grafana.json").read_text("utf-8"))["panels"]
    return found


@pytest.fixture(scope="module")
def folder(checkout: Path) -> Path:
    return checkout / "examples" / "monitoring"


def metric(word: str) -> Counter | Duration | Gauge:
    """The metric that a word of an expression means."""
    if word in KNOWN:
        found = KNOWN[word]
        assert not isinstance(found, Duration), f"{word} is a histogram: ask for {SUFFIXES}"
        return found
    name = next((word.removesuffix(end) for end in SUFFIXES if word.endswith(end)), word)
    assert isinstance(KNOWN.get(name), Duration), f"there is no metric {word}"
    return KNOWN[name]


def check(expression: str) -> set[str]:
    """The labels that an expression's metrics have; what it asks for is looked up."""
    assert WORD.search(expression), expression
    allowed = {"le"} if "_bucket" in expression else set[str]()
    for word in WORD.findall(expression):
        allowed |= set(metric(word).labels)
    for word, pairs in LABELS.findall(expression):
        named = set(re.findall(r"(\w+) *[=!]", pairs))
        assert named <= set(metric(word).labels), expression
    for grouped in GROUPED.findall(expression):
        assert {name.strip() for name in grouped.split(",")} <= allowed, expression
    assert expression.count("(") == expression.count(")")
    return allowed


def test_alerts_ask_for_what_there_is(folder: Path) -> None:
    for rule in rules(folder):
        allowed = check(rule["expr"])
        texts = " ".join(rule["annotations"].values())
        assert set(SHOWN.findall(texts)) - {"value"} <= allowed, rule["alert"]
        assert rule["annotations"].keys() == {"summary", "action"}
        assert rule["labels"]["severity"] in {"page", "ticket"}


def test_the_dashboard_asks_for_what_there_is(folder: Path) -> None:
    for panel in panels(folder):
        for target in panel["targets"]:
            assert set(SHOWN.findall(target["legendFormat"])) <= check(target["expr"]), panel


def test_every_metric_is_looked_at_somewhere(folder: Path) -> None:
    asked = " ".join(rule["expr"] for rule in rules(folder))
    asked += " ".join(target["expr"] for panel in panels(folder) for target in panel["targets"])

    assert {name for name in KNOWN if name not in asked} == set()


def test_panels_do_not_lie_on_one_another(folder: Path) -> None:
    cells = [
        (x, y)
        for panel in panels(folder)
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]

    assert len(cells) == len(set(cells))
    assert all(x < 24 for x, _ in cells)


def test_names_and_labels_are_as_the_field_wants_them() -> None:
    for one in KNOWN.values():
        assert isinstance(one, Counter) == one.name.endswith("_total"), one.name
        assert not {"tenant", "tenant_id", "endpoint_id"} & set(one.labels)


def test_what_prometheus_scrapes_is_the_service_of_compose(folder: Path, checkout: Path) -> None:
    scraped = yaml.safe_load((folder / "prometheus.yml").read_text("utf-8"))
    (target,) = scraped["scrape_configs"][0]["static_configs"][0]["targets"]
    services = yaml.safe_load((checkout / "docker-compose.yml").read_text("utf-8"))["services"]
    name, port = target.split(":")

    assert port in services[name]["command"]
    assert scraped["rule_files"] == ["alerts.yml"]
