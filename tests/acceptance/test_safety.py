"""A system whose processes have the least rights, and whose every connection is encrypted.

The embedded servers were built without TLS: a front before each takes it, as a proxy or a managed
server does. Clients are the real ones: libpq, redis-py, kombu.
"""

import contextlib
import datetime as dt
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import make_url, text

from models import database, rights
from models.rights import Role
from tasks.producer import StreamProducer, UsageProducer, courier
from tasks.queues import Queue
from tests import tls
from tests.acceptance import system
from tests.processes import without_ours
from worker import settings

pytestmark = pytest.mark.slow

PASSWORD = "a-login-of-a-test"

BOOKS, HOOKS = (Queue.usage, Queue.billing), (Queue.webhooks,)


@dataclass(slots=True)
class World:
    """What runs, the fronts, and a CA that signed nobody's certificate."""

    system: system.System
    postgres: tls.Front
    redis: tls.Front
    known: tls.Authority
    stranger: tls.Authority
    client: tls.Pair

    def database_url(self, role: Role, *, known: tls.Authority | None = None) -> str:
        """Return the URL of a login with a role's rights."""
        url = make_url(self.system.servers.database_url).set(
            drivername="postgresql",
            username=login(role),
            password=PASSWORD,
            port=self.postgres.port,
            query={"sslmode": "verify-full", "sslrootcert": str((known or self.known).file)},
        )
        return url.render_as_string(hide_password=False)

    def redis_url(self, *, known: tls.Authority | None = None) -> str:
        """Return the URL of Redis, where clients have to show a certificate too."""
        return (
            f"rediss://{tls.HOST}:{self.redis.port}/0?ssl_ca_certs={(known or self.known).file}"
            f"&ssl_certfile={self.client.certificate}&ssl_keyfile={self.client.key}"
        )

    def billing(self, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run the command as an operator does."""
        return subprocess.run(
            [sys.executable, "-m", "worker", *words],
            env={**without_ours(os.environ), **self.system.environment, **environment},
            cwd=settings.ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


def login(role: Role) -> str:
    return f"{role.name}_1"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Workers that log in as members of roles, beat, and a subscriber."""
    folder = tmp_path_factory.mktemp("safety")
    known, stranger = (tls.Authority(folder, name) for name in ("known", "stranger"))
    server, client = known.issue("server"), known.issue("client")
    with system.running(folder) as started:
        database_port = make_url(started.servers.database_url).port
        redis_port = make_url(started.servers.broker_url).port
        assert database_port is not None
        assert redis_port is not None
        make_logins()
        with (
            tls.front(database_port, server, asked_first=True) as postgres,
            tls.front(redis_port, server, clients_of=known) as redis,
        ):
            found = World(started, postgres, redis, known, stranger, client)
            started.environment |= {
                "BROKER_URL": found.redis_url(),
                "DATABASE_URL": found.database_url(Role.reader),
            }
            books, hooks = (found.database_url(role) for role in (Role.worker, Role.sender))
            started.start_worker("books", queues=BOOKS, DATABASE_URL=books)
            started.start_worker("hooks", queues=HOOKS, DATABASE_URL=hooks)
            started.start_beat()
            started.await_ready()
            yield found


def make_logins() -> None:
    with database.transaction() as session:
        driver: Any = session.connection().connection.driver_connection
        driver.execute(rights.script().replace("BEGIN;", "").replace("COMMIT;", ""))
        for role in Role:
            session.execute(
                text(f"CREATE ROLE {login(role)} LOGIN PASSWORD '{PASSWORD}' IN ROLE {role}")
            )


def test_a_month_is_used_billed_and_told(world: World) -> None:
    started = world.system
    endpoint = started.ask(
        "billing.create_endpoint",
        url=started.subscriber.url("/operator"),
        topics=["billing.*"],
        operator=True,
        idempotency_key="e",
    )
    started.subscriber.trust("/operator", endpoint["secret"])
    used: dict[str, Any] = {"tenant_id": "acme", "metric": "calls"}
    with contextlib.closing(UsageProducer(world.redis_url())) as producer:
        producer.record(**used, amount="3", at=instant(5), idempotency_key="1")
        producer.flush()
    with StreamProducer(world.redis_url()) as stream:
        stream.record(**used, amount="4", at=instant(6), idempotency_key="2")
    both = "SELECT 1 FROM usage_events HAVING count(*) = 2"
    started.wait(lambda: started.query(both), within=120)
    price = {"price_key": "calls", "kind": "usage", "metric": "calls", "unit_amount": "2"}
    started.ask(
        "billing.set_plan", plan_key="pro", name="Pro", prices=[{**price, "currency": "USD"}]
    )
    period = {"effective_at": "2026-01-01T00:00:00Z", "ended_at": "2026-02-01T00:00:00Z"}
    started.ask(
        "billing.set_subscription", tenant_id="acme", plan_key="pro", idempotency_key="s", **period
    )
    credit = {"tenant_id": "acme", "product_key": "CALLS", "amount": "10"}
    started.ask("billing.set_product", product_key="CALLS", name="Calls", type="quantity")
    over = {"as_of": "2026-01-01T00:00:00Z", "expires_at": "2026-01-20T00:00:00Z"}
    started.ask("billing.add_credits", **credit, **over, idempotency_key="g")

    # All that follows is done because beat rings: the month is over.
    paid = "SELECT 1 FROM invoices WHERE state IN ('finalized', 'paid') AND total_minor = 1400"
    started.wait(lambda: started.query(paid), within=120)
    gone = "SELECT 1 FROM ledger_entries WHERE action = 'expire' AND amount = 10"
    started.wait(lambda: started.query(gone), within=120)
    days = "SELECT to_regclass('delivery_attempts_' || to_char(now() + '1 d', 'YYYYMMDD'))"
    started.wait(lambda: started.query(days) != [(None,)], within=120)
    waiting = """
        SELECT FROM outbox_pending
        UNION ALL SELECT FROM deliveries WHERE state <> 'delivered'
        UNION ALL SELECT FROM usage_touched_days
    """
    started.wait(lambda: started.query(waiting) == [], within=120)
    told = "SELECT 'evt_' || replace(message_id::text, '-', '') FROM deliveries"
    events = {("/operator", event) for (event,) in started.query(told)}
    assert len(events) > 5
    assert events <= started.subscriber.received()
    assert started.query("SELECT task, code FROM rejected_messages") == []
    assert "permission denied" not in (started.folder / "processes.log").read_text()


def instant(day: int) -> dt.datetime:
    return dt.datetime(2026, 1, day, tzinfo=dt.UTC)


def test_every_process_logs_in_as_a_member_of_its_role(world: World) -> None:
    logins = {login(Role.worker), login(Role.sender)}
    found = world.system.query(
        "SELECT DISTINCT usename::text FROM pg_stat_activity WHERE client_port IS NOT NULL "
        "AND datname = 'billing' AND usename <> 'billing'"
    )

    assert {name for (name,) in found} == logins


def test_the_doctor_sees_as_the_reader_that_all_is_encrypted_and_checked(world: World) -> None:
    doctor = world.billing("doctor", "--json")
    found = {one["subject"]: one for one in json.loads(doctor.stdout)}

    assert found["role"]["detail"] == "reader_1, which owns nothing here"
    assert found["database"]["detail"].endswith("over TLS")
    assert found["TLS"]["verdict"] == found["TLS of BROKER_URL"]["verdict"] == "ok"
    assert found["sealed secrets"]["verdict"] == "ok"
    assert {found[f"workers of {queue}"]["verdict"] for queue in Queue} == {"ok"}
    assert found["jobs"]["verdict"] == "ok"


def test_a_server_of_another_ca_is_refused_and_why_is_said(world: World) -> None:
    words = ("doctor", "--json", "--only", "database", "--only", "broker")
    ended = world.billing(
        *words,
        DATABASE_URL=world.database_url(Role.reader, known=world.stranger),
        BROKER_URL=world.redis_url(known=world.stranger),
    )

    found = {one["subject"]: one for one in json.loads(ended.stdout)}
    assert ended.returncode == 1
    assert "certificate verify failed" in found["database"]["detail"]
    assert found["database"]["remedy"].startswith("give the CA that signed")
    assert "certificate verify failed" in found["broker"]["detail"]
    assert "ssl_ca_certs in BROKER_URL" in found["broker"]["remedy"]
    assert PASSWORD not in ended.stdout + ended.stderr


def test_a_producer_sends_nothing_to_a_server_of_another_ca(world: World) -> None:
    carrier = courier.Courier(world.redis_url(known=world.stranger))

    with pytest.raises(courier.FAILURES, match="certificate verify failed"):
        carrier.send("an-id", [b"{}"])
    with (
        pytest.raises(courier.FAILURES, match="certificate verify failed"),
        StreamProducer(world.redis_url(known=world.stranger)) as stream,
    ):
        stream.record(tenant_id="acme", metric="calls", amount=1)


def test_a_certificate_for_another_host_is_refused(world: World) -> None:
    elsewhere = world.known.issue("elsewhere", host="192.0.2.1")
    port = make_url(world.system.servers.broker_url).port
    assert port is not None
    with tls.front(port, elsewhere) as front:
        url = f"rediss://{tls.HOST}:{front.port}/0?ssl_ca_certs={world.known.file}"
        with pytest.raises(courier.FAILURES, match="IP address mismatch"):
            courier.Courier(url).send("an-id", [b"{}"])


def test_redis_wants_to_see_our_certificate(world: World) -> None:
    bare = f"rediss://{tls.HOST}:{world.redis.port}/0?ssl_ca_certs={world.known.file}"

    with pytest.raises((ssl.SSLError, *courier.FAILURES)):
        courier.Courier(bare).send("an-id", [b"{}"])
