"""Endpoints changed: where, what, how fast, and with which headers."""

from collections.abc import Mapping
from typing import Any, Literal, TypedDict
from uuid import UUID

import structlog

from models import database
from models.rules.refusal import Refusal
from models.store import endpoint, endpoint_change
from tasks import announce, config, contract, endpoints, fields
from tasks.queues import Queue
from webhooks.headers import HeaderRefused, check_headers

Clearable = Literal["description", "rate_per_minute", "headers", "metadata"]

log = structlog.get_logger(__name__)


class HeadersRefused(Refusal):
    """With what an endpoint has already, the headers are too many or too long."""

    code = "endpoint.headers"


class NothingToChange(Refusal):
    """An update that changes nothing, or gives and clears the same."""

    code = "endpoint.update"


class UpdateAnswer(TypedDict):
    """An endpoint after an update; `changed` names what is not as it was before."""

    endpoint_id: str
    state: str
    changed: list[str]


@contract.command("billing.update_endpoint", queue=Queue.webhooks)
def update_endpoint(
    session: database.Session,
    *,
    endpoint_id: UUID,
    tenant_id: fields.TenantId | None = None,
    url: fields.Url | None = None,
    topics: fields.Topics | None = None,
    description: fields.Name | None = None,
    headers: dict[str, str | None] | None = None,
    ordered: bool | None = None,
    rate_per_minute: endpoints.Rate | None = None,
    metadata: fields.Metadata | None = None,
    clear: list[Clearable] | None = None,
    as_of: fields.Instant = contract.NOW,
) -> UpdateAnswer:
    """Change what is given of an endpoint; the rest stays.

    What waits goes to the new URL, with the new headers; other topics are for what happens from now
    on. At another URL holds and failures are forgotten. Runs when somebody sends it. Twice is
    harmless: it is so already. If it dies half way nothing has changed, and the message comes back.

    Args:
        endpoint_id: which.
        tenant_id: when given, only an endpoint of this tenant is found.
        url: as for billing.create_endpoint.
        topics: what it hears of instead.
        description: for people.
        headers: to be set by name, or taken away where the value is null; others stay.
        ordered: only of a disabled endpoint that nothing is under way to (`endpoint.not_at_rest`).
        rate_per_minute: 1 to 60,000.
        metadata: instead of what there was.
        clear: what it shall have none of: "description", "rate_per_minute", "headers" (before those
            given are set), "metadata".
    """
    found = endpoint.lock_there(session, endpoint_id, tenant_id=tenant_id)
    given = {
        "url": None if url is None else endpoints.checked_url(url),
        "topics": topics,
        "description": description,
        "ordered": ordered,
        "rate_per_minute": rate_per_minute,
        "details": metadata,
    }
    changes = _cleared(clear or []) | {
        name: value for name, value in given.items() if value is not None
    }
    if headers is not None:
        changes["headers"] = _merged(changes.get("headers", found.headers), headers)
    if not changes:
        raise NothingToChange(
            "nothing is given that could change; give url, topics, description, headers, ordered, "
            "rate_per_minute, metadata or clear"
        )
    changed = endpoint_change.change(session, found, changes, now=as_of)
    names = ["metadata" if name == "details" else name for name in changed]
    log.info("endpoint.updated", endpoint_id=str(endpoint_id), changed=names)
    if changed and config.current().kick:
        database.after_commit(session, "kick sender", announce.kick_sender)
    return {"endpoint_id": str(found.id), "state": found.state, "changed": names}


def _cleared(names: list[Clearable]) -> dict[str, Any]:
    empty: dict[str, Any] = {
        "description": None,
        "rate_per_minute": None,
        "headers": {},
        "metadata": {},
    }
    return {"details" if name == "metadata" else name: empty[name] for name in names}


def _merged(before: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    """Headers after some were set or taken away; a name is the same in any letter case."""
    touched = {name.lower() for name in changes}
    after = {name: value for name, value in before.items() if name.lower() not in touched}
    after |= {name: value for name, value in changes.items() if value is not None}
    try:
        check_headers(after)
    except HeaderRefused as error:
        raise HeadersRefused(str(error), field="headers") from None
    return after
