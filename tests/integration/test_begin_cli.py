"""The first steps by `billing`: a tenant, its plan, its usage, its invoice."""

import json
from decimal import Decimal

import pytest
from sqlalchemy import Engine

from tests.integration.billing_world import fee, instant, make_plan, query, subscribe, usage_price
from tests.integration.command import Command


def test_a_tenant_is_set_and_what_is_not_given_stays(billing: Command) -> None:
    made = billing("tenant", "set", "acme", "--name", "Acme", "--timezone", "Europe/Berlin",
                   "--address", "Main Street 1", "--address", "10115 Berlin")  # fmt: skip
    changed = billing("tenant", "set", "acme", "--currency", "eur", "--tax-number", "DE1",
                      "--metadata", '{"tier": 2}', "--json")  # fmt: skip

    assert (made.status, made.out) == (0, "tenant acme: Acme, Europe/Berlin, USD\n")
    assert json.loads(changed.out) == {
        "tenant_id": "acme",
        "name": "Acme",
        "timezone": "Europe/Berlin",
        "currency": "EUR",
        "address": "Main Street 1\n10115 Berlin",
        "tax_number": "DE1",
        "metadata": {"tier": 2},
    }
    refused = billing("tenant", "set", "acme", "--timezone", "Mars")
    assert (refused.status, "'Mars' must be an IANA time zone" in refused.err) == (2, True)


def test_a_tenant_is_put_on_a_plan(billing: Command) -> None:
    make_plan(fee("31"))
    begins = ("--from", "2026-01-11T12:00:00+02:00")
    start = ("subscription", "start", "acme", "pro", *begins, "--key", "k")
    at = "2026-01-11 10:00Z"

    first = billing(*start, "--quantity", "3", "--trial-days", "7", "--json")
    again = billing(*start, "--quantity", "3", "--trial-days", "7", "--json")
    other = billing(*start, "--quantity", "4")

    answer = json.loads(first.out)
    assert (answer["plan_key"], answer["quantity"], answer["currency"]) == ("pro", "3", "USD")
    assert answer["trial_ends_at"] == "2026-01-18T00:00:00Z"
    assert json.loads(again.out) == answer
    assert at in billing(*start, "--quantity", "3", "--trial-days", "7").out
    assert (other.status, "used before" in other.err) == (1, True)
    assert query("SELECT count(*) FROM subscriptions") == [(1,)]
    listed = billing("subscription", "list", "acme")
    assert (listed.status, at in listed.out) == (0, True)
    unknown = billing("subscription", "start", "acme", "gold")
    assert (unknown.status, "gold" in unknown.err) == (1, True)


@pytest.mark.parametrize(
    ("timezone", "begins", "ends"),
    [
        ("America/New_York", "2026-01-11 05:00Z", "2026-04-01 04:00Z"),
        ("Europe/Berlin", "2026-01-10 23:00Z", "2026-03-31 22:00Z"),
        (None, "2026-01-11 00:00Z", "2026-04-01 00:00Z"),
    ],
)
def test_a_day_begins_where_the_tenant_is(
    billing: Command, timezone: str | None, begins: str, ends: str
) -> None:
    make_plan(fee("31"))
    if timezone is not None:
        billing("tenant", "set", "acme", "--timezone", timezone)

    billing("subscription", "start", "acme", "pro", "--from", "2026-01-11", "--until", "2026-04-01")

    listed = billing("subscription", "list", "acme").out
    assert (begins in listed, ends in listed) == (True, True), listed


def test_a_use_is_recorded_once(billing: Command) -> None:
    use = ("usage", "record", "acme", "calls", "12.5", "--at", "2026-01-05T10:00:00Z")

    first = billing(*use, "--key", "k", "--metadata", '{"model": "x"}')
    again = billing(*use, "--key", "k", "--metadata", '{"model": "x"}')
    third = billing(*use)

    assert (first.status, first.out) == (0, "12.5 calls of acme is stored\n")
    assert again.out == "12.5 calls of acme was stored before, under this key\n"
    assert third.out == "12.5 calls of acme is stored\n"
    assert query("SELECT amount, metadata FROM usage_events ORDER BY metadata DESC") == [
        (Decimal("12.5"), {"model": "x"}),
        (Decimal("12.5"), {}),
    ]
    conflict = billing("usage", "record", "acme", "calls", "13", "--key", "k")
    assert (conflict.status, "[usage.conflict]" in conflict.err) == (1, True)
    refused = billing("usage", "record", "acme", "calls", "many")
    assert (refused.status, "'many' must be a number below 10^18" in refused.err) == (2, True)


@pytest.fixture
def two(db: Engine) -> None:
    make_plan(fee("31"), usage_price("calls", "1"))
    subscribe("acme", "2026-01-01")
    subscribe("bob", "2026-01-01")


@pytest.mark.usefixtures("two")
def test_what_is_due_is_drafted_for_all_or_for_one(billing: Command) -> None:
    one = billing("invoice", "generate", "bob", "--as-of", "2026-02-01")
    rest = billing("invoice", "generate", "--as-of", "2026-03-01", "--json")
    none = billing("invoice", "generate", "--as-of", "2026-03-01")

    assert (one.status, one.out) == (0, "1 draft made\n")
    assert json.loads(rest.out) == {"invoices": 3, "failed": 0}
    assert none.out == "nothing is due\n"
    assert query("SELECT tenant_id, count(*) FROM invoices GROUP BY 1 ORDER BY 1") == [
        ("acme", 2),
        ("bob", 2),
    ]


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize(
    "period", [("--month", "2026-01"), ("--from", "2026-01-01", "--until", "2026-02-01")]
)
def test_one_period_of_one_tenant_is_drafted(billing: Command, period: tuple[str, ...]) -> None:
    ended = billing("invoice", "generate", "acme", *period, "--as-of", "2026-02-03")

    (invoice_id,) = query("SELECT id FROM invoices")[0]
    assert (ended.status, ended.out) == (0, f"{invoice_id} of acme is draft\n")
    assert query("SELECT tenant_id, period_start, period_end FROM invoices") == [
        ("acme", instant("2026-01-01"), instant("2026-02-01"))
    ]


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--month", "2026-01"), "say whose period"),
        (("acme", "--month", "2026-01", "--until", "2026-02-01"), "goes without --from"),
        (("acme", "--from", "2026-01-01"), "--from and --until go together"),
        (("acme", "--currency", "EUR"), "goes with --month or --from"),
        (("acme", "--month", "January"), "'January' must be a month, such as 2026-01"),
    ],
)
def test_what_can_not_be_drafted_is_refused(
    billing: Command, words: tuple[str, ...], said: str
) -> None:
    ended = billing("invoice", "generate", *words)

    assert (ended.status, said in ended.err) == (2, True)
    assert query("SELECT count(*) FROM invoices") == [(0,)]


def test_a_tenant_that_can_not_be_billed_is_told(db: Engine, billing: Command) -> None:
    make_plan(fee("10"))
    subscribe("bad", "2026-01-01")
    with db.begin() as connection:
        connection.exec_driver_sql("UPDATE tenants SET timezone = 'Mars/Olympus'")

    ended = billing("invoice", "generate", "--as-of", "2026-02-01")

    assert ended.status == 1
    assert ended.out == (
        "0 drafts made; 1 tenant could not be billed: `billing invoice parked` says why\n"
    )
