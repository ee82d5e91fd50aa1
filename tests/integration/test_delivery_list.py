"""Deliveries looked up, by filter and one by one, and what endpoints' figures say."""

import datetime as dt
import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, text

from models.store.endpoint import UnknownEndpoint
from models.store.skipping import UnknownDelivery
from tasks.contract import InvalidMessage
from tasks.delivery import deliver_webhooks
from tasks.delivery_list import get_delivery, list_deliveries
from tasks.endpoint_stats import get_endpoint_stats
from tasks.endpoints import disable_endpoint
from tasks.paging import InvalidCursor
from tasks.pings import ping_endpoint
from tests.integration.explained import explained
from tests.integration.outbox_world import (
    deliveries,
    emit,
    execute,
    later,
    now,
    relay_all,
    subscribe,
    take,
)
from tests.receiver import Answer, receiver
from webhooks import events


def found(**wanted: Any) -> list[int]:
    return [one["delivery_id"] for one in list_deliveries(**wanted)["deliveries"]]


def test_deliveries_are_found_by_whose_where_what_when_and_state(db: Engine) -> None:
    with receiver() as peer:
        mine, theirs = subscribe(peer), subscribe(peer, tenant_id="other")
        operators = subscribe(peer, tenant_id=None)
        [first] = emit()
        emit("other", topic=events.InvoiceCreated)
        deliver_webhooks()
        disable_endpoint(endpoint_id=UUID(theirs["endpoint_id"]))
        emit("other")
        deliver_webhooks()

    every = {(str(row.endpoint_id), f"evt_{row.message_id.hex}"): row.id for row in deliveries(db)}
    newest_first = sorted(every.values(), reverse=True)
    assert found() == newest_first
    assert found(tenant_id="acme") == [every[mine["endpoint_id"], first]]
    assert len(found(endpoint_id=UUID(operators["endpoint_id"]))) == 4
    assert len(found(tenant_id="other")) == 3
    assert len(found(tenant_id="other", state="held")) == 2
    assert found(event_id=first) == sorted(
        [every[mine["endpoint_id"], first], every[operators["endpoint_id"], first]], reverse=True
    )
    assert len(found(topic="billing.invoice.created")) == 2
    assert found(since=later(minutes=1)) == []
    assert found(until=later(minutes=1)) == newest_first
    happened_at = dt.datetime.fromisoformat(
        list_deliveries(event_id=first)["deliveries"][0]["happened_at"]
    )
    assert found(tenant_id="acme", since=happened_at) == [every[mine["endpoint_id"], first]]
    assert found(tenant_id="acme", until=happened_at) == []
    assert found(tenant_id="acme", endpoint_id=UUID(theirs["endpoint_id"])) == []


