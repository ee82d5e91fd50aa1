"""Trials: any identity once, ever, whoever claims it, with whatever others, however often."""

import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine, text

from models import database
from models.rules.trial import Identity, Peppers
from models.store import tenant, trial
from tasks import config, contract
from tasks.offers import set_offer
from tasks.trials import check_trial, grant_trial
from tests.integration import shop, wallet
from tests.integration.shop import said
from tests.integration.waiting import until_somebody_waits
from webhooks.keyring import new_master_key

OLD, NEW = new_master_key("p1"), new_master_key("p2")
ANN = ("email", "ann@acme.example")
ANN_ELSEWHERE = ("google", "1047")


@pytest.fixture(autouse=True)
def catalogue(db: Engine) -> None:
    """A trial of 100 calls for two weeks, and a pack that is none."""
    shop.open_shop()
    two_weeks = [{**shop.CALLS, "period": "days", "value": 14}]
    shop.sell("try", price="0", items=two_weeks, metadata={"is_trial": True})


def pepper(*entries: str) -> None:
    config.use(
        dataclasses.replace(
            config.current(), trial_peppers=Peppers.parse(",".join(entries)) if entries else None
        )
    )


def who(*identities: tuple[str, str]) -> list[dict[str, str]]:
    return [{"provider": provider, "external_id": one} for provider, one in identities]


def claim(*identities: tuple[str, str], day: float = 0, **rest: Any) -> Any:
    given = {"tenant_id": "acme", "sku": "try", **rest}
    return grant_trial(**given, identities=who(*identities or (ANN,)), as_of=wallet.at(day))


def test_a_trial_grants_the_offer_and_keeps_who_had_it_as_a_keyed_hash_alone(db: Engine) -> None:
    answer = claim(ANN, ANN_ELSEWHERE, metadata={"from": "signup"})

    (batch,) = wallet.rows(
        db, "SELECT id::text, source, expires_at::text, metadata FROM credit_batches"
    )
    assert batch[1:] == ("trial", "2026-03-15 12:00:00+00", {"from": "signup"})
    assert answer == {
        "granted": True,
        "trial_id": answer["trial_id"],
        "tenant_id": "acme",
        "sku": "TRY",
        "activated_at": "2026-03-01T12:00:00Z",
        "batches": [
            {
                "batch_id": batch[0],
                "product_key": "CALLS",
                "amount": "100",
                "expires_at": "2026-03-15T12:00:00Z",
            }
        ],
    }
    (told,) = wallet.events(db, "billing.trial_activated")
    assert told["data"] == {"tenant_id": "acme", "trial_id": answer["trial_id"], "sku": "TRY"}
    cause = "SELECT cause_type, cause_id FROM ledger_entries"
    assert wallet.rows(db, cause) == [("trial", answer["trial_id"])]
    marks = wallet.rows(db, "SELECT length(digest), pepper_id FROM trial_identities")
    assert marks == [(32, "test")] * 2
    wallet.assert_sound()


def test_neither_the_identity_nor_the_pepper_is_anywhere_in_the_database(db: Engine) -> None:
    pepper(NEW)
    claim()
    claim(tenant_id="other")

    with db.connect() as connection:
        tables = connection.execute(
            text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        ).scalars()
        everything = json.dumps(
            [[str(row) for row in connection.execute(text(f"TABLE {one}"))] for one in tables]
        )
    assert "ann@acme" not in everything
    assert NEW.partition(":")[2] not in everything


