"""What an operator does with messages that nobody with a key has sent."""

from sqlalchemy import Engine, text

from models import database
from tasks import keeping, signing
from tests.integration.command import Command

TENANT = "billing.set_tenant"


def tenants() -> set[str]:
    # Each command makes an engine of its own: the test's has gone.
    with database.transaction() as session:
        return set(session.scalars(text("SELECT tenant_id FROM tenants")))


def test_they_are_replayed_by_name_or_by_code_and_never_with_all_others(
    db: Engine, billing: Command
) -> None:
    for number, fault in enumerate((signing.Unsigned("none"), signing.BadlySigned("other"))):
        keeping.keep_untrusted(TENANT, {"tenant_id": f"stray-{number}"}, "m", fault=fault)
    keeping.keep_unknown(TENANT, {"tenant_id": "other"}, "o")
    with database.transaction() as session:
        ids = session.scalars(text("SELECT id FROM rejected_messages ORDER BY id")).all()

    billing("rejected", "replay", "--all")
    assert tenants() == {"other"}
    billing("rejected", "replay", str(ids[0]))
    assert tenants() == {"other", "stray-0"}
    billing("rejected", "replay", "--all", "--code", signing.BadlySigned.code)

    assert tenants() == {"other", "stray-0", "stray-1"}
