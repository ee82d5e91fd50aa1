"""`billing usage show`, and `billing rejected`, as an operator sees them."""

import datetime as dt
import getpass
import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from models import database
from tasks.aggregation import aggregate_usage
from tasks.tenants import set_tenant
from tasks.usage import record_usage
from tests import zones
from tests.integration.command import Command
from worker.cli.sparkline import ASCII, BLOCKS, sparkline

AS_OF = dt.datetime(2024, 6, 20, 12, tzinfo=dt.UTC)


def event(key: str = "k", **changed: Any) -> dict[str, Any]:
    plain = {"tenant_id": "acme", "metric": "api", "amount": 1, "idempotency_key": key}
    return plain | changed


def record(*events: Any) -> list[int]:
    """Send events and return the ids of those that are kept."""
    answer = record_usage(events=list(events), as_of=AS_OF)
    aggregate_usage(as_of=AS_OF)
    return [each["rejected_message_id"] for each in answer["refused"]]


def rows(statement: str) -> list[Any]:
    with database.transaction() as session:
        return list(session.execute(text(statement)).all())


def cells(line: str) -> list[str]:
    return re.findall(r"[^│\s][^│]*[^│\s]|[^│\s]", line)


def test_a_month_is_shown_by_the_tenants_own_days(billing: Command) -> None:
    set_tenant(tenant_id="acme", timezone="Asia/Tokyo")
    record(
        event("1", at="2024-04-30T14:59:59Z", amount=100),
        event("2", at="2024-04-30T15:00:00Z", amount="1000.5"),
        event("3", at="2024-05-31T14:59:59Z", amount=2000),
        event("4", at="2024-05-02T00:00:00Z", amount=0, metric="storage"),
    )

    shown = billing("usage", "show", "acme", "--month", "2024-05")
    one = billing("usage", "show", "acme", "--month", "2024-05", "--metric", "storage")
    answer = json.loads(billing("usage", "show", "acme", "--month=2024-05", "--json").out)

    lines = [cells(line) for line in shown.out.splitlines()]
    assert shown.status == 0
    assert "acme, May 2024, Asia/Tokyo" in shown.out
    assert ["Wed 01", "1,000.5"] in lines
    assert ["Thu 02", "0"] in lines
    assert ["Fri 31", "2,000"] in lines
    assert ["month", "3,000.5", "0"] in lines
    assert (
        sum(line[:1] != [] and re.match(r"\w{3} \d\d$", line[0]) is not None for line in lines)
        == 31
    )
    assert "▄" + " " * 29 + "█" in shown.out
    assert "most 2,000 on Fri 31" in shown.out
    assert "api" not in one.out
    assert answer["month"] == "2024-05"
    assert answer["metrics"][0]["days"] == {"2024-05-01": "1000.5", "2024-05-31": "2000"}
    assert (answer["metrics"][0]["total"], answer["metrics"][0]["event_count"]) == ("3000.5", 2)


def test_without_a_month_it_is_this_one(billing: Command) -> None:
    zone = zones.amid_a_day()
    set_tenant(tenant_id="acme", timezone=zone.key)
    record_usage(**event())
    aggregate_usage()
    record_usage(**event("later", metric="[b]odd"))

    shown = billing("usage", "show", "acme")

    assert f"acme, {dt.datetime.now(zone):%B %Y}, {zone.key}" in shown.out
    assert "some usage has arrived that is not in these totals yet" in shown.out


def test_what_can_not_be_shown_is_said_in_one_line(billing: Command) -> None:
    record(event(at="2024-05-01T00:00:00Z"))

    empty = billing("usage", "show", "acme", "--month", "2025-01")
    unknown = billing("usage", "show", "nobody")
    wrong = billing("usage", "show", "acme", "--month", "May")

    assert (empty.status, empty.out) == (0, "acme, January 2025, UTC: nothing was used\n")
    assert (unknown.status, len(unknown.err.splitlines())) == (1, 1)
    assert wrong.status == 2


def test_many_metrics_are_named_below_the_table(billing: Command) -> None:
    record(*[event(metric=f"m{number:02}", at="2024-05-01T00:00:00Z") for number in range(10)])

    shown = billing("usage", "show", "acme", "--month", "2024-05")

    assert "not in the table, see them with --metric: m08, m09" in shown.out
    assert shown.out.count("most 1 on Wed 01") == 10


@given(st.lists(st.none() | st.decimals(-100, 100, places=2), max_size=31))
def test_a_higher_bar_is_a_higher_number(values: list[Decimal | None]) -> None:
    bars = sparkline(values)

    assert len(bars) == len(values)
    heights = [BLOCKS.find(bar) for bar in bars]
    assert [height == -1 for height in heights] == [value is None for value in values]
    known = sorted((value, height) for value, height in zip(values, heights, strict=True) if value)
    assert [height for _, height in known] == sorted(height for _, height in known)
    top = max((value for value in values if value is not None), default=Decimal(0))
    if top > 0:
        assert all(
            (height == len(BLOCKS) - 1) == (value == top)
            for value, height in zip(values, heights, strict=True)
            if value is not None
        )


