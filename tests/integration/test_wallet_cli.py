"""`billing wallet ledger|check|deduct|refund|notices|allocate` and `billing offer exchange`."""

import json

import pytest
from sqlalchemy import Engine

from tests.integration import wallet
from tests.integration.command import Command
from tests.integration.plan_credits import give, join, plan

NO_USE = "a refund is of one use"


@pytest.fixture
def billing(
    db: Engine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    database_url: str,
) -> Command:
    """The command, and ten calls that acme was granted."""
    wallet.product()
    wallet.grant(10, "g")
    return Command(monkeypatch, capsys, database_url)


def test_the_ledger_is_listed_by_what_is_asked_for(billing: Command) -> None:
    for number in range(5):
        wallet.consume(1, f"c{number}", day=number)

    def amounts(*words: str) -> list[str]:
        found = json.loads(billing("wallet", "ledger", "acme", "--json", *words).out)
        return [one["balance_after"] for one in found]

    assert amounts() == ["5", "6", "7", "8", "9", "10"]
    assert amounts("--limit", "2") == ["5", "6"]
    assert amounts("--action", "grant", "--direction", "credit") == ["10"]
    assert amounts("--from", "2026-03-03", "--to", "2026-03-05") == ["6", "7"]
    assert "there are more entries" in billing("wallet", "ledger", "acme", "--limit", "2").out
    assert billing("wallet", "ledger", "acme", "--product", "X").out == "no entries\n"


def test_more_of_the_ledger_than_a_page_is_listed(
    billing: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.cli.wallet_ledger.LONGEST_PAGE", 2)
    for number in range(4):
        wallet.consume(1, f"c{number}")

    ended = billing("wallet", "ledger", "acme", "--json")

    assert [one["balance_after"] for one in json.loads(ended.out)] == ["6", "7", "8", "9", "10"]


def test_whether_there_is_enough_is_the_status(billing: Command) -> None:
    enough = billing("wallet", "check", "acme", "calls", "10")
    too_little = billing("wallet", "check", "acme", "calls", "10.5")

    assert (enough.status, enough.out) == (0, "10 of Calls can be used now\n")
    assert (too_little.status, too_little.out) == (
        1,
        "10 of Calls can be used now, 10.5 are needed\n",
    )
    assert billing("wallet", "check", "nobody", "calls").status == 1


def test_what_was_used_is_deducted_and_given_back(billing: Command) -> None:
    words = ("wallet", "deduct", "acme", "calls", "12.5", "--key", "d")
    back = ("wallet", "refund", "acme", "--reason", "an outage")

    assert billing(*words).out == "spent 12.5: balance -2.5, 2.5 owed\n"
    assert billing(*words).out == "spent 12.5: balance -2.5, 2.5 owed\n"
    part = billing(*back, "--deducted", "d", "--amount", "4.5")
    assert part.out == "gave back 4.5 of CALLS: balance 2\n"
    rest = billing(*back, "--deducted", "d", "--amount", "9")
    assert (rest.status, rest.out) == (1, "nothing was given back: 8 of it can be\n")
    assert billing(*back, "--deducted", "d").out == "gave back 8 of CALLS: balance 10\n"
    assert NO_USE in billing(*back).err
    wallet.assert_sound()


def test_a_use_and_a_hold_are_given_back_by_their_names(billing: Command) -> None:
    wallet.consume(2, "c")
    held = wallet.hold(3)
    wallet.commit(held)
    back = ("wallet", "refund", "acme", "--reason", "an outage")

    assert billing(*back, "--consumed", "c").out == "gave back 2 of CALLS: balance 7\n"
    assert billing(*back, "--reservation", held).out == "gave back 3 of CALLS: balance 10\n"


def test_notices_are_set_shown_and_ended(billing: Command) -> None:
    words = ("wallet", "notices", "acme")

    assert billing(*words).out == "acme is told nothing\n"
    made = billing(*words, "calls", "--low", "1000", "--low", "5.5", "--expiring", "7")
    assert made.out == "CALLS: when 5.5 or 1,000 is left, and 7 days before a batch ends\n"
    assert billing(*words).out == made.out
    assert billing(*words, "calls", "--expiring", "1").out == "CALLS: 1 day before a batch ends\n"
    assert json.loads(billing(*words, "--json").out)["notices"][0]["expiring_days"] == [1]
    assert billing(*words, "calls", "--off").out == "acme is told nothing\n"
    assert "name the PRODUCT" in billing(*words, "--low", "5").err


def test_an_offer_is_exchanged_for_units_or_the_status_is_1(billing: Command) -> None:
    billing("product", "set", "coins", "--currency")
    made = ("offer", "set", "pack", "--name", "P", "--price", "4", "--currency", "coins")
    assert billing(*made, "--item", "CALLS=15").status == 0
    wallet.grant(9, "coins", product_key="COINS")
    words = ("offer", "exchange", "pack", "acme", "--quantity", "2")

    assert billing(*words).out == "spent 8 COINS for 30 CALLS: 1 COINS left\n"
    again = billing(*words)
    assert (again.status, again.out) == (
        1,
        "nothing was spent: 1 can be spent, 8 COINS are needed\n",
    )


def test_a_plans_credit_is_allocated_once(billing: Command) -> None:
    plan(give(100))
    subscription = join("2026-03-10")

    first = billing("wallet", "allocate", subscription)
    again = billing("wallet", "allocate", subscription)

    assert first.out.endswith(" made for acme\n")
    assert not first.out.startswith("0 ")
    assert again.out == "0 allocations made for acme\n"


def test_what_is_over_is_written_off_and_given_back(billing: Command) -> None:
    for number in range(3):
        wallet.grant(5, f"over{number}", expires_at=1 + number)
    wallet.hold(10)

    ended = billing("batch", "expire")

    # The hold had set aside the oldest batch, which does not end.
    assert ended.out == "ended: batches 3, holds 1\n"
    assert json.loads(billing("batch", "expire", "--json").out)["batches"]["expired"] == 0
    assert wallet.balance(9)["available"] == "10"
    wallet.assert_sound()
