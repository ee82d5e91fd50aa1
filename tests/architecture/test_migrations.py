"""Migrations leave the release before at work, or say in so many words that they do not."""

import textwrap

import pytest
from alembic.script import Script, ScriptDirectory

from models import migrations
from models.migrations import hazards


def scripts() -> list[Script]:
    found = ScriptDirectory.from_config(migrations.configuration()).walk_revisions()
    return sorted(found, key=lambda one: one.revision)


def ruled() -> list[Script]:
    return [one for one in scripts() if int(one.revision) >= migrations.RULED_SINCE]


def of(script: Script) -> list[hazards.Hazard]:
    assert script.down_revision is None or isinstance(script.down_revision, str)
    return hazards.find(migrations.sql(script.down_revision, script.revision))


def test_a_migration_that_is_in_the_way_says_why() -> None:
    unsaid = [
        f"{script.revision} {hazard.says}: set `{hazard.kind}` or `harmless` to the reason"
        for script in ruled()
        for hazard in of(script)
        if not getattr(script.module, hazard.kind, None)
        and not getattr(script.module, "harmless", None)
    ]

    assert unsaid == []


def test_a_reason_is_a_sentence() -> None:
    for script in scripts():
        for name in ("breaks_older", "holds_locks", "harmless"):
            assert len(getattr(script.module, name, "a reason of some length")) >= 20


def test_what_was_done_before_the_rule_would_be_found() -> None:
    """The checker sees through Alembic's operations and through plain SQL alike."""
    by_revision = {one.revision: one for one in scripts()}

    assert "drops a column of usage_touched_days" in says(of(by_revision["0004"]))
    assert "drops a column of endpoints" in says(of(by_revision["0007"]))
    assert "keeps others from writing deliveries" in says(of(by_revision["0013"]))
    assert "changes rows of rejected_messages" in says(of(by_revision["0013"]))
    assert of(by_revision["0019"]) == []


def says(found: list[hazards.Hazard]) -> str:
    return "; ".join(hazard.says for hazard in found)


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE invoices ADD COLUMN note TEXT",
        "ALTER TABLE invoices ADD COLUMN note TEXT DEFAULT 'x' NOT NULL",
        "CREATE INDEX CONCURRENTLY ix ON invoices (note)",
        "ALTER TABLE invoices VALIDATE CONSTRAINT ck",
        "ALTER TABLE invoices DROP CONSTRAINT ck",
        "CREATE TABLE notes (id INT NOT NULL); CREATE UNIQUE INDEX ix ON notes (id)",
        "CREATE TABLE notes (id INT); ALTER TABLE notes ADD CONSTRAINT ck CHECK (id > 0)",
        "-- DROP TABLE invoices\nSELECT 'DROP TABLE invoices; DROP TABLE invoices'",
        "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $$ ; DELETE FROM invoices; $$",
        "UPDATE alembic_version SET version_num='0030'",
    ],
)
def test_additions_are_let_pass(statement: str) -> None:
    assert hazards.find(f"BEGIN;\n\n{statement};\n\nCOMMIT;") == []


@pytest.mark.parametrize(
    ("statement", "kinds"),
    [
        ("DROP TABLE IF EXISTS invoices", {"breaks_older"}),
        ("ALTER TABLE invoices\n  DROP COLUMN note", {"breaks_older"}),
        ("ALTER TABLE invoices RENAME TO bills", {"breaks_older"}),
        ("ALTER TABLE invoices RENAME note TO remark", {"breaks_older"}),
        ('ALTER TABLE "invoices" ADD COLUMN note TEXT NOT NULL', {"breaks_older"}),
        ("ALTER TABLE invoices ALTER COLUMN note SET NOT NULL", {"breaks_older", "holds_locks"}),
        ("ALTER TABLE invoices ALTER COLUMN n TYPE BIGINT", {"breaks_older", "holds_locks"}),
        ("ALTER TABLE invoices ADD CONSTRAINT c CHECK (n > 0)", {"breaks_older", "holds_locks"}),
        ("ALTER TABLE invoices ADD CONSTRAINT c CHECK (n > 0) NOT VALID", {"breaks_older"}),
        ("CREATE INDEX ix ON invoices (note)", {"holds_locks"}),
        ("CREATE UNIQUE INDEX CONCURRENTLY ix ON invoices (note)", {"breaks_older"}),
        ("ALTER TABLE invoices ADD COLUMN u UUID DEFAULT gen_random_uuid()", {"holds_locks"}),
        ("UPDATE invoices SET note = ''", {"holds_locks"}),
        ("CREATE TRIGGER t BEFORE UPDATE ON invoices EXECUTE FUNCTION f()", {"breaks_older"}),
    ],
)
def test_what_is_in_the_way_is_named(statement: str, kinds: set[str]) -> None:
    found = hazards.find(f"BEGIN;\n\n{textwrap.dedent(statement)};\n\nCOMMIT;")

    assert {hazard.kind for hazard in found} == kinds
    assert all("invoices" in hazard.says for hazard in found)