@pytest.mark.parametrize(
    "again",
    [
        [ANN],
        [(" EMAIL ", " Ann@ACME.example\u2009")],
        [ANN_ELSEWHERE],
        [("github", "ann"), ANN],
        [("github", "ann"), ("google", "1047 ")],
    ],
)
def test_an_identity_has_one_trial_whoever_claims_and_however_it_is_spelled(
    db: Engine, again: list[tuple[str, str]]
) -> None:
    claim(ANN, ANN_ELSEWHERE)
    shop.sell("other", price="0", metadata={"is_trial": True})
    before = wallet.rows(db, "TABLE ledger_entries")

    no = {"granted": False, "reason": "already_used"}
    assert claim(*again, tenant_id="bolt", day=400) == no
    assert claim(*again, sku="other", day=400) == no
    assert claim(*again, day=400) == no
    assert check_trial(sku="try", identities=who(*again)) == {
        "eligible": False,
        "reason": "already_used",
    }
    assert wallet.rows(db, "TABLE ledger_entries") == before
    assert wallet.rows(db, "SELECT count(*) FROM trial_identities") == [(2,)]
    assert claim(("github", "ann"), tenant_id="bolt")["granted"] is True


def test_the_same_claim_again_is_the_same_trial(db: Engine) -> None:
    first = claim(ANN, ANN_ELSEWHERE)

    assert claim(ANN_ELSEWHERE, (" email", "ANN@acme.example"), ANN, day=3) == first
    set_offer(sku="try", active=False)
    assert claim(ANN, ANN_ELSEWHERE, day=4) == first
    assert wallet.balance()["balance"] == "100"
    assert len(wallet.events(db, "billing.trial_activated")) == 1


def test_one_identity_spelled_twice_in_a_claim_is_one(db: Engine) -> None:
    assert claim(ANN, ("Email", "ANN@ACME.example "))["granted"] is True
    assert wallet.rows(db, "SELECT count(*) FROM trial_identities") == [(1,)]


def test_the_same_id_at_two_providers_is_two_people(db: Engine) -> None:
    assert claim(("google", "7"))["granted"] is True
    assert claim(("github", "7"), tenant_id="bolt")["granted"] is True


def test_six_claims_at_once_grant_once(db: Engine) -> None:
    """By six tenants, each with an identity of its own besides the one they share."""
    answers = shop.all_at_once(
        [
            lambda n=n: claim(("device", str(n)), ANN, tenant_id=f"t{n}")  # type: ignore[misc]
            for n in range(6)
        ]
    )

    assert sum(answer["granted"] for answer in answers) == 1
    assert wallet.rows(db, "SELECT count(*) FROM credit_batches") == [(1,)]
    assert wallet.rows(db, "SELECT count(*) FROM trials") == [(1,)]
    assert len(wallet.events(db, "billing.trial_activated")) == 1
    wallet.assert_sound()


def test_eight_times_the_same_claim_at_once_is_one_trial(db: Engine) -> None:
    answers = shop.all_at_once([claim] * 8)

    assert all(answer == answers[0] for answer in answers)
    assert wallet.balance()["balance"] == "100"


