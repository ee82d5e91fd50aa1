"""`billing entitlement`, as an operator sees it."""

import json
import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine

from tasks import config
from tasks.quotas import consume_entitlement
from tasks.tenants import set_tenant
from tests import zones
from tests.integration.billing_world import make_plan, subscribe
from tests.integration.command import Command
from worker.cli.gauge import ASCII, WIDTH, gauge


@pytest.fixture
def zone() -> str:
    """The tenant's; none of its days ends while it is looked at."""
    return zones.amid_a_day().key


@pytest.fixture
def billing(
    db: Engine,
    zone: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    database_url: str,
) -> Command:
    make_plan()
    subscribe("acme", "2026-01-01", timezone=zone)
    return Command(monkeypatch, capsys, database_url)


def use(amount: str, key: str, **more: str) -> None:
    # The command has set its own, which rings a broker.
    config.use(config.Config(kick=False))
    arguments = {"tenant_id": "acme", "metric": "api", **more}
    assert consume_entitlement(amount=amount, idempotency_key=key, **arguments)["allowed"]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split("[│┃]", line)[1:-1]]


def test_a_tenants_limits_are_shown_with_bars(billing: Command, zone: str) -> None:
    billing("entitlement", "set", "api", "--plan", "pro", "--limit", "12000")
    billing("entitlement", "set", "api", "--plan=pro", "--limit=3000", "--window=day", "--soft")
    billing("entitlement", "set", "gb", "--tenant", "acme", "--unlimited")
    billing("entitlement", "set", "seats", "--plan", "pro", "--limit", "0")
    use("6000.5", "k")
    use("1", "other", metric="gb")

    shown = billing("entitlement", "show", "acme")

    assert shown.status == 0
    assert shown.out.splitlines()[0] == f"acme, {zone}"
    rows = [cells(line) for line in shown.out.splitlines() if "│" in line]
    assert [row[:6] for row in rows] == [
        ["api", "day", "6,000.5", "3,000", "█" * WIDTH, "exceeded, allowed"],
        ["api", "month", "6,000.5", "12,000", "█" * 10 + "░" * 10, "5,999.5 left"],
        ["gb", "month", "1", "no limit", "", ""],
        ["seats", "month", "0", "0", "█" * WIDTH, "used up"],
    ]
    assert all(re.fullmatch(r"\w{3} \d\d \w{3} 00:00, in .+", row[6]) for row in rows)
    assert [row[7] for row in rows] == ["pro", "pro", "of its own", "pro"]


def test_they_are_shown_and_listed_as_json(billing: Command, zone: str) -> None:
    billing("entitlement", "set", "api", "--plan", "pro", "--limit", "10")
    use("4", "k")

    shown = json.loads(billing("entitlement", "show", "acme", "--json").out)
    listed = json.loads(billing("entitlement", "list", "--json").out)

    assert shown["timezone"] == zone
    assert [(one["used"], one["remaining"]) for one in shown["entitlements"]] == [("4", "6")]
    assert [(one["plan_key"], one["limit"], one["soft"]) for one in listed] == [
        ("pro", "10", False)
    ]


def test_what_was_set_is_said_and_listed(billing: Command) -> None:
    said = billing("entitlement", "set", "api", "--plan=pro", "--limit=1000.50", "--per-seat")
    later = billing(
        *("entitlement", "set", "[b]", "--tenant=acme", "--limit=5", "--window=day", "--soft"),
        *("--from=2090-01-01", "--until=2090-02-01T00:00:00Z"),
    )

    assert re.fullmatch(
        r"plan pro: 1,000\.5 of api a month, hard, per seat, from \S+ \S+Z\n", said.out
    )
    assert later.out == (
        "tenant acme: 5 of [b] a day, soft, from 2090-01-01 00:00:00Z until 2090-02-01 00:00:00Z\n"
    )
    lines = [cells(line) for line in billing("entitlement", "list").out.splitlines() if "│" in line]
    assert [line[:5] for line in lines] == [
        ["plan pro", "api", "month", "1,000.5", "hard, per seat"],
        ["tenant acme", "[b]", "day", "5", "soft"],
    ]
    assert len(json.loads(billing("entitlement", "list", "--plan=pro", "--json").out)) == 1
    assert len(json.loads(billing("entitlement", "list", "--metric=[b]", "--json").out)) == 1


def test_an_end_is_said(billing: Command) -> None:
    billing("entitlement", "set", "api", "--plan=pro", "--limit=5")
    billing("entitlement", "set", "gb", "--plan=pro", "--limit=5", "--from=2090-01-01")

    ended = billing("entitlement", "end", "api", "--plan=pro", "--at=2089-01-01")
    never = billing("entitlement", "end", "gb", "--plan=pro")
    now = json.loads(billing("entitlement", "end", "api", "--plan=pro", "--json").out)

    assert ended.out == "api a month ends at 2089-01-01T00:00:00Z\n"
    assert never.out == "gb a month never begins\n"
    assert now["ended_at"] < "2089"
    assert billing("entitlement", "list").out == "no entitlements\n"
    assert "pro" in billing("entitlement", "list", "--all").out


def test_a_tenant_without_any_is_told_what_that_means(billing: Command) -> None:
    set_tenant(tenant_id="bolt")

    shown = billing("entitlement", "show", "bolt")
    unknown = billing("entitlement", "show", "nobody")

    assert shown.out == "bolt, UTC\nno entitlements: whatever asks for one is refused\n"
    assert (unknown.status, unknown.err.count("\n")) == (1, 1)


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("set", "api", "--plan=pro"), 2),
        (("set", "api", "--plan=pro", "--limit=5", "--unlimited"), 2),
        (("set", "api", "--plan=pro", "--limit=lots"), 2),
        (("set", "api", "--plan=pro", "--limit=5", "--window=week"), 2),
        (("set", "api", "--plan=pro", "--limit=5", "--from=soon"), 2),
        (("set", "api", "--limit=5"), 1),
        (("set", "api", "--plan=none", "--limit=5"), 1),
        (("set", "api", "--plan=pro", "--limit=-5"), 2),
        (("end", "api", "--plan=pro"), 1),
    ],
)
def test_words_that_make_no_sense_are_refused(
    billing: Command, words: tuple[str, ...], status: int
) -> None:
    ended = billing("entitlement", *words)

    assert ended.status == status
    assert "Traceback" not in ended.err


@given(st.decimals(-10, 1000, places=2), st.decimals(0, 1000, places=2))
def test_a_bar_is_full_when_nothing_is_left_and_empty_when_nothing_is_used(
    part: Decimal, whole: Decimal
) -> None:
    bar = gauge(part, whole, glyphs=ASCII)

    assert len(bar) == WIDTH
    assert (bar.count("#") == WIDTH) == (part >= whole)
    assert (bar.count("#") == 0) == (part <= 0 and part < whole)
    assert bar == "".join(sorted(bar))