def test_pages_follow_one_another_to_the_end(db: Engine) -> None:
    subscribe()
    emit(count=5)
    take()
    seen: list[int] = []
    cursor = None
    while True:
        page = list_deliveries(limit=2, cursor=cursor)
        seen += [one["delivery_id"] for one in page["deliveries"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert seen == sorted((row.id for row in deliveries(db)), reverse=True)


def test_a_cursor_of_another_query_and_a_malformed_event_are_refused(db: Engine) -> None:
    subscribe()
    emit(count=2)
    take()
    cursor = list_deliveries(limit=1)["next_cursor"]

    with pytest.raises(InvalidCursor):
        list_deliveries(limit=1, cursor=cursor, tenant_id="acme")
    with pytest.raises(InvalidMessage, match="event_id"):
        list_deliveries(event_id="evt_x")


def test_each_attempt_tells_how_it_ended_and_what_was_answered(db: Engine) -> None:
    hostile = b"down \x1b[2J\x9b\xe2\x80\xae\r\n" + b"x" * 20_000
    with receiver(Answer(status=503, body=hostile), Answer(body=b"thanks")) as peer:
        subscribe(peer)
        [event_id] = emit()
        deliver_webhooks()
        deliver_webhooks(as_of=later(seconds=7))

        [one] = list_deliveries()["deliveries"]
        got = get_delivery(delivery_id=one["delivery_id"], tenant_id="acme")
    assert (one["state"], one["last_outcome"], one["last_status"]) == (
        "delivered",
        "delivered",
        200,
    )
    assert got["event"] == peer.requests[0].event
    assert got["event"]["id"] == event_id
    first, second = got["attempts"]
    assert (first["number"], first["outcome"], first["status"]) == (1, "http_error", 503)
    answer = first["answer"] or ""
    assert answer.startswith("down [2J")
    assert 16_300 < len(answer.encode()) <= 16_384
    assert all(sign.isprintable() or sign in "\n\t" for sign in answer)
    assert (second["number"], second["status"], second["answer"]) == (2, 200, None)
    assert second["latency_ms"] >= 0
    assert got["last_outcome"] == "delivered"


def test_what_a_ping_is_answered_is_kept(db: Engine) -> None:
    with receiver(Answer(body=b"pong")) as peer:
        made = subscribe(peer)
        sent = ping_endpoint(endpoint_id=UUID(made["endpoint_id"]), idempotency_key="p")
        deliver_webhooks()

        [attempt] = get_delivery(delivery_id=sent["delivery_id"])["attempts"]
    assert attempt["answer"] == "pong"


def test_another_tenants_delivery_is_not_found(db: Engine) -> None:
    subscribe()
    subscribe(tenant_id=None)
    emit()
    take()
    for row in deliveries(db):
        with pytest.raises(UnknownDelivery, match="other"):
            get_delivery(delivery_id=row.id, tenant_id="other")
    with pytest.raises(UnknownDelivery):
        get_delivery(delivery_id=999_999_999)
    assert found(tenant_id="other") == []


def test_of_hundreds_of_attempts_the_newest_are_shown(db: Engine) -> None:
    made = subscribe()
    emit()
    take()
    [row] = deliveries(db)
    execute(
        db,
        """
        INSERT INTO delivery_attempts
            (id, attempted_at, delivery_id, endpoint_id, attempt_number, outcome, latency_ms)
        SELECT gen_random_uuid(), now() + n * interval '1 s', :delivery, :endpoint, n, 'timeout', n
        FROM generate_series(1, 250) AS n
        """,
        delivery=row.id,
        endpoint=made["endpoint_id"],
    )

    tried = get_delivery(delivery_id=row.id)["attempts"]

    assert [one["number"] for one in tried] == list(range(51, 251))


def test_a_list_of_one_endpoint_reads_no_others_rows(db: Engine) -> None:
    """An index, and not the whole table, however much there is."""
    made = subscribe()
    emit(count=5)
    take()
    other = subscribe(tenant_id="other")
    execute(
        db,
        """
        WITH message AS (
            INSERT INTO outbox_messages (id, type, tenant_id, schema_version, sequence, body)
            SELECT gen_random_uuid(), 'billing.ping', 'other', 1, 1, '{}'
            FROM generate_series(1, 5000) RETURNING id)
        INSERT INTO deliveries (message_id, endpoint_id, state, due_at)
        SELECT id, :other, 'delivered', now() FROM message
        """,
        other=other["endpoint_id"],
    )
    execute(db, "ANALYZE deliveries, outbox_messages")
    with explained(db, "AS last_outcome") as plans:
        page = list_deliveries(endpoint_id=UUID(made["endpoint_id"]), limit=5)["deliveries"]

    assert [one["endpoint_id"] for one in page] == [made["endpoint_id"]] * 5
    assert "ix_deliveries_endpoint_id" in plans[0]
    # Of two endpoints all may be read; of deliveries none for nothing.
    scan = ""
    for line in plans[0].splitlines():
        scan = line if " Scan " in line else scan
        assert "Rows Removed by Filter" not in line or " on endpoints " in scan, plans[0]


def stats(made: Any, **options: Any) -> Any:
    return get_endpoint_stats(endpoint_id=UUID(made["endpoint_id"]), **options)


def test_figures_of_an_endpoint_are_what_its_attempts_came_to(
    db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, other = subscribe(), subscribe()
    at = now()
    execute(
        db,
        """
        INSERT INTO delivery_attempts
            (id, attempted_at, delivery_id, endpoint_id, attempt_number, outcome, latency_ms)
        SELECT gen_random_uuid(), CAST(:at AS timestamptz) - n * interval '1 minute', n, e, 1,
               CASE WHEN n % 5 = 0 THEN 'timeout' ELSE 'delivered' END, abs(n * 10)
        FROM unnest(array_append(ARRAY(SELECT generate_series(1, 100)), -5)) AS n,
             unnest(CAST(ARRAY[:one, :other] AS uuid[])) AS e
        """,
        at=at,
        one=made["endpoint_id"],
        other=other["endpoint_id"],
    )

    # One of them began five minutes from now, by its sender's clock.
    day, hour = stats(made), stats(made, hours=1)

    assert day["outcomes"] == {"delivered": 80, "timeout": 20}
    assert (day["attempts"], day["success_percent"]) == (100, "80.0")
    assert (day["p50_ms"], day["p95_ms"]) == (500, 950)
    assert hour["attempts"] == 59
    assert hour["success_percent"] == "81.3"  # 48 of 59 is a little more
    monkeypatch.setattr("models.store.endpoint_stats.MOST_ATTEMPTS", 10)
    newest = stats(made)
    assert (newest["attempts"], newest["p95_ms"]) == (10, 100)
    for hours in (0, 721):
        with pytest.raises(InvalidMessage, match="hours"):
            stats(made, hours=hours)


def test_figures_of_an_endpoint_nothing_was_sent_to_are_none(db: Engine) -> None:
    found = stats(subscribe())

    assert (found["attempts"], found["success_percent"], found["p50_ms"]) == (0, None, None)
    assert (found["pending"], found["dead"], found["oldest_due_at"]) == (0, 0, None)


def test_what_is_due_later_is_not_the_oldest_that_is_due(db: Engine) -> None:
    made = subscribe()
    emit()
    relay_all()
    execute(db, "UPDATE deliveries SET due_at = :at", at=later(hours=1))

    found = stats(made)

    assert (found["pending"], found["due"], found["oldest_due_at"]) == (1, 0, None)


def test_the_backlog_is_counted_by_state_and_the_oldest_due_is_told(db: Engine) -> None:
    with receiver(Answer(status=500)) as peer:
        made = subscribe(peer, topics=["billing.quota_consumed"])
        emit(count=6)
        for _ in range(2):
            deliver_webhooks()
    emit(count=2)
    relay_all()
    execute(db, "UPDATE deliveries SET state = 'dead' WHERE id = (SELECT min(id) FROM deliveries)")
    for state in ("held", "dead"):
        execute(
            db,
            "INSERT INTO deliveries (message_id, endpoint_id, state, due_at) "
            "SELECT min(message_id::text)::uuid, :other, :state, now() FROM deliveries",
            other=subscribe(tenant_id="other")["endpoint_id"],
            state=state,
        )

    found = stats(made)

    assert found["circuit_open"] is True
    assert found["consecutive_failures"] == 5
    assert (found["dead"], found["held"], found["sending"]) == (1, 0, 0)
    assert found["pending"] == 7
    due = [row.due_at for row in deliveries(db) if row.state == "pending" and row.due_at <= now()]
    assert found["due"] == len(due)
    assert found["oldest_due_at"] == min(due).astimezone(dt.UTC).isoformat()


def test_figures_of_another_tenants_endpoint_are_not_shown(db: Engine) -> None:
    with pytest.raises(UnknownEndpoint):
        stats(subscribe(), tenant_id="other")
    with pytest.raises(UnknownEndpoint):
        get_endpoint_stats(endpoint_id=uuid4())


def test_an_answer_with_an_event_or_attempts_is_not_for_flower() -> None:
    from worker import app  # noqa: PLC0415

    assert app.tasks["billing.get_delivery"].resultrepr_maxsize == 0
    assert app.tasks["billing.list_deliveries"].resultrepr_maxsize > 0


def test_secrets_kept_of_refused_messages_before_are_taken_away(empty_database: Engine) -> None:
    from models import migrations  # noqa: PLC0415

    migrations.upgrade(empty_database, "0010")
    with empty_database.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO rejected_messages (task, payload, payload_hash, code, errors, "
                "received_at, last_seen_at) VALUES "
                "('billing.create_endpoint', :payload, 'x', 'c', :errors, now(), now()), "
                "('billing.create_endpoint', :without, 'y', 'c', '[]', now(), now()), "
                "('billing.record_usage', :payload, 'z', 'c', '[]', now(), now())"
            ),
            {
                "payload": json.dumps({"url": "u", "headers": {"A": "hush"}}),
                "without": json.dumps({"url": "u", "headers": None}),
                "errors": json.dumps(
                    [
                        {"field": "headers.A", "reason": "r", "value": "hush"},
                        {"field": "url", "reason": "s"},
                    ]
                ),
            },
        )

    migrations.upgrade(empty_database)

    with empty_database.connect() as connection:
        scrubbed, same, usage = connection.execute(
            text("SELECT payload, errors FROM rejected_messages ORDER BY id")
        )
    assert "hush" not in json.dumps([scrubbed.payload, scrubbed.errors])
    assert scrubbed.payload["url"] == "u"
    assert scrubbed.errors == [
        {"field": "headers.A", "reason": "r"},
        {"field": "url", "reason": "s"},
    ]
    assert same.payload == {"url": "u", "headers": None}
    assert usage.payload["headers"] == {"A": "hush"}