def test_claims_that_share_identities_crosswise_do_not_wait_in_a_circle(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.trying.MOST_TRIES", 1)  # else a deadlock would be tried again
    names = [("email", f"{n}@acme.example") for n in range(6)]

    answers = shop.all_at_once(
        [
            lambda n=n: claim(*names[n:], *names[:n], tenant_id=f"t{n}")  # type: ignore[misc]
            for n in range(6)
        ]
    )

    assert sum(answer["granted"] for answer in answers) == 1


def test_who_had_a_trial_under_an_old_pepper_is_still_known_and_its_id_is_kept(
    db: Engine,
) -> None:
    pepper(OLD)
    first = claim()
    pepper(NEW, OLD)

    assert claim(tenant_id="bolt") == {"granted": False, "reason": "already_used"}
    assert check_trial(sku="try", identities=who(ANN))["eligible"] is False
    assert claim() == first
    assert claim(("email", "bob@acme.example"), tenant_id="bolt")["granted"] is True
    kept = "SELECT pepper_id FROM trial_identities ORDER BY 1"
    assert wallet.rows(db, kept) == [("p1",), ("p2",)]


@pytest.mark.parametrize(("mine", "theirs"), [((OLD,), (OLD, NEW)), ((OLD, NEW), (NEW, OLD))])
def test_while_a_pepper_is_rotated_step_by_step_processes_that_differ_still_grant_once(
    db: Engine, mine: tuple[str, ...], theirs: tuple[str, ...]
) -> None:
    for first, second in ((mine, theirs), (theirs, mine)):
        one = ("email", f"{first[0]}-{len(first)}@acme.example")
        pepper(*first)
        assert claim(one, tenant_id="bolt")["granted"] is True
        pepper(*second)
        assert claim(one, tenant_id="cord")["granted"] is False


def test_processes_with_their_peppers_in_another_order_wait_for_each_other(db: Engine) -> None:
    """One enters under the old, the other under the new: no unique key would tell."""
    pepper(NEW, OLD)
    theirs, ann = Peppers.parse(f"{OLD},{NEW}"), Identity(*ANN)
    with database.Session(db) as session, session.begin(), ThreadPoolExecutor(1) as threads:
        trial.lock(session, theirs.digests([ann]))
        tenant.ensure(session, "bolt", now=wallet.START)
        had = {"trial_id": trial.new_id(wallet.START), "tenant_id": "bolt", "sku": "TRY"}
        trial.add(session, [theirs.mark(ann)], **had, batch_ids=[], details={}, now=wallet.START)
        mine = threads.submit(claim)
        until_somebody_waits()
        session.commit()

        assert mine.result(timeout=10) == {"granted": False, "reason": "already_used"}


def test_without_a_pepper_there_are_no_trials(db: Engine) -> None:
    pepper()

    assert said(claim) == "trial.no_pepper"
    assert said(lambda: check_trial(sku="try", identities=who(ANN))) == "trial.no_pepper"


def test_only_a_trial_can_be_tried(db: Engine) -> None:
    assert said(lambda: claim(sku="pack")) == "trial.not_a_trial"
    assert said(lambda: check_trial(sku="pack", identities=who(ANN))) == "trial.not_a_trial"
    assert said(lambda: claim(sku="nothing")) == "offer.unknown"
    set_offer(sku="try", active=False)
    assert said(claim) == "offer.inactive"
    assert wallet.rows(db, "SELECT count(*) FROM trial_identities") == [(0,)]


def test_an_offer_of_trial_products_alone_is_a_trial(db: Engine) -> None:
    wallet.product("CALLS", metadata={"is_trial": True})

    assert claim(sku="pack")["granted"] is True
    assert said(lambda: claim(("x", "y"), sku="bundle")) == "trial.not_a_trial"


@pytest.mark.parametrize("truth", ["true", 1, "yes", False, None])
def test_nothing_but_true_makes_a_trial(db: Engine, truth: Any) -> None:
    set_offer(sku="pack", metadata={"is_trial": truth})

    assert said(lambda: claim(sku="pack")) == "trial.not_a_trial"


def test_a_product_that_is_not_granted_leaves_the_identity_free(db: Engine) -> None:
    wallet.product("CALLS", active=False)
    assert said(claim) == "product.inactive"
    wallet.product("CALLS", active=True)

    assert claim()["granted"] is True


@pytest.mark.parametrize(
    "identities",
    [[], [("", "x")], [("email", " ")], [("a:b", "c")], [("email", "x\ny")], [ANN] * 21],
)
def test_what_names_nobody_is_refused_without_being_quoted(
    db: Engine, identities: list[tuple[str, str]]
) -> None:
    with pytest.raises(contract.InvalidMessage) as refused:
        grant_trial(tenant_id="acme", sku="try", identities=who(*identities))

    assert all("value" not in error for error in refused.value.errors)


def test_checking_changes_nothing_and_waits_for_nobody(db: Engine) -> None:
    before = {table: wallet.rows(db, f"TABLE {table}") for table in ("trials", "tenants")}

    assert check_trial(sku="try", identities=who(ANN)) == {"eligible": True, "reason": None}

    assert before == {table: wallet.rows(db, f"TABLE {table}") for table in before}