def test_a_terminal_without_blocks_gets_letters() -> None:
    assert sparkline([Decimal(0), None, Decimal(9)], levels=ASCII) == ". #"


def test_the_list_is_filtered(billing: Command) -> None:
    bad, conflict, other = record(
        event(amount=-1), event("a"), event("a", amount=2), event(tenant_id="other", amount=-1)
    )

    def listed(*words: str) -> list[int]:
        found = json.loads(billing("rejected", "list", "--json", *words).out)
        return sorted(row["id"] for row in found)

    assert listed() == sorted([bad, conflict, other])
    assert listed("--tenant", "other") == [other]
    assert listed("--code", "usage.conflict") == [conflict]
    assert listed("--task", "billing.set_tenant") == []
    assert listed("--since", "2024-06-20T12:00:00") == sorted([bad, conflict, other])
    assert listed("--since", "2024-06-20T12:00:01Z") == []
    assert len(listed("--limit", "1")) == 1
    assert listed("--state", "discarded") == []
    assert "amount: must be 0 or more" in billing("rejected", "list").out


def test_a_mended_message_is_replayed_by_whoever_is_at_the_keyboard(
    billing: Command, tmp_path: Path
) -> None:
    from_file, from_stdin = record(event(amount=-1), event("b", amount=-1))
    mended = tmp_path / "mended.json"
    mended.write_text(json.dumps(event(amount=5)))

    first = billing("rejected", "replay", str(from_file), "--payload", str(mended))
    second = billing(
        "rejected",
        "replay",
        str(from_stdin),
        "--payload=-",
        "--actor=ada",
        "--json",
        stdin=json.dumps(event("b", amount=6)).encode(),
    )
    shown = json.loads(billing("rejected", "show", str(from_stdin)).out)

    assert (first.status, first.out) == (0, f"message {from_file} replayed\n")
    assert json.loads(second.out)["answer"]["accepted"] == 1
    assert rows("SELECT amount, at FROM usage_events ORDER BY 1") == [(5, AS_OF), (6, AS_OF)]
    resolved = dict(map(tuple, rows("SELECT id, resolved_by FROM rejected_messages")))
    assert resolved == {from_file: getpass.getuser(), from_stdin: "ada"}
    assert (shown["state"], shown["resolved_by"]) == ("replayed", "ada")
    assert shown["payload"] == event("b", amount=-1)
    assert shown["errors"][-1]["reason"] == "replayed by ada: mended"


def test_a_message_is_mended_in_the_editor(
    billing: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (found,) = record(event(amount=-1))
    monkeypatch.setenv("EDITOR", "sed -i s/-1/7/")

    ended = billing("rejected", "replay", str(found), "--edit")

    assert ended.status == 0, ended
    assert rows("SELECT amount FROM usage_events") == [(7,)]


def test_all_that_fit_are_replayed_and_what_is_refused_again_stays(
    billing: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.cli.rejected_each.PAGE", 2)
    in_future = [event(str(number), at="2024-06-21T00:00:00Z") for number in range(5)]
    for_ever = event("never", metric="")
    record(*in_future, for_ever)

    ended = billing("rejected", "replay", "--all", "--code", "message.invalid")

    assert ended.status == 1
    assert "5 replayed, 1 open" in ended.out
    assert "metric: " in ended.out
    assert rows("SELECT count(*) FROM usage_events") == [(5,)]
    assert rows(
        "SELECT payload ->> 'idempotency_key' FROM rejected_messages WHERE state = 'open'"
    ) == [("never",)]
    assert (
        "no open rejected message fits"
        in billing("rejected", "replay", "--all", "--tenant", "nobody").out
    )


def test_a_message_is_discarded_with_a_reason(billing: Command) -> None:
    first, second = record(event(amount=-1), event("b", amount=-1))

    ended = billing(
        "rejected", "discard", str(first), str(second), "--reason", "ours", "--actor=me"
    )
    late = billing("rejected", "replay", str(first), "999999")

    assert (ended.status, ended.out.splitlines()[-1]) == (0, "in all: 2 discarded")
    assert rows("SELECT state, resolved_by FROM rejected_messages") == [("discarded", "me")] * 2
    assert late.status == 1
    assert "only an open one can be replayed" in late.out
    assert "no rejected message has the id 999999" in late.out


@pytest.mark.parametrize(
    "words",
    [
        ("replay",),
        ("replay", "1", "--all"),
        ("replay", "1", "--code", "x"),
        ("replay", "1", "2", "--payload", "-"),
        ("replay", "1", "--payload", "/no/such/file"),
        ("replay", "--all", "--payload", "-"),
        ("replay", "1", "--payload", "-"),
        ("replay", "--all", "--since", "soon"),
        ("discard", "1"),
        ("discard", "--reason", "x"),
    ],
)
def test_words_that_make_no_sense_are_refused(billing: Command, words: tuple[str, ...]) -> None:
    ended = billing("rejected", *words, stdin=b"[]")

    assert ended.status == 2
    assert "Traceback" not in ended.err
