"""Ledger entries as log lines: the books once more, in a place that no database can lose.

A line is written once the entry's transaction has committed, so a process that dies between the two
leaves it out: the ledger is the truth, the lines are a trail. An entry's metadata is the
producer's own and is not in its line.
"""

import logging
import sys
from collections.abc import Sequence

import structlog

from models.rules import decimals
from models.store import credit_ledger
from models.store.credit_ledger import Entry

LOGGER = "billing.ledger"

log = structlog.get_logger(LOGGER)


def keep(*, wanted: bool) -> None:
    """Log the entries that this process writes from now on, or none; none below INFO."""
    shown = wanted and logging.getLogger(LOGGER).isEnabledFor(logging.INFO)
    credit_ledger.hand_to(_write if shown else None)


def spare_terminals() -> None:
    """Log none where a person reads along: what a command did it says itself."""
    if sys.stderr.isatty():
        credit_ledger.hand_to(None)


def _write(entries: Sequence[Entry]) -> None:
    for entry in entries:
        log.info(
            "ledger.entry",
            entry_id=entry.id,
            tenant_id=entry.tenant_id,
            product_key=entry.product_key,
            direction=entry.direction,
            action=entry.action,
            amount=decimals.plain(entry.amount),
            balance_after=decimals.plain(entry.balance_after),
            batch_id=None if entry.batch_id is None else str(entry.batch_id),
            cause_type=entry.cause.type,
            cause_id=entry.cause.id,
            created_at=entry.created_at.isoformat(),
        )
