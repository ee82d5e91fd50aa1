"""Telling subscribers of every ledger entry, where the operator wants that."""

from collections.abc import Sequence

from models import database
from models.store.credit_ledger import Entry
from tasks.announce import Announcement, announce_all
from webhooks import events


def tell(session: database.Session, entries: Sequence[Entry]) -> None:
    """Announce entries in the transaction that wrote them."""
    if entries:
        announce_all(session, [_of(entry) for entry in entries], now=entries[0].created_at)


def _of(entry: Entry) -> Announcement:
    event = events.TransactionCreated(
        tenant_id=entry.tenant_id,
        product_key=entry.product_key,
        entry_id=entry.id,
        direction=entry.direction,
        action=entry.action,
        amount=entry.amount,
        balance_after=entry.balance_after,
        batch_id=entry.batch_id,
        cause_type=entry.cause.type,
        cause_id=entry.cause.id,
    )
    return Announcement(event, entry.tenant_id, entry.id)
