"""Names at providers resolve to tenants: one each, made once, and looked up without making any."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner

from models.store.identity import IdentityTaken
from models.store.tenant import UnknownTenant
from tasks import contract
from tasks.identities import find_tenant, identify, link_identity, unlink_identity
from tasks.tenant_list import get_tenant, list_tenants
from tasks.tenants import set_tenant
from tests.integration import wallet
from worker.cli import app

GOOGLE: Any = {"provider": "google", "external_id": "4711"}
AT_ONCE = 16


def test_an_unknown_identity_makes_a_tenant_and_the_next_call_finds_it(db: Engine) -> None:
    first = identify(**GOOGLE, profile={"name": "Ada"})
    second = identify(provider=" Google ", external_id="4711\n")

    assert first["created"] is True
    assert second == {**first, "created": False}
    assert second["tenant"]["name"] == "Ada"


def test_sixteen_who_come_at_once_are_one_tenant(db: Engine) -> None:
    together = threading.Barrier(AT_ONCE)

    def come(_: int) -> Any:
        together.wait()
        return identify(**GOOGLE, profile={"metadata": {"seen": True}})

    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(come, range(AT_ONCE)))

    assert sum(answer["created"] for answer in answers) == 1
    assert len({answer["tenant_id"] for answer in answers}) == 1
    assert wallet.rows(db, "SELECT count(*) FROM tenants") == [(1,)]


def test_looking_up_makes_nothing(db: Engine) -> None:
    assert find_tenant(**GOOGLE) == {"tenant_id": None, "tenant": None}
    with pytest.raises(UnknownTenant):
        get_tenant(tenant_id="nobody")

    assert wallet.rows(db, "SELECT * FROM tenants") == []
    assert wallet.rows(db, "SELECT * FROM tenant_identities") == []


def test_a_profile_is_merged_and_only_what_is_named_goes(db: Engine) -> None:
    known = {"name": "Ada", "address": "1 Road", "metadata": {"a": 1, "b": 1}}
    identify(**GOOGLE, profile=known)

    merged = identify(
        **GOOGLE, profile={"name": None, "currency": "EUR", "metadata": {"b": 2}, "remove": []}
    )
    assert merged["tenant"]["name"] == "Ada"
    assert merged["tenant"]["currency"] == "EUR"
    assert merged["tenant"]["metadata"] == {"a": 1, "b": 2}

    lessened = identify(**GOOGLE, profile={"remove": ["address", "metadata.a", "metadata.x"]})
    assert lessened["tenant"]["address"] is None
    assert lessened["tenant"]["name"] == "Ada"
    assert lessened["tenant"]["metadata"] == {"b": 2}


@pytest.mark.parametrize(
    "profile",
    [
        {"name": "Ada", "remove": ["name"]},
        {"remove": ["timezone"]},
        {"remove": ["metadata"]},
        {"surprise": 1},
        {"currency": "XYZ"},
    ],
)
def test_a_profile_that_says_two_things_or_nothing_known_is_refused(
    db: Engine, profile: dict[str, Any]
) -> None:
    with pytest.raises(contract.InvalidMessage, match="profile"):
        identify(**GOOGLE, profile=profile)

    assert wallet.rows(db, "SELECT * FROM tenants") == []


def test_a_tenant_has_several_names_and_a_name_one_tenant(db: Engine) -> None:
    set_tenant(tenant_id="acme")
    set_tenant(tenant_id="other")
    assert link_identity(tenant_id="acme", **GOOGLE)["changed"] is True
    assert link_identity(tenant_id="acme", **GOOGLE)["changed"] is False
    link_identity(tenant_id="acme", provider="github", external_id="Ada")

    with pytest.raises(IdentityTaken, match="acme"):
        link_identity(tenant_id="other", **GOOGLE)
    with pytest.raises(IdentityTaken, match="acme"):
        unlink_identity(tenant_id="other", **GOOGLE)
    assert get_tenant(tenant_id="acme")["identities"] == [
        {"provider": "github", "external_id": "Ada"},
        GOOGLE,
    ]

    assert unlink_identity(tenant_id="acme", **GOOGLE)["changed"] is True
    assert unlink_identity(tenant_id="acme", **GOOGLE)["changed"] is False
    assert identify(**GOOGLE)["tenant_id"] != "acme"


def test_tenants_are_listed_page_by_page(db: Engine) -> None:
    for number in range(5):
        set_tenant(tenant_id=f"a{number}")
    set_tenant(tenant_id="b")

    seen, cursor = [], None
    while True:
        page = list_tenants(prefix="a", limit=2, cursor=cursor)
        seen += [one["tenant_id"] for one in page["tenants"]]
        if (cursor := page["next_cursor"]) is None:
            break

    assert seen == [f"a{number}" for number in range(5)]


def test_the_command_line_identifies_links_shows_and_lists(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.cli.printing.prepare", lambda: None)

    def run(*arguments: str) -> str:
        ended = CliRunner().invoke(app, ["tenant", *arguments])
        assert ended.exit_code == 0, ended.output
        return ended.output

    made = json.loads(run("identify", "google:4711", "--name", "Ada", "--json"))
    assert made["created"] is True
    assert run("identify", "google:4711") == f"tenant {made['tenant_id']}\n"
    assert "is " + made["tenant_id"] in run("link", made["tenant_id"], "github:Ada:1")
    shown = json.loads(run("show", "github:Ada:1", "--json"))
    assert shown["tenant_id"] == made["tenant_id"]
    assert "google:4711" in run("show", made["tenant_id"])
    assert "github:Ada:1, google:4711" in run("list")
    assert "nobody's any more" in run("unlink", made["tenant_id"], "google:4711")
    assert CliRunner().invoke(app, ["tenant", "link", "x", "nothing"]).exit_code == 2
