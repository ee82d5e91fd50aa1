"""`billing order`, `trial` and `referral`, as an operator sees them, with the codes of refusals."""

import json
import re
from typing import Any

import pytest
from sqlalchemy import Engine

from models.rules.trial import Peppers
from tests.integration import shop, wallet
from tests.integration.command import Command
from tests.integration.test_credit_cli import rows
from webhooks.keyring import new_master_key


@pytest.fixture
def billing(
    db: Engine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    database_url: str,
) -> Command:
    """The command, with a shop and a pepper."""
    shop.open_shop()
    monkeypatch.setenv("BILLING_TRIAL_PEPPERS", new_master_key("p1"))
    return Command(monkeypatch, capsys, database_url)


def parsed(billing: Command, *words: str) -> Any:
    ended = billing(*words, "--json")
    assert ended.status == 0, ended.err
    return json.loads(ended.out)


def test_an_order_is_made_paid_listed_and_taken_back(billing: Command) -> None:
    said = billing("order", "create", "acme", "pack=2", "bundle").out
    found = re.fullmatch(
        r"order (\S{36}): 2 x PACK, 1 x BUNDLE for 29.99 EUR, waits for its payment\n", said
    )
    assert found
    order_id = found[1]

    paid = billing("order", "pay", order_id, "pay-1", "--method", "bank", "--amount", "29.99")
    assert [line.partition(":")[0] for line in paid.out.splitlines()] == [
        "granted 200 of CALLS to acme",
        "granted 100 of CALLS to acme",
        "granted 7 of COINS to acme",
    ]
    assert rows(billing("order", "list", "--state", "paid").out)[0][:6] == [
        order_id,
        "acme",
        "paid",
        "2 x PACK, 1 x BUNDLE",
        "29.99 EUR",
        "pay-1 by bank",
    ]
    assert parsed(billing, "order", "list", "--tenant", "bolt") == []
    assert json.loads(billing("order", "show", order_id).out)["total_minor"] == 2999

    back = billing("order", "refund", order_id, "--reason", "not wanted")
    assert back.out.splitlines()[-1] == "refundable: 29.99 EUR of 29.99 EUR"
    assert rows(back.out)[0] == ["PACK", "CALLS", "200", "0", "0", "0", "200"]
    assert billing("order", "list", "--state", "pending").out == "no orders\n"


def test_what_is_free_is_granted_and_what_waits_is_cancelled(billing: Command) -> None:
    assert billing("order", "create", "acme", "taste").out.endswith("for 0.00 EUR, granted\n")
    made = parsed(billing, "order", "create", "acme", "pack")

    assert billing("order", "cancel", made["order_id"]).out == (
        f"cancelled order {made['order_id']}\n"
    )


def test_a_refusal_ends_with_its_code(billing: Command) -> None:
    made = parsed(billing, "order", "create", "acme", "pack")
    refused = billing("order", "refund", made["order_id"], "--reason", "x")

    said = f"order {made['order_id']} is not paid; cancel it with billing.cancel_order"
    assert (refused.status, refused.err) == (1, f"billing: {said} [order.not_paid]\n")
    wrong = billing("order", "create", "acme", "pack=0")
    assert (wrong.status, wrong.err.endswith("[order.invalid_quantity]\n")) == (1, True)
    invalid = billing("order", "create", "acme", "pack=1000001")
    assert (invalid.status, invalid.err.endswith("[message.invalid]\n")) == (1, True)
    assert billing("order", "create", "acme", "pack=x").status == 2
    assert billing("order", "show", "x").status == 2


def test_a_trial_is_granted_once_and_the_status_says_so(billing: Command) -> None:
    shop.sell("try", price="0", metadata={"is_trial": True})
    who = ("email:ann@acme.example", "google:7")

    assert billing("trial", "check", "try", *who).out == "none of these has had a trial\n"
    granted = billing("trial", "grant", "acme", "try", *who).out
    assert granted.startswith("acme tries TRY: 100 of CALLS until ")
    again = billing("trial", "grant", "bolt", "try", "GOOGLE: 7")
    assert (again.status, again.out) == (1, "nothing was granted: one of these has had a trial\n")
    assert billing("trial", "check", "try", who[0]).status == 1
    assert billing("trial", "grant", "acme", "try", "ann").status == 2


def test_referrals_are_attached_counted_and_rewarded(billing: Command, db: Engine) -> None:
    set_ = billing("referral", "program", "--referrer-sku", "taste", "--referee-sku", "taste")
    assert set_.out == "programme default: TASTE for who brings, TASTE for who is brought\n"
    assert rows(billing("referral", "programs").out) == [["default", "TASTE", "TASTE", "yes"]]
    shop.bought(key="ann", tenant_id="ann")

    assert billing("referral", "attach", "bob", "ann").out == "bob was brought by ann\n"
    early = billing("referral", "claim", "bob")
    assert (early.status, early.out) == (
        1,
        "nothing was given to bob: it has paid for no order yet\n",
    )
    made = parsed(billing, "order", "create", "bob", "pack")
    billing("order", "pay", made["order_id"], "p")
    assert billing("referral", "claim", "bob").out == (
        f"ann got 100 of CALLS; bob got 100 of CALLS, for order {made['order_id']}\n"
    )
    assert billing("referral", "stats", "ann").out == (
        "ann has brought 1: 1 with a bonus, 0 without\n"
    )
    assert "it was brought by ann" in billing("referral", "stats", "bob").out
    assert rows(billing("referral", "list", "--rewarded").out)[0][:3] == ["ann", "bob", "default"]
    assert billing("referral", "list", "--pending").out == "no referrals\n"
    loop = billing("referral", "attach", "ann", "bob")
    assert loop.err.endswith("[referral.loop]\n")
    wallet.assert_sound()


def test_doctor_misses_a_pepper_that_trials_were_claimed_with(
    billing: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.sell("try", price="0", metadata={"is_trial": True})
    billing("trial", "grant", "acme", "try", "email:ann")

    def findings() -> dict[str, Any]:
        return {one["subject"]: one for one in json.loads(billing("doctor", "--json").out)}

    found = findings()
    assert found["trial peppers"]["detail"] == "1, the current one is 'p1'"
    assert "trial peppers used" not in found
    monkeypatch.setenv("BILLING_TRIAL_PEPPERS", new_master_key("p2"))
    assert findings()["trial peppers used"]["verdict"] == "warn"


def test_an_unreadable_pepper_is_one_line_and_not_shown(
    billing: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BILLING_TRIAL_PEPPERS", "p1:hunter2")

    ended = billing("trial", "check", "try", "email:ann")

    assert ended.status == 2
    assert ended.err.startswith("billing: BILLING_TRIAL_PEPPERS: ")
    assert "hunter2" not in ended.err


def test_a_new_key_of_the_command_is_a_pepper(billing: Command) -> None:
    printed = billing("keys", "new", "--id", "p9").out.strip()

    assert Peppers.parse(printed).current == "p9"
