"""`billing wallet`, `product`, `offer` and `batch`, as an operator sees them."""

import datetime as dt
import getpass
import json
import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.integration import wallet
from tests.integration.billing_world import query
from tests.integration.command import Command
from worker.cli import printing
from worker.cli.bar import ASCII, BLOCKS, WIDTH, bar

AMOUNTS = st.decimals(min_value=0, max_value=1000, places=3)


@pytest.fixture
def catalogue(billing: Command) -> Command:
    """Products and an offer, made by the command."""
    items = "--item CALLS=1000:1month --item coins=50"
    for line in (
        "product set calls --name API_calls",
        "product set coins --currency",
        "product set access --type period",
        f"offer set starter --name Starter --price 12.30 --currency eur {items}",
    ):
        assert billing(*line.split()).status == 0
    return billing


def rows(out: str) -> list[list[str]]:
    """The cells of each row of the tables in what was printed."""
    lines = [line for line in out.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def parsed(billing: Command, *words: str) -> Any:
    ended = billing(*words, "--json")
    assert ended.status == 0, ended.err
    return json.loads(ended.out)


def test_products_are_made_changed_listed_and_shown(catalogue: Command) -> None:
    changed = catalogue("product", "set", "COINS", "--inactive")

    assert changed.out == "changed product COINS\n"
    assert rows(catalogue("product", "list").out) == [
        ["ACCESS", "access", "period", "", "fifo", "yes"],
        ["CALLS", "API_calls", "quantity", "", "fifo", "yes"],
        ["COINS", "coins", "quantity", "yes", "fifo", "no"],
    ]
    catalogue("product", "set", "coins", "--burn-policy", "soonest_expiry_first")
    coins = json.loads(catalogue("product", "show", "coins").out)
    assert (coins["burn_policy"], coins["active"]) == ("soonest_expiry_first", False)
    assert [one["product_key"] for one in parsed(catalogue, "product", "list", "--currency")] == [
        "COINS"
    ]


def test_offers_are_made_changed_listed_and_shown(catalogue: Command) -> None:
    said = catalogue("offer", "set", "starter", "--price", "15").out

    assert said == "offer STARTER: 1,000 CALLS for 1 month, 50 COINS for 15.00 EUR\n"
    assert rows(catalogue("offer", "list").out) == [
        ["STARTER", "Starter", "15.00 EUR", "1,000 CALLS for 1 month, 50 COINS", "yes"]
    ]
    assert parsed(catalogue, "offer", "list", "--inactive") == []
    shown = json.loads(catalogue("offer", "show", "Starter").out)
    assert shown["items"][1] == {
        "product_key": "COINS",
        "quantity": "50",
        "period": "forever",
        "value": None,
    }


def test_what_is_granted_by_hand_bears_the_users_name(catalogue: Command) -> None:
    said = catalogue("wallet", "grant", "acme", "calls", "1250.5", "--reason", "goodwill").out
    catalogue("offer", "grant", "starter", "acme", "--quantity", "2")

    assert re.fullmatch(r"granted 1,250.5 of CALLS to acme: balance 1,250.5, batch \S{36}\n", said)
    kept = "SELECT metadata FROM ledger_entries WHERE cause_type = 'billing.grant_credits'"
    assert query(kept) == [({"reason": "goodwill", "actor": getpass.getuser()},)]
    assert wallet.balance(product_key="COINS")["balance"] == "100"


def test_a_key_makes_a_command_safe_to_repeat(catalogue: Command) -> None:
    words = ("wallet", "grant", "acme", "calls", "5", "--reason", "x")

    assert catalogue(*words, "--key", "k").out == catalogue(*words, "--key", "k").out
    catalogue(*words)

    assert wallet.balance()["balance"] == "10"


def test_balances_are_corrected_and_spent_or_the_status_is_1(catalogue: Command) -> None:
    catalogue("wallet", "grant", "acme", "calls", "100", "--reason", "x")
    down = ("wallet", "adjust", "acme", "calls")

    assert catalogue(*down, "-30.5", "--reason", "twice", "--actor", "ann").out == (
        "adjusted CALLS of acme by -30.5: balance 69.5\n"
    )
    assert catalogue(*down, "0.5", "--reason", "twice").out.endswith("by 0.5: balance 70\n")
    assert catalogue("wallet", "consume", "acme", "calls", "69.75").out == (
        "spent 69.75 from 2 batches: balance 0.25\n"
    )
    for words, said in (
        (("wallet", "consume", "acme", "calls", "2000"), "nothing was spent"),
        ((*down, "-2000", "--reason", "x"), "nothing was taken"),
    ):
        ended = catalogue(*words)
        assert (ended.status, ended.out) == (
            1,
            f"{said}: 0.25 can be spent, 2,000 are needed\n",
        )
        assert json.loads(catalogue(*words, "--json").out)["reason"] == "insufficient_funds"


def test_a_wallet_is_shown_with_bars_and_its_newest_entries(catalogue: Command) -> None:
    soon = (dt.datetime.now(dt.UTC) + dt.timedelta(days=40, hours=1)).isoformat()
    catalogue("wallet", "grant", "acme", "calls", "1000", "--reason", "x", "--expires-at", soon)
    catalogue("wallet", "grant", "acme", "access", "1", "--reason", "x")
    catalogue("wallet", "consume", "acme", "calls", "250")

    shown = catalogue("wallet", "show", "acme")

    balances, bars, ledger = rows(shown.out)[:2], rows(shown.out)[2:4], rows(shown.out)[4:]
    assert shown.out.startswith("acme\n")
    assert balances[0][:5] == ["ACCESS", "1", "0", "0", "unlimited"]
    assert balances[1][:6] == ["CALLS", "1,000", "250", "0", "750", "0"]
    assert bars[0][:5] == ["ACCESS", "████████████", "1", "1", "never"]
    assert bars[1][1:4] == ["█████████░░░", "750", "1,000"]
    assert bars[1][4].endswith("Z in 40 days")
    assert [row[1:5] for row in ledger] == [
        ["CALLS", "consume", "-250", "750"],
        ["ACCESS", "grant", "+1", "1"],
        ["CALLS", "grant", "+1,000", "1,000"],
    ]
    answer = parsed(catalogue, "wallet", "show", "acme", "--entries", "1")
    assert [one["product_key"] for one in answer["products"]] == ["ACCESS", "CALLS"]
    assert len(answer["batches"]) == 2
    assert [one["action"] for one in answer["ledger"]] == ["consume"]


def test_a_debt_is_shown_where_there_is_one(catalogue: Command) -> None:
    catalogue("wallet", "grant", "acme", "calls", "10", "--reason", "x")
    assert "owed" not in catalogue("wallet", "show", "acme").out
    wallet.deduct(25, "after")

    shown = catalogue("wallet", "show", "acme")

    assert "owed" in shown.out
    assert rows(shown.out)[0][:6] == ["CALLS", "10", "0", "0", "25", "0"]


@pytest.mark.parametrize("width", [80, 120])
def test_no_figure_is_cut_in_a_narrow_terminal(
    catalogue: Command, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    catalogue("wallet", "grant", "acme", "calls", "123456789.25", "--reason", "x")
    catalogue("wallet", "consume", "acme", "calls", "1")
    monkeypatch.setattr(printing, "WIDTH_ELSEWHERE", width)

    for words in (("wallet", "show", "acme"), ("batch", "list", "acme"), ("offer", "list")):
        shown = catalogue(*words).out
        assert max(map(len, shown.splitlines())) <= width
        assert "…" not in shown
    assert "123,456,788.25" in catalogue("wallet", "show", "acme").out


def test_batches_are_listed_shown_and_taken_back(catalogue: Command) -> None:
    for reason in ("one", "two"):
        catalogue("wallet", "grant", "acme", "calls", "10", "--reason", reason)
    catalogue("offer", "grant", "starter", "acme", "--source", "promo", "--key", "o")
    listed = parsed(catalogue, "batch", "list", "acme", "--product", "calls")
    oldest = listed[-1]["batch_id"]

    one = catalogue("batch", "revoke", "acme", oldest, "--reason", "wrong tenant")
    promo = catalogue("batch", "revoke", "acme", "--source", "promo", "--reason", "over")
    again = catalogue("batch", "revoke", "acme", oldest, "--reason", "wrong tenant")

    assert one.out == f"took back 10 of CALLS: balance 1,010, batch {oldest}\n"
    assert promo.out.count("took back") == 2
    assert (again.status, "neither expired nor revoked" in again.err) == (1, True)
    assert [row[2] for row in rows(catalogue("batch", "list", "acme").out)].count("revoked") == 3
    assert parsed(catalogue, "batch", "list", "acme", "--state", "revoked", "--usable") == []
    shown = json.loads(catalogue("batch", "show", "acme", oldest).out)
    assert (shown["state"], shown["revoked_reason"]) == ("REVOKED", "wrong tenant")
    assert [entry["action"] for entry in shown["ledger"]] == ["revoke", "grant"]


def test_what_one_call_granted_is_taken_back(catalogue: Command) -> None:
    catalogue("offer", "grant", "starter", "acme", "--key", "o")

    ended = catalogue(
        "batch", "revoke", "acme", "--cause", "billing.grant_offer o", "--reason", "refund"
    )

    assert ended.out.count("took back") == 2


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("wallet", "show", "nobody"), "tenant_id 'nobody' is unknown"),
        (
            ("wallet", "grant", "acme", "calls", "x", "--reason", "r"),
            "'x' must be a number",
        ),
        (("wallet", "grant", "acme", "calls", "-1", "--reason", "r"), "No such option"),
        (("wallet", "grant", "acme", "none", "1", "--reason", "r"), "product_key 'NONE'"),
        (
            ("wallet", "adjust", "acme", "calls", "0", "--reason", "r"),
            "'0' must be a number",
        ),
        (("wallet", "adjust", "acme", "calls", "-1"), "--reason"),
        (("wallet", "consume", "acme", "calls"), "AMOUNT"),
        (
            ("wallet", "grant", "acme", "calls", "1", "--reason", "r", "--expires-at", "soon"),
            "'soon' must be an instant",
        ),
        (("offer", "show", "none"), "sku 'NONE' is unknown"),
        (("offer", "set", "new", "--price", "1"), "needs name and currency and items"),
        (("offer", "set", "new", "--item", "CALLS"), "'CALLS' must be PRODUCT=QUANTITY"),
        (("offer", "set", "new", "--item", "CALLS=1:3weeks"), "'CALLS=1:3weeks' must be"),
        (("offer", "set", "new", "--item", "CALLS=x"), "items.0.quantity 'x': "),
        (("product", "set", "usd", "--currency"), "'USD' can not be a currency"),
        (("product", "set", "calls", "--type", "period"), "is of type 'quantity' and stays so"),
        (
            ("batch", "show", "acme", "x7"),
            "'x7' must be the id of a batch, as `billing batch list` shows them",
        ),
        (("batch", "revoke", "acme", "--reason", "r"), "say which batches"),
        (("batch", "revoke", "acme", "--reason", "r", "--cause", "x"), "'x' must be a task"),
        (("batch", "list", "acme", "--state", "lost"), "'lost' is not one of"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_words_are_refused_by_name_and_value(
    catalogue: Command, words: tuple[str, ...], complaint: str
) -> None:
    ended = catalogue(*words)

    assert ended.status in {1, 2}
    # Boxes break lines where they like.
    assert complaint in " ".join(ended.err.replace("│", " ").split())
    assert "Traceback" not in ended.err


def test_an_empty_list_says_so(billing: Command) -> None:
    assert billing("product", "list").out == "no products\n"
    assert parsed(billing, "offer", "list") == []


def test_a_list_that_is_cut_off_says_so(catalogue: Command) -> None:
    assert catalogue("product", "list", "--limit", "2").out.endswith(
        "there are more products; see them with --limit\n"
    )


@given(AMOUNTS, AMOUNTS, AMOUNTS)
def test_a_bar_never_lies_about_nothing_and_all(a: Decimal, b: Decimal, c: Decimal) -> None:
    held, remaining, whole = sorted((a, b, c))
    whole = whole or Decimal(1)

    for marks in (BLOCKS, ASCII):
        drawn = bar(whole=whole, remaining=remaining, held=held, marks=marks)
        free, holds, gone = (drawn.count(mark) for mark in (marks.free, marks.held, marks.gone))
        assert free + holds + gone == len(drawn) == WIDTH
        assert (gone == WIDTH) == (remaining == 0)
        assert (gone == 0) == (remaining == whole)
        assert (holds > 0) == (held > 0)


def test_how_long_it_is_until_an_instant_is_said_in_words() -> None:
    now = wallet.START

    assert printing.until(now + dt.timedelta(days=40, hours=3), now=now) == "in 40 days"
    assert printing.until(now + dt.timedelta(hours=47), now=now) == "in 47 hours"
    assert printing.until(now + dt.timedelta(minutes=119), now=now) == "in 119 min"
    assert printing.until(now, now=now) == "over"
    assert printing.until(None, now=now) == ""
