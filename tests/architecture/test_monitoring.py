"""Dashboard and alerts ask for metrics that exist, by labels that they have."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks import announce, credit_findings, metrics, signing
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


PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")


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


def test_each_alert_is_tried_with_figures_at_which_it_comes(folder: Path) -> None:
    tried = yaml.safe_load((folder / "alerts_test.yml").read_text("utf-8"))["tests"]
    comes = {
        case["alertname"]
        for test in tried
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }

    assert comes == {rule["alert"] for rule in rules(folder)}
    for test in tried:
        for series in test["input_series"]:
            found = re.match(r"(\w+)(?:\{([^}]*)\})?$", series["series"])
            assert found is not None
            labels = set(re.findall(r"(\w+)=", found[2] or ""))
            assert labels == set(metric(found[1]).labels), series


@needs_promtool
def test_alerts_come_when_they_should_by_prometheus_own_judgement(folder: Path) -> None:
    ended = promtool(folder, "test", "rules", "alerts_test.yml")

    assert ended.returncode == 0, ended.stdout + ended.stderr


@needs_promtool
def test_prometheus_can_read_what_the_dashboard_asks(folder: Path, tmp_path: Path) -> None:
    asked = [target["expr"] for panel in panels(folder) for target in panel["targets"]]
    records = [{"record": f"asked:{place}", "expr": one} for place, one in enumerate(asked)]
    written = tmp_path / "asked.yml"
    written.write_text(yaml.safe_dump({"groups": [{"name": "asked", "rules": records}]}))

    ended = promtool(folder, "check", "rules", str(written))

    assert ended.returncode == 0, ended.stdout + ended.stderr


def promtool(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [PROMTOOL or "promtool", *words], cwd=folder, capture_output=True, text=True, check=False
    )


def test_what_counters_show_from_the_start_is_all_that_they_can_count() -> None:
    assert set(metrics.CREDIT_FINDINGS.values) == set(credit_findings.ADVICE)
    assert set(metrics.REFUSED.values) == signing.CODES
    assert set(metrics.INVOICES.values) == set(announce.INVOICE_STATES.values())


def test_an_alert_on_growth_asks_for_a_counter_that_is_shown_from_the_start(folder: Path) -> None:
    for rule in rules(folder):
        for word in re.findall(r"increase\((\w+)", rule["expr"]):
            counter = metric(word)
            assert isinstance(counter, Counter)
            assert counter.values or not counter.labels, word


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
