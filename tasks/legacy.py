"""Migration in: identities, balances and subscriptions of a system before this one."""

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal, TypedDict

import pydantic
from pydantic import Field

from models import database
from models.rules.refusal import Refusal
from models.store import alias, inbox, legacy, tenant
from tasks import contract, fields, message_faults
from tasks.legacy_rows import KINDS, LegacyRow
from tasks.queues import Queue

LARGEST_CHUNK = 1_000
"""Rows of one message."""

Verdict = Literal["imported", "unchanged", "conflict", "rejected"]


class RefusedRow(TypedDict):
    """A row that was not taken over, and why. `field` is None if it is about the row."""

    index: int
    verdict: Literal["conflict", "rejected"]
    code: str
    field: str | None
    reason: str


class ImportAnswer(TypedDict):
    """What became of the rows of a message."""

    imported: int
    unchanged: int
    conflict: int
    rejected: int
    refused: list[RefusedRow]


class ChangedRow(Refusal):
    """A row says something else than when it was taken over."""

    code = "legacy.changed"


@contract.command("billing.import_legacy", queue=Queue.billing, once="item")
def import_legacy(
    session: database.Session,
    *,
    kind: Literal["identity", "balance", "subscription"],
    rows: Annotated[list[dict[str, Any]], Field(max_length=LARGEST_CHUNK)],
    dry_run: bool = False,
    as_of: fields.Instant = contract.NOW,
) -> ImportAnswer:
    """Take over rows of a system before this one, once each.

    Runs when an operator's import sends it. Twice is harmless: a row is known by its kind and
    `migration_source_id`, and a known one is `unchanged`, or a `conflict` if it says something else
    now; that changes nothing. A bad row costs only itself. If it dies half way nothing of the
    message was taken over, and it may be sent again. Tenants are created if need be.

    Args:
        kind: what the rows are.
        rows: up to 1,000 objects, with `migration_source_id`, `tenant_id`, and of an identity
            `provider` and `external_id`; of a balance `product_key`, `amount` and maybe
            `expires_at`; of a subscription `plan_key`, `effective_at` and maybe `currency`,
            `quantity`, `ended_at`, and `billed_until`, the first local day not invoiced yet, which
            is the first of a period.
        dry_run: tell what would become of them, and change nothing.
    """
    if dry_run:
        with database.undone(session):
            return _import(session, KINDS[kind], rows, as_of)
    return _import(session, KINDS[kind], rows, as_of)


def _import(
    session: database.Session,
    kind: type[LegacyRow],
    rows: Sequence[dict[str, Any]],
    now: dt.datetime,
) -> ImportAnswer:
    answer: ImportAnswer = {
        "imported": 0,
        "unchanged": 0,
        "conflict": 0,
        "rejected": 0,
        "refused": [],
    }
    for index, given in enumerate(rows):
        verdict, refusals = _import_one(session, kind, given, now)
        answer[verdict] += 1
        answer["refused"] += [
            RefusedRow(index=index, verdict=verdict, **refusal)  # type: ignore[typeddict-item]
            for refusal in refusals
        ]
    return answer


def _import_one(
    session: database.Session, kind: type[LegacyRow], given: dict[str, Any], now: dt.datetime
) -> tuple[Verdict, list[dict[str, Any]]]:
    try:
        row = kind.model_validate(given)
    except pydantic.ValidationError as error:
        code = contract.InvalidMessage.code
        faults = message_faults.describe(error, schema=kind.model_json_schema())
        return "rejected", [
            {"code": code, "field": fault["field"], "reason": fault["reason"]} for fault in faults
        ]
    try:
        with database.savepoint(session):
            return _take_over(session, row, now), []
    except ChangedRow as changed:
        return "conflict", [_refused(changed)]
    except Refusal as refusal:
        return "rejected", [_refused(refusal)]


def _take_over(session: database.Session, row: LegacyRow, now: dt.datetime) -> Verdict:
    tenant.ensure(session, row.tenant_id, now=now)
    owner = alias.follow(session, row.tenant_id, hold=True)
    key: dict[str, str] = {"kind": row.kind, "source_id": row.migration_source_id}
    digest = inbox.hash_request({name: _written(value) for name, value in row})
    taken = legacy.claim(session, **key, tenant_id=owner, row_hash=digest, now=now)
    if taken is None:
        made_id = row.take_over(session, owner=owner, now=now)
        legacy.keep(session, **key, made_id=made_id)
        return "imported"
    if taken.row_hash == digest:
        return "unchanged"
    made = "" if taken.made_id is None else f" as {taken.made_id}"
    raise ChangedRow(
        f"{row.migration_source_id!r} was taken over at {taken.imported_at.isoformat()} for tenant "
        f"{taken.tenant_id!r}{made}, and said something else then; nothing was changed, correct it "
        "there",
        field="migration_source_id",
    )


def _written(value: Any) -> str | None:
    """A value in one spelling: 10 and 10.0 are one amount, an instant is one in any zone."""
    if isinstance(value, Decimal):
        return format(value.normalize(), "f")
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).isoformat()
    return None if value is None else str(value)


def _refused(refusal: Refusal) -> dict[str, Any]:
    return {"code": refusal.code, "field": refusal.field, "reason": refusal.message}
