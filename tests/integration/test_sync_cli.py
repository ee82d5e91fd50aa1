"""`billing sync`: what is at the provider, and sending it again."""

import json
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from tasks import config
from tests.integration.command import Command
from tests.integration.provider_world import finalized, make_offer, run, use_provider
from tests.stripe_server import SECRET_KEY, Stripe, stripe


@pytest.fixture
def account(db: Engine) -> Iterator[Stripe]:
    with stripe() as running:
        use_provider(running)
        make_offer()
        yield running


@pytest.fixture
def billing(
    account: Stripe,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Command:
    monkeypatch.setenv("BILLING_PROVIDER", "stripe")
    monkeypatch.setenv("BILLING_PROVIDER_KEY", SECRET_KEY)
    monkeypatch.setenv("BILLING_PROVIDER_URL", account.url)
    monkeypatch.setenv("BILLING_WEBHOOK_ALLOW_HTTP", "true")
    monkeypatch.setenv("BILLING_WEBHOOK_PRIVATE_HOSTS", "127.0.0.1")
    return Command(monkeypatch, capsys, database_url)


def test_an_operator_sees_what_failed_mends_it_and_sends_it_again(
    billing: Command, account: Stripe
) -> None:
    assert "no invoices at a provider" in billing("sync", "list").out
    number = finalized()["number"]
    finalized("other")
    assert billing("sync", "link", "acme", "cus_gone").out == "acme is cus_gone at stripe\n"
    run()

    listed = billing("sync", "list", "--state", "failed").out
    assert number in listed
    assert "No such object: 'cus_gone'" in listed
    assert "other" not in listed
    (found,) = json.loads(billing("sync", "list", "--state", "failed", "--json").out)
    assert (found["number"], found["code"]) == (number, "provider.resource_missing")
    again = billing("sync", "retry", number, "--as-of", "2027-01-01T00:00:00Z")
    assert (again.status, "failed" in again.out) == (1, True)

    (customer,) = account.account.of("customer")
    billing("sync", "link", "acme", customer["id"])
    ended = billing("sync", "retry", "--all", "--as-of", "2027-01-01T00:00:00Z")
    assert (ended.status, ended.out) == (0, f"{number} of acme at stripe: synced\n")
    shown = billing("sync", "show", number).out
    assert shown.count("refused") == 2
    assert "invoice: in_" in shown
    tries = json.loads(billing("sync", "show", number, "--json").out)["tries"]
    assert [one["outcome"] for one in tries] == ["done"] * 4 + ["refused"] * 2
    assert SECRET_KEY not in listed + shown


def test_an_invoice_from_before_there_was_a_provider_can_be_sent(
    billing: Command, account: Stripe, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.use(config.Config(kick=False))
    number = finalized()["number"]
    shown = billing("sync", "show", number)
    assert (shown.status, "billing sync retry" in shown.err) == (1, True)

    assert billing("sync", "retry", number, "--as-of", "2027-01-01T00:00:00Z").status == 0
    assert len(account.account.of("invoice")) == 1

    monkeypatch.delenv("BILLING_PROVIDER")
    monkeypatch.delenv("BILLING_PROVIDER_KEY")
    refused = billing("sync", "retry", number)
    assert (refused.status, "BILLING_PROVIDER" in refused.err) == (1, True)
    both = billing("sync", "retry", number, "--all")
    assert both.status == 2
