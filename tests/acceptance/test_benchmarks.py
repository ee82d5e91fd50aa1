"""The benchmarks run, on sizes that say nothing of speed, and measure what they promise."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

MEASURES = {
    "ingest: 1 a message": 3,
    "ingest: 100 a message": 3,
    "ingest: 1,000 a message": 3,
    "ingest: in process, 1,000 a call": 3,
    "ingest: in process, 5,000 a call": 3,
    "ingest: import of a CSV file": 3,
    "stream: one XADD a call": 1,
    "stream: 500 XADD an exchange": 1,
    "stream: drain alone, in process": 1,
    "deliveries: one worker process": 2,
    "deliveries: claim and complete, no HTTP": 3,
    "deliveries: claim and complete, no HTTP, two processes": 2,
    "aggregation, 1 M events: touched days counted again": 1,
    "aggregation, 1 M events: first totals of days, announced": 1,
    "aggregation, 5 M events: touched days counted again": 1,
    "aggregation, 5 M events: first totals of days, announced": 1,
    "aggregation, days of 10,000 events: the last minutes of each day counted again": 1,
    "aggregation, days of 10,000 events: all quarter hours of each day counted again": 1,
    "growth, ingest: on 20 M rows": 1,
    "growth, roll-up of all: on 20 M rows": 1,
    "freshness: sent → in the total": 1,
    "isolation: commit to send on an idle system, median": 1,
    "isolation: commit to send, median, idle but for one that answers after 14 s": 1,
    "isolation: commit to send, p99, beside a dead endpoint's backlog": 1,
    "isolation: commit to send, p99, beside one that answers after 14 s": 1,
    "invoices: drafts, in process, chunks of 500 tenants": 2,
    "invoices: drafts, one worker process": 1,
    "invoices: drafts, two worker processes": 2,
    "invoices: numbers, in process, chunks of 500 drafts": 1,
    "invoices, growth: drafts, in process, chunks of 500 tenants": 1,
    "invoices, memory: drafts, in process, chunks of 500 tenants": 1,
    "invoices, priced by event: drafts, in process, chunks of 500 tenants": 1,
    "consume: in process, one hot tenant": 3,
    "consume: through Celery, one hot tenant": 2,
    "consume: in process, 1,000 tenants": 3,
    "consume: through Celery, 1,000 tenants": 2,
    "consume: 64 threads at once, one hot tenant": 1,
    "credit: expire_batches, 1,000 balances a chunk": 3,
    "credit: audit": 1,
    "quota: consume_entitlement, one hot tenant": 1,
    "quota: consume_entitlement, 1,000 tenants": 1,
    "costs: ingest, 1 a message": 1,
    "costs: ingest, 10 a message": 1,
    "costs: ingest, 100 a message": 1,
    "costs: ingest, 1,000 a message": 1,
    "costs: ingest, 5,000 a message": 1,
    "costs: ingest, in process, 1,000 a call": 1,
    "costs: import of a CSV file": 1,
    "costs: ingest, in process, 1 M rows, after a checkpoint": 1,
    "costs: ingest, one XADD a call, drained": 1,
    "costs: roll-up, an event counted": 1,
    "costs: roll-up, a total of 3 events, told": 1,
    "costs: roll-up, a quarter hour of a full day": 1,
    "costs: a use of credit": 1,
    "costs: a draft of five lines": 1,
    "costs: an invoice finalized": 1,
    "costs: a delivery": 1,
    "costs: a batch expired": 1,
}
"""Each with how many floors."""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_way_is_measured_beside_its_floors(checkout: Path, tmp_path: Path) -> None:
    written = tmp_path / "figures.json"

    subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks",
            "--scale",
            "0.004",
            "--rounds",
            "1",
            "--json",
            str(written),
        ],
        cwd=checkout,
        check=True,
        timeout=1150,
    )

    figures = json.loads(written.read_text())
    measures = figures["measures"]
    names = [measure["name"] for measure in measures]
    assert {name: names.count(name) for name in names} == MEASURES
    assert all(measure["ratio"] > 0 and measure["rounds"] > 0 for measure in measures)
    assert all(measure["rate"] > 0 and measure["floor_rate"] > 0 for measure in measures)


def test_an_unknown_name_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "ingestion"])

    with pytest.raises(SystemExit) as ended:
        runpy.run_module("benchmarks", run_name="__main__")

    assert ended.value.code == 2
    assert "no benchmark is named ingestion" in capsys.readouterr().err
