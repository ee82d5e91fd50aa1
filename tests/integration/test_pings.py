"""Test events: to one endpoint alone, and by the way of all others."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine

from models.store import endpoint
from tasks.delivery import deliver_webhooks
from tasks.endpoints import delete_endpoint, disable_endpoint
from tasks.pings import ping_endpoint
from tests.integration.outbox_world import attempts, deliveries, emit, execute, later, subscribe
from tests.receiver import Answer, receiver


def ping(made: Any, **options: Any) -> Any:
    return ping_endpoint(
        **{
            "endpoint_id": UUID(made["endpoint_id"]),
            "idempotency_key": uuid4().hex,
            **options,
        }
    )


def test_a_ping_comes_signed_to_its_endpoint_alone_whatever_anybody_subscribed_to(
    db: Engine,
) -> None:
    with receiver() as peer, receiver() as bystander:
        made = subscribe(peer, topics=["billing.invoice.created"])
        subscribe(bystander, topics=["*"])
        subscribe(bystander, tenant_id=None)

        answer = ping(made)
        deliver_webhooks()

        [request] = peer.requests
    request.verify(made["secret"])
    assert bystander.requests == []
    assert (request.id, request.event["type"]) == (answer["event_id"], "billing.ping")
    assert request.event["data"] == {"endpoint_id": made["endpoint_id"]}
    assert request.event["tenant_id"] == "acme"
    assert [row.id for row in deliveries(db)] == [answer["delivery_id"]]


def test_the_operators_endpoint_can_be_pinged_too(db: Engine) -> None:
    with receiver() as peer:
        ping(subscribe(peer, tenant_id=None))
        deliver_webhooks()

        assert peer.topics == ["billing.ping"]


def test_two_pings_count_up_and_one_key_is_one_ping(db: Engine) -> None:
    with receiver() as peer:
        made = subscribe(peer)
        assert ping(made, idempotency_key="a") == ping(made, idempotency_key="a")
        ping(made)
        deliver_webhooks()

        sequences = [request.event["sequence"] for request in peer.requests]
    assert sorted(sequences) == [2, 3]


def test_a_ping_is_refused_where_nothing_is_sent(db: Engine) -> None:
    made = subscribe()
    with pytest.raises(endpoint.UnknownEndpoint):
        ping(made, tenant_id="other")
    disable_endpoint(endpoint_id=UUID(made["endpoint_id"]))
    with pytest.raises(endpoint.EndpointNotEnabled, match="enable it"):
        ping(made)
    delete_endpoint(endpoint_id=UUID(made["endpoint_id"]))
    with pytest.raises(endpoint.UnknownEndpoint):
        ping(made)


def test_a_ping_to_an_address_that_is_denied_is_not_sent(db: Engine) -> None:
    with receiver() as peer:
        made = subscribe(peer)
        execute(db, "UPDATE endpoints SET url = 'http://169.254.169.254/'")
        ping(made)
        deliver_webhooks()

        assert [row.outcome for row in attempts(db)] == ["address_refused"]
        assert peer.requests == []


def test_a_ping_waits_in_the_order_of_an_ordered_endpoint(db: Engine) -> None:
    with receiver(Answer(status=500), Answer()) as peer:
        made = subscribe(peer, ordered=True)
        sent = emit()
        deliver_webhooks()
        answer = ping(made)
        deliver_webhooks()
        assert len(peer.requests) == 1

        deliver_webhooks(as_of=later(seconds=7))

        assert peer.ids == [sent[0], sent[0], answer["event_id"]]
