"""`billing reservation` and `billing audit`: what an operator sees and does."""

import json
from typing import Any

import pytest
from sqlalchemy import Engine, text

from tests.integration import wallet
from tests.integration.billing_world import query
from tests.integration.command import Command

NOBODY = "00000000-0000-7000-8000-000000000000"


@pytest.fixture
def held(db: Engine) -> list[str]:
    """Three holds of two tenants; one was committed."""
    wallet.product()
    for tenant_id in ("acme", "bolt"):
        wallet.grant(10, "g", tenant_id=tenant_id)
    found = [
        wallet.hold(4, "h1", reason="an [odd] job"),
        wallet.hold(3, "h2", day=0.1),
        wallet.hold(2, "h3", day=0.2, tenant_id="bolt"),
    ]
    wallet.commit(found[1], 1, day=0.3)
    return found


@pytest.fixture
def still_held(db: Engine, held: list[str]) -> list[str]:
    """Those whose end is to come, by the clock that commands read."""
    with db.begin() as connection:
        connection.execute(text("UPDATE reservations SET expires_at = now() + interval '1 hour'"))
    return held


def listed(billing: Command, *words: str) -> list[Any]:
    found = json.loads(billing("reservation", "list", "--json", *words).out)
    return [one["reservation_id"] for one in found]


def test_reservations_are_listed_newest_first(billing: Command, held: list[str]) -> None:
    ended = billing("reservation", "list")

    lines = [line for line in ended.out.splitlines() if "CALLS" in line]
    assert [line.split()[1] for line in lines] == held[::-1]
    assert "an [odd] job" in lines[2]
    assert "2026-03-02 12:00Z" in lines[2]


def test_reservations_are_listed_by_what_is_asked_for(billing: Command, held: list[str]) -> None:
    assert listed(billing, "--state", "held") == [held[2], held[0]]
    assert listed(billing, "--tenant", "acme", "--product", "calls") == [held[1], held[0]]
    assert listed(billing, "--limit", "1") == [held[2]]
    assert billing("reservation", "list", "--limit", "1").out.endswith("see them with --limit\n")
    assert billing("reservation", "list", "--tenant", "nobody").out == "no reservations\n"


def test_a_list_goes_on_behind_a_page(
    billing: Command, held: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.cli.reservation.LONGEST_PAGE", 2)

    assert listed(billing) == held[::-1]


def test_one_is_shown_with_its_batches(billing: Command, held: list[str]) -> None:
    shown = json.loads(billing("reservation", "show", held[1]).out)

    assert (shown["state"], shown["amount"], shown["committed_amount"]) == ("committed", "3", "1")
    assert [part["amount"] for part in shown["batches"]] == ["3"]


def test_reserving_is_safe_to_repeat_and_too_little_is_status_1(
    billing: Command, held: list[str]
) -> None:
    words = ("reservation", "reserve", "bolt", "calls", "7.5", "--reason", "by hand")

    first, again = billing(*words, "--key", "k"), billing(*words, "--key", "k")
    late = billing(*words)

    # By the real clock the first hold of two is over, and so is what it set aside.
    assert first.out == again.out
    assert first.out.startswith("set aside 7.5 until ")
    assert (late.status, late.out) == (
        1,
        "nothing was set aside: 2.5 can be spent, 7.5 are needed\n",
    )


def test_what_was_used_is_charged_and_the_rest_given_back(
    billing: Command, still_held: list[str]
) -> None:
    too_much = billing("reservation", "commit", still_held[0], "--amount", "5")
    done = billing("reservation", "commit", still_held[0], "--amount", "1.5")
    again = billing("reservation", "commit", still_held[0])

    assert (too_much.status, too_much.out) == (
        1,
        f"{still_held[0]} holds less than that, and goes on: nothing was charged\n",
    )
    assert (done.status, done.out) == (0, "charged 1.5, 2.5 given back: balance 7.5\n")
    assert (again.status, again.out) == (
        1,
        f"{still_held[0]} was committed before: nothing was charged\n",
    )
    over = billing("reservation", "commit", still_held[2], "--amount", "15", "--above", "overdraft")
    assert over.out == "charged 15, 5 overdraft: balance -5\n"


def test_releasing_gives_back_and_keeps_the_reason(billing: Command, still_held: list[str]) -> None:
    words = ("reservation", "release", still_held[2], "--reason", "the job is lost")

    first, again = billing(*words, "--key", "k"), billing(*words, "--key", "k")
    late = billing(*words)

    assert (first.status, first.out) == (0, "gave back 2: balance 10\n")
    assert again == first
    assert (late.status, late.out) == (
        1,
        f"{still_held[2]} was released before: nothing was given back\n",
    )
    reasons = "SELECT release_reason FROM reservations WHERE state = 'released'"
    assert query(reasons) == [("the job is lost",)]


def test_a_hold_whose_time_is_over_is_said_to_have_expired(
    billing: Command, held: list[str]
) -> None:
    ended = billing("reservation", "release", held[2], "--reason", "the job is lost", "--json")

    assert ended.status == 1
    assert json.loads(ended.out)["reason"] == "expired"
    assert wallet.balance(0.4, tenant_id="bolt")["held"] == "0"


def test_what_is_unknown_or_no_id_is_told_in_one_line(billing: Command) -> None:
    ended = billing("reservation", "show", NOBODY)

    assert (ended.status, ended.out) == (1, "")
    assert ended.err.count("\n") == 1
    assert NOBODY in ended.err
    assert "billing reservation list" in billing("reservation", "show", "h1").err


def test_an_audit_of_sound_books_says_so(billing: Command, held: list[str]) -> None:
    ended = billing("audit")

    assert (ended.status, ended.out) == (0, "ledger, batches, holds and balances agree\n")
    assert json.loads(billing("audit", "--json").out) == {"ok": True, "findings": []}


def test_an_audit_names_what_is_wrong_and_what_to_do(
    billing: Command, db: Engine, held: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with db.begin() as connection:
        connection.execute(text("UPDATE credit_balances SET held = held + 1"))

    ended = billing("audit")
    found = json.loads(billing("audit", "--json", "--after", "acme", "CALLS").out)

    assert ended.status == 1
    first, second, summary = ended.out.splitlines()
    assert first.startswith("held: acme CALLS: expected 4, found 5; ")
    assert second.startswith("held: bolt CALLS: expected 2, found 3; ")
    assert summary == "2 findings: 2 of held"
    assert [finding["tenant_id"] for finding in found["findings"]] == ["bolt"]


def test_an_audit_names_the_reservation_that_is_wrong(
    billing: Command, db: Engine, held: list[str]
) -> None:
    with db.begin() as connection:
        connection.execute(text("UPDATE reservations SET amount = 9 WHERE tenant_id = 'bolt'"))

    ended = billing("audit")

    first, _ = ended.out.splitlines()
    assert first.startswith(f"slices: bolt CALLS reservation {held[2]}: expected 2, found 9; ")
