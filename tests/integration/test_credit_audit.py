"""The audit: quiet when all is well, and each kind of damage found by its name."""

from collections import Counter
from collections.abc import Iterator, Mapping

import pytest
from sqlalchemy import Engine, text

from models import database
from models.store import credit_audit
from tasks import metrics
from tasks.credit_upkeep import audit
from tests.integration import wallet

FORGED = (
    "INSERT INTO ledger_entries (tenant_id, product_key, direction, amount, action, batch_id,"
    " balance_after, cause_type, cause_id, created_at) SELECT tenant_id, product_key, 'CREDIT', 1,"
    " 'grant', id, {after}, 'forged', '1', now() FROM credit_batches LIMIT 1"
)

BELOW_ZERO = (
    "UPDATE credit_batches SET state = 'REVOKED', closed_at = now(), remaining_amount = -1"
    " WHERE held_amount = 2"
)


@pytest.fixture(autouse=True)
def story(db: Engine) -> None:
    """Two tenants who were granted something and spent some of it; some expired, some is held.

    A third one is in debt.
    """
    wallet.product()
    for tenant_id in ("acme", "bolt"):
        wallet.grant(10, "g1", tenant_id=tenant_id, expires_at=5)
        wallet.consume(4, "c", tenant_id=tenant_id)
    wallet.sweep(6)
    wallet.grant(7, "g2", day=7)
    wallet.hold(2, day=7)
    wallet.deduct(3, "d", tenant_id="debtor")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many findings of each check were counted for the metric."""
    heard = Counter[str]()

    def listen(metric: metrics.Metric, amount: float, labels: Mapping[str, str]) -> None:
        if metric is metrics.CREDIT_FINDINGS:
            heard[labels["check"]] += int(amount)

    monkeypatch.setattr(metrics, "_listener", listen)
    return heard


def damage(db: Engine, *statements: str) -> None:
    with db.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def test_sound_books_have_no_findings(db: Engine, counted: Counter[str]) -> None:
    wallet.assert_sound()

    assert not counted
    assert wallet.events(db, "billing.audit_failed") == []


@pytest.mark.parametrize(
    ("statement", "checks"),
    [
        (
            "UPDATE credit_balances SET balance = balance + 1 WHERE tenant_id = 'acme'",
            {"ledger", "batches"},
        ),
        ("UPDATE credit_balances SET held = 1 WHERE tenant_id = 'acme'", {"held"}),
        ("UPDATE credit_balances SET debt = 1 WHERE tenant_id = 'acme'", {"batches", "debt"}),
        (
            "UPDATE credit_batches SET remaining_amount = 6 WHERE state = 'ACTIVE'",
            {"batches", "batch"},
        ),
        ("UPDATE credit_batches SET held_amount = 1 WHERE held_amount = 2", {"held", "holds"}),
        (
            "UPDATE reservations SET state = 'released', closed_at = created_at",
            {"holds"},
        ),
        ("UPDATE reservations SET amount = 1", {"slices"}),
        ("DELETE FROM reservation_slices", {"holds", "slices"}),
        (FORGED.format(after=1), {"ledger", "batch", "chain"}),
        (
            "DELETE FROM credit_balances WHERE tenant_id = 'acme'",
            {"ledger", "batches", "held"},
        ),
    ],
)
def test_damage_is_found(db: Engine, statement: str, checks: set[str]) -> None:
    damage(db, statement)

    answer = audit()

    assert answer["ok"] is False
    assert {finding["check"] for finding in answer["findings"]} == checks
    assert {finding["tenant_id"] for finding in answer["findings"]} == {"acme"}


@pytest.fixture
def unchecked(db: Engine) -> Iterator[None]:
    """Batches without the constraints on their amounts."""
    names = ("ck_credit_batches_amounts", "ck_credit_batches_held")
    definitions = dict(
        wallet.rows(
            db,
            "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE conname IN ('ck_credit_batches_amounts', 'ck_credit_batches_held')",
        )
    )
    damage(db, *(f"ALTER TABLE credit_batches DROP CONSTRAINT {name}" for name in names))
    yield
    damage(
        db,
        "UPDATE credit_batches SET state = 'ACTIVE', closed_at = NULL, remaining_amount = 7,"
        " held_amount = 2 WHERE created_at = '2026-03-08 12:00Z'",
        *(
            f"ALTER TABLE credit_batches ADD CONSTRAINT {name} {definitions[name]}"
            for name in names
        ),
    )


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("statement", "check"),
    [
        (BELOW_ZERO, "remaining"),
        ("UPDATE credit_batches SET remaining_amount = 11 WHERE held_amount = 2", "remaining"),
        ("UPDATE credit_batches SET held_amount = -1 WHERE held_amount = 2", "set_aside"),
        ("UPDATE credit_batches SET held_amount = 8 WHERE held_amount = 2", "set_aside"),
    ],
)
def test_what_the_database_would_refuse_is_found_all_the_same(
    db: Engine, statement: str, check: str
) -> None:
    damage(db, statement)

    assert check in {finding["check"] for finding in audit()["findings"]}


def test_a_hold_that_does_not_say_what_it_set_aside_is_named(db: Engine) -> None:
    damage(db, "UPDATE reservations SET amount = 5")

    (finding,) = audit()["findings"]

    (held,) = wallet.rows(db, "SELECT id FROM reservations")
    assert str(finding["reservation_id"]) == str(held[0])
    assert finding["batch_id"] is None
    assert (finding["expected"], finding["actual"]) == ("2", "5")
    assert "reservations.amount" in finding["advice"]
    (told,) = wallet.events(db, "billing.audit_failed")
    assert told["data"]["reservation_id"] == str(held[0])


def test_a_hold_on_what_is_not_counted_is_sound(db: Engine) -> None:
    wallet.product("SEATS", type_="unlimited")
    wallet.grant(1, "seats", product_key="SEATS")
    wallet.hold(40, "seats", product_key="SEATS")

    wallet.assert_sound()


def test_two_batches_that_differ_but_sum_up_are_found(db: Engine) -> None:
    wallet.grant(7, "g3", day=8)
    damage(
        db,
        "UPDATE credit_batches SET remaining_amount = 6 WHERE held_amount = 2",
        "UPDATE credit_batches SET initial_amount = 8, remaining_amount = 8"
        " WHERE created_at = '2026-03-09 12:00Z'",
    )

    findings = audit()["findings"]

    assert [finding["check"] for finding in findings] == ["batch", "batch"]


def test_a_finding_is_told_to_the_operator_once_a_day_with_what_to_do(
    db: Engine, counted: Counter[str], caplog: pytest.LogCaptureFixture
) -> None:
    damage(db, "UPDATE credit_balances SET debt = 2 WHERE tenant_id = 'debtor'")

    first = audit(as_of=wallet.at(8))
    audit(as_of=wallet.at(8.1))
    audit(as_of=wallet.at(9))

    told = wallet.events(db, "billing.audit_failed")
    assert [event["data"]["check"] for event in told] == ["batches", "debt"] * 2
    assert {event["tenant_id"] for event in told} == {""}
    debt = told[1]["data"]
    assert (debt["tenant_id"], debt["expected"], debt["actual"]) == ("debtor", "3", "2")
    assert "credit_balances.debt" in debt["advice"]
    assert first["findings"][1]["advice"] == debt["advice"]
    assert counted == {"batches": 3, "debt": 3}
    lines = [record.msg for record in caplog.records if "credit.audit_failed" in str(record.msg)]
    assert len(lines) == 6


def test_accounts_are_looked_at_chunk_by_chunk_and_the_next_run_goes_on(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(db, "UPDATE credit_balances SET held = held + 1")
    with database.transaction() as session:
        chunk = credit_audit.audit_chunk(session, behind=credit_audit.BEGINNING, at_most=2)

    assert [finding.tenant_id for finding in chunk.findings] == ["acme", "bolt"]
    assert chunk.behind == credit_audit.Account("bolt", "CALLS")

    rest = audit(after=("bolt", "CALLS"))
    assert [finding["tenant_id"] for finding in rest["findings"]] == ["debtor"]
    assert rest["next_after"] is None

    monkeypatch.setattr("tasks.credit_upkeep.AUDIT_SECONDS", 0.0)
    assert audit(after=("acme", "CALLS"))["next_after"] == ["acme", "CALLS"]
