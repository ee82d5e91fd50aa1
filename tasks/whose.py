"""The one place where a tenant's id becomes that of the tenant it was merged into."""

from datetime import datetime
from typing import Any

from models import database
from models.store import alias, claiming, inbox
from tasks.spec import Spec


def of_today(session: database.Session, spec: Spec, sent: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call with the tenant of today, who stays so until it has ended."""
    if not _is_followed(spec, sent):
        return sent
    return _of(alias.follow(session, sent["tenant_id"], hold=not spec.only_reads), sent)


def answered(
    session: database.Session, spec: Spec, sent: dict[str, Any], call: inbox.Call, *, now: datetime
) -> tuple[inbox.Call, Any, dict[str, Any]]:
    """Claim a call's key, or find the answer it got before, in the name of the tenant of today.

    Return the call in that name, the answer or None, and the arguments as `of_today` does: one
    statement says both.

    Raises:
        IdempotencyConflict: the key was used for another request of this operation.
    """
    is_followed = _is_followed(spec, sent)
    if not is_followed and spec.first is None:
        return call, inbox.find_answer(session, call, now=now), sent
    first = None if spec.first is None else spec.first(sent)
    call, answer = claiming.find_answer_of_today(session, call, now=now, first=first)
    return call, answer, _of(call.tenant_id, sent) if is_followed else sent


def alone(sent: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a job, which opens transactions of its own, with that tenant."""
    if not sent.get("tenant_id"):
        return sent
    with database.transaction() as session:
        return {**sent, "tenant_id": alias.follow(session, sent["tenant_id"], hold=False)}


def _is_followed(spec: Spec, sent: dict[str, Any]) -> bool:
    return spec.follows_alias and bool(sent.get("tenant_id"))


def _of(owner: str, sent: dict[str, Any]) -> dict[str, Any]:
    return sent if owner == sent["tenant_id"] else {**sent, "tenant_id": owner}
