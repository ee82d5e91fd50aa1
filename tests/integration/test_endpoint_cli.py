"""`billing endpoint`, as an operator sees it."""

import json
from uuid import UUID

import pytest
from sqlalchemy import Engine

from tasks.endpoint_list import get_endpoint
from tasks.tenants import set_tenant
from tests.integration.command import Command


@pytest.fixture
def billing(
    db: Engine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    database_url: str,
) -> Command:
    monkeypatch.setenv("BILLING_MASTER_KEYS", f"test:{'A' * 43}=")
    monkeypatch.setenv("BILLING_WEBHOOK_ALLOW_HTTP", "true")
    monkeypatch.setenv("BILLING_WEBHOOK_PRIVATE_HOSTS", "127.0.0.0/8")
    set_tenant(tenant_id="acme")
    return Command(monkeypatch, capsys, database_url)


URL = "https://example.com/hook"
ACME = ("--tenant", "acme")


def made(billing: Command, *options: str) -> dict[str, str]:
    ended = billing("endpoint", "create", URL, *ACME, "--json", *options)
    assert ended.status == 0, ended.err
    answer: dict[str, str] = json.loads(ended.out)
    return answer


def test_an_endpoint_is_made_shown_and_listed_and_its_secret_is_said_once(
    billing: Command,
) -> None:
    ended = billing(
        *("endpoint", "create", URL, *ACME, "--topic", "billing.invoice.*", "--rate", "90"),
        *("--header", "Authorization: Bearer hush", "--metadata", '{"team": "a"}'),
        *("--description", "Ours", "--ordered"),
    )
    secret = ended.out.partition("secret ")[2].split()[0]
    endpoint_id = ended.out.split()[2]

    shown = billing("endpoint", "show", endpoint_id).out
    listed = billing("endpoint", "list").out

    assert secret.startswith("whsec_")
    for said in ("acme", URL, "billing.invoice.*", "one after another", "90 a minute", "Ours"):
        assert said in shown
    assert "hmac since" in shown
    assert endpoint_id in listed
    assert "hush" not in shown + listed
    assert secret not in shown + listed
    as_json = json.loads(billing("endpoint", "show", endpoint_id, "--json").out)
    assert as_json["metadata"] == {"team": "a"}


def test_a_list_has_what_fits_and_says_when_nothing_does(billing: Command) -> None:
    one = made(billing)
    billing("endpoint", "create", URL, "--operator")

    ours = json.loads(billing("endpoint", "list", "--no-operator", "--json").out)

    assert [entry["endpoint_id"] for entry in ours] == [one["endpoint_id"]]
    assert billing("endpoint", "list", "--tenant", "nobody").out == "no endpoints\n"


def test_an_update_says_what_changed(billing: Command) -> None:
    one = made(billing, "--header", "X-Key: a")["endpoint_id"]

    ended = billing(
        *("endpoint", "update", one, "--description", "new", "--header", "X-Key:"),
        *("--header", "X-Other: b:c"),
    )

    assert ended.out == "changed description, headers\n"
    assert get_endpoint(endpoint_id=UUID(one))["headers"] == ["X-Other"]
    assert billing("endpoint", "update", one, "--description", "new").out == "it is so\n"


def test_states_follow_the_commands(billing: Command) -> None:
    one = made(billing)["endpoint_id"]

    said = [
        billing("endpoint", *words).out
        for words in (("disable", one), ("enable", one), ("delete", one, "--yes"))
    ]

    assert said == [f"endpoint {one} is {state}\n" for state in ("disabled", "enabled", "deleted")]


def test_a_deletion_is_asked_about_first(billing: Command) -> None:
    one = made(billing)["endpoint_id"]

    ended = billing("endpoint", "delete", one, stdin=b"n\n")

    assert ended.status == 1
    assert get_endpoint(endpoint_id=UUID(one))["state"] == "enabled"


def test_a_secret_is_rotated_and_the_old_one_revoked(billing: Command) -> None:
    one = made(billing)

    rotated = billing("endpoint", "rotate-secret", one["endpoint_id"], "--keep", "48")
    revoked = billing("endpoint", "revoke-secret", one["endpoint_id"], one["secret_id"])

    assert "for 48 h\nsecret whsec_" in rotated.out
    assert revoked.out == f"revoked; live keys: {rotated.out.split()[2].rstrip(';')}\n"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("create", "https://10.0.0.1/", *ACME), "10.0.0.1"),
        (("create", URL), "tenant_id"),
        (("create", URL, *ACME, "--topic", "billing.nonsense"), "billing.nonsense"),
        (("create", URL, *ACME, "--header", "Authorization"), "a colon and a value"),
        (("create", URL, *ACME, "--metadata", "[]"), "must be a JSON object"),
        (("show", "00000000-0000-0000-0000-000000000000"), "is unknown"),
        (("update", "00000000-0000-0000-0000-000000000000", "--rate", "5"), "is unknown"),
    ],
)
def test_a_mistake_is_said_in_words(billing: Command, words: tuple[str, ...], reason: str) -> None:
    ended = billing("endpoint", *words)

    assert ended.status in {1, 2}
    assert reason in " ".join(ended.err.split())
    assert "Traceback" not in ended.err
