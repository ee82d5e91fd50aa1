"""Say what happened: events written to the outbox by the transaction that made them true."""

import datetime as dt
import secrets
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog
from celery import current_app
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from models import database
from models.rules import ids
from models.store import outbox, outbox_rows
from models.store.outbox_rows import Kind, Telling, Topic
from tasks import config, metrics, origin
from tasks.queues import Queue
from webhooks import events

SENDER = "billing.deliver_webhooks"

OPERATOR = ""
"""The tenant_id of events about the operator's own: no tenant can be called this."""

KICK_INTERVAL = 0.1
"""Seconds between two kicks of one process: a kick is a doorbell, one press is enough."""

INVOICE_STATES = {
    events.InvoiceCreated.topic: "draft",
    events.InvoiceFinalized.topic: "finalized",
}
"""What an invoice has become of which a topic tells."""

LARGEST_STEP_BITS = 32
"""Ids of one instant are this far apart at most: far enough not to be guessed from one another."""

log = structlog.get_logger(__name__)
_last_kick = 0.0
_last_id: tuple[dt.datetime, int] | None = None
_last_id_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Announcement:
    """An event of a tenant. `sequence` counts the events of the object it is about."""

    event: events.Event
    tenant_id: str
    sequence: int


def announce(
    session: database.Session,
    event: events.Event,
    *,
    tenant_id: str,
    sequence: int,
    now: dt.datetime,
) -> str:
    """Write one event to the outbox in the caller's transaction and return its id, "evt_…"."""
    return announce_all(session, [Announcement(event, tenant_id, sequence)], now=now)[0]


def announce_all(
    session: database.Session, announcements: Sequence[Announcement], *, now: dt.datetime
) -> list[str]:
    """Write events to the outbox in the caller's transaction and return their ids in order.

    The sender is rung after the commit; if that fails, beat rings it soon.
    """
    messages = [_message(announcement, now) for announcement in announcements]
    outbox.add(session, messages, now=now)
    told(session, Counter(message.type for message in messages))
    return [ids.event_id(message.id) for message in messages]


def announce_to_one(
    session: database.Session,
    announcement: Announcement,
    *,
    endpoint_id: UUID,
    now: dt.datetime,
) -> tuple[str, int]:
    """Write an event for one locked endpoint alone; return its id, "evt_…", and its delivery's."""
    message = _message(announcement, now)
    delivery_id = outbox.add_for_one(session, message, endpoint_id=endpoint_id, now=now)
    told(session, Counter([message.type]))
    return ids.event_id(message.id), delivery_id


def in_rows(event: type[events.Event], *, at_most: int, now: dt.datetime) -> Telling:
    """Have a statement of the store tell of its rows by itself, and set ids aside for so many.

    Whoever runs it says with `told` what it came to.
    """
    columns = tuple((name, Kind[kind]) for name, kind in events.kinds(event).items())
    return Telling(
        topic=Topic(type=event.topic, schema_version=event.schema_version, columns=columns),
        first=_next_id(now, room=(at_most + 1) << outbox_rows.STEP_BITS),
        seed=secrets.randbits(ids.RANDOM_BITS),
        **_origin(),
    )


def told(session: database.Session, written: Counter[str]) -> None:
    """Count events by topic once they are committed, and ring the sender."""
    if not written.total():
        return

    def add() -> None:
        for topic, number in written.items():
            metrics.EVENTS.add(number, topic=topic)
            if topic in INVOICE_STATES:
                metrics.INVOICES.add(number, state=INVOICE_STATES[topic])

    # Its id: a transaction may write several times.
    database.after_commit(session, f"count events {id(written)}", add)
    if config.current().kick:
        database.after_commit(session, "kick sender", kick_sender)


def kick_sender() -> None:
    """Ring the sender. A lost ring costs nothing but the time until beat's next one."""
    global _last_kick  # noqa: PLW0603 (one doorbell a process)
    if time.monotonic() - _last_kick < KICK_INTERVAL:
        return
    _last_kick = time.monotonic()
    try:
        with origin.nobodys():
            current_app.send_task(
                SENDER, queue=Queue.webhooks, ignore_result=True, retry=False, expires=10
            )
    except (OperationalError, RedisError, OSError) as error:
        log.warning("sender.kick_failed", reason=type(error).__name__)


def _next_id(now: dt.datetime, *, room: int = 0) -> UUID:
    """Return an id that sorts behind those this process drew for the same instant before.

    What one transaction says has one instant, and is to be heard in the order it was said. As many
    ids as `room` says are the caller's, from the returned one on.
    """
    global _last_id  # noqa: PLW0603 (one order a process)
    with _last_id_lock:
        if _last_id is not None and _last_id[0] == now:
            bits = _last_id[1] + 1 + secrets.randbits(LARGEST_STEP_BITS)
        else:
            bits = secrets.randbits(ids.RANDOM_BITS - 1)  # the other half is room to count up
        _last_id = (now, bits + room)
    return ids.uuid7(now, bits)


def _message(announcement: Announcement, now: dt.datetime) -> outbox.Message:
    message_id = _next_id(now)
    body = events.serialise(
        announcement.event,
        message_id=ids.event_id(message_id),
        tenant_id=announcement.tenant_id,
        sequence=announcement.sequence,
        timestamp=now,
    )
    return outbox.Message(
        id=message_id,
        type=announcement.event.topic,
        tenant_id=announcement.tenant_id,
        schema_version=announcement.event.schema_version,
        sequence=announcement.sequence,
        body=body.content,
        truncated=body.truncated,
        **_origin(),
    )


def _origin() -> dict[str, str | None]:
    """Return what is kept beside an event of whose work told of it."""
    found = origin.current()
    if found is None:
        return {}
    return {"correlation_id": found.correlation_id, "traceparent": found.traceparent}
