"""Endpoints that are left alone: what they have due is not what the workers are behind with."""

import datetime as dt
from typing import Any

from sqlalchemy import Engine

from models import database
from models.store import due, health
from tests.integration.outbox_world import emit, execute, relay_all, subscribe


def test_what_a_failing_endpoint_has_due_is_no_backlog_of_the_workers(db: Engine) -> None:
    now = dt.datetime.now(dt.UTC)
    soon, late = now + dt.timedelta(minutes=8), now - dt.timedelta(minutes=2)
    failing = subscribe()["endpoint_id"]
    emit(count=3)
    relay_all()

    def looked(**held: Any) -> tuple[int, int, int]:
        execute(db, "DELETE FROM endpoint_health")
        for column, at in held.items():
            execute(
                db,
                f"INSERT INTO endpoint_health (endpoint_id, {column}) VALUES (:id, :at)",  # noqa: S608
                id=failing,
                at=at,
            )
        with database.transaction() as session:
            found = health.backlog(session, now=dt.datetime.now(dt.UTC))
            jobs = due.by_job(session, now=dt.datetime.now(dt.UTC), closed_by=now)
        waiting = jobs["billing.deliver_webhooks"].waiting
        return found.deliveries_due, waiting, found.endpoints_resting

    assert looked() == (3, 3, 0)
    assert looked(probe_at=soon) == (0, 0, 1)
    assert looked(hold_until=soon) == (0, 0, 1)
    assert looked(probe_at=late) == (3, 3, 0), "a probe that nobody sends is a sender that is away"
