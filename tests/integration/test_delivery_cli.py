"""`billing delivery`, `billing endpoint stats` and `ping`, as an operator sees them."""

import json
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from models import database
from tasks.delivery import deliver_webhooks
from tests.integration.command import Command
from tests.integration.outbox_world import deliveries, emit, end_leases, states, subscribe, take
from tests.receiver import Answer, Receiver, receiver
from webhooks.keyring import new_master_key


@pytest.fixture
def billing(
    db: Engine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    database_url: str,
) -> Command:
    key = new_master_key("test")
    monkeypatch.setenv("BILLING_MASTER_KEYS", key)
    monkeypatch.setenv("BILLING_WEBHOOK_ALLOW_HTTP", "true")
    monkeypatch.setenv("BILLING_WEBHOOK_PRIVATE_HOSTS", "127.0.0.0/8")
    ran = Command(monkeypatch, capsys, database_url)
    ran("endpoint", "list")  # from here on tasks obey the same keys as the command
    return ran


@pytest.fixture
def peer() -> Iterator[Receiver]:
    with receiver(Answer(status=503, body=b"busy \x1b[31mred"), Answer(body=b"fine")) as opened:
        yield opened


def test_deliveries_are_listed_shown_and_sent_again(
    billing: Command, db: Engine, peer: Receiver
) -> None:
    made = subscribe(peer)
    [event_id] = emit()
    deliver_webhooks()
    [row] = deliveries(database.engine())

    listed = billing("delivery", "list", "--state", "pending").out
    shown = billing("delivery", "show", str(row.id), "--event").out
    replayed = billing("delivery", "replay", str(row.id)).out
    deliver_webhooks()

    for said in (str(row.id), "billing.quota_consumed", "acme", made["endpoint_id"]):
        assert said in listed
    assert "http_error 503" in listed
    assert "busy [31mred" in shown
    assert "\x1b" not in shown
    assert event_id in shown
    assert '"product_key": "TOKENS"' in shown
    assert replayed == f"delivery {row.id} is pending\n"
    as_json = json.loads(billing("delivery", "show", str(row.id), "--json").out)
    assert [one["status"] for one in as_json["attempts"]] == [503, 200]


def test_a_list_is_as_long_as_asked_and_says_when_there_is_more(
    billing: Command, db: Engine
) -> None:
    subscribe()
    emit(count=3)
    take()

    said = billing("delivery", "list", "--limit", "2").out
    three = json.loads(billing("delivery", "list", "--limit", "3", "--json").out)

    assert "there are more deliveries" in said
    assert len(three) == 3
    assert billing("delivery", "list", "--tenant", "nobody").out == "no deliveries\n"


def test_all_dead_ones_of_an_endpoint_are_sent_again(billing: Command, db: Engine) -> None:
    made = subscribe()
    emit(count=3)
    take()
    end_leases(database.engine(), state="dead")
    of_endpoint = ("--endpoint", made["endpoint_id"], "--since", "2020-01-01")

    few = billing("delivery", "replay", *of_endpoint, "--most", "2").out
    rest = json.loads(billing("delivery", "replay", *of_endpoint, "--json").out)

    assert few == "sent again: 2\n"
    assert rest["replayed"] == 1
    assert states(database.engine()) == ["pending"] * 3


def test_what_everybody_lacks_is_counted_before_it_is_sent(billing: Command, db: Engine) -> None:
    subscribe()
    emit(count=2)
    take()
    end_leases(database.engine(), state="dead")
    subscribe()
    asked = ("--since", "2020-01-01", "--state", "dead", "--state", "missing")

    counted = billing("delivery", "replay", *asked, "--everybody", "--dry-run").out
    assert states(database.engine()) == ["dead", "dead"]
    sent = billing("delivery", "replay", *asked, "--tenant", "acme", "--key", "k").out
    again = billing("delivery", "replay", *asked, "--tenant", "acme", "--key", "k").out

    assert counted == "would send again: 4 (2 dead, 2 missing)\n"
    assert sent == again == "sent again: 4 (2 dead, 2 missing)\n"
    assert states(database.engine()) == ["pending"] * 4


def test_one_is_skipped_with_a_reason(billing: Command, db: Engine) -> None:
    subscribe()
    emit()
    take()
    end_leases(database.engine())
    [row] = deliveries(database.engine())

    billing("delivery", "skip", str(row.id), "--reason", "poison")

    assert "skipped   poison" in billing("delivery", "show", str(row.id)).out


def test_figures_are_shown_in_words(billing: Command, db: Engine, peer: Receiver) -> None:
    made = subscribe(peer)
    emit(count=2)
    deliver_webhooks()

    said = billing("endpoint", "stats", made["endpoint_id"]).out

    assert "50.0 %" in said
    assert "1 delivered" in said
    assert "1 pending, 0 of them due" in said
    as_json = json.loads(billing("endpoint", "stats", made["endpoint_id"], "--json").out)
    assert as_json["attempts"] == 2


def test_the_same_ping_again_says_what_became_of_it(
    billing: Command, db: Engine, peer: Receiver
) -> None:
    made = subscribe(peer)
    ended = []
    for key in ("first", "second"):
        words = ("endpoint", "ping", made["endpoint_id"], "--key", key)
        assert billing(*words, "--wait", "0.3").status == 1
        deliver_webhooks()
        ended.append(billing(*words))

    refused, arrived = ended
    assert refused.status == 1
    assert "http_error 503" in refused.out
    assert arrived.status == 0
    assert arrived.out.endswith(" ms\nfine\n")


def test_a_ping_that_nobody_sends_says_so(billing: Command, db: Engine) -> None:
    made = subscribe()

    ended = billing("endpoint", "ping", made["endpoint_id"], "--wait", "0")

    assert ended.status == 1
    assert "no attempt yet" in ended.out


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("replay",), "give either"),
        (("replay", "--since", "2026-03-01T00:00:00Z"), "say to whom"),
        (("replay", "1", "--endpoint", "00000000-0000-0000-0000-000000000000"), "is unknown"),
        (("show", "1"), "is unknown"),
        (("list", "--since", "yesterday"), "ISO 8601"),
        (("list", "--event", "x"), "malformed event id"),
    ],
)
def test_a_mistake_is_said_in_words(billing: Command, words: tuple[str, ...], reason: str) -> None:
    ended = billing("delivery", *words)

    assert ended.status in {1, 2}
    assert reason in " ".join(ended.err.split())
