"""Endpoints changed: each field, what waits meanwhile, and what is refused."""

import datetime as dt
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine

from models import database
from models.store import endpoint, endpoint_change, endpoint_health
from tasks import contract
from tasks.delivery import deliver_webhooks
from tasks.endpoint_list import get_endpoint, list_endpoints
from tasks.endpoint_update import HeadersRefused, NothingToChange, update_endpoint
from tasks.endpoints import UrlRefused, delete_endpoint, disable_endpoint, enable_endpoint
from tests.integration.outbox_world import (
    deliveries,
    emit,
    execute,
    now,
    relay_all,
    subscribe,
    take,
)
from tests.receiver import Answer, receiver
from webhooks import events


def made(**options: Any) -> UUID:
    return UUID(subscribe(**options)["endpoint_id"])


def test_what_is_given_changes_and_the_rest_stays(db: Engine) -> None:
    one = made(headers={"X-Key": "a", "X-Other": "b"}, description="old", rate_per_minute=5)

    answer = update_endpoint(
        endpoint_id=one,
        url="https://example.com/new",
        topics=["billing.invoice.*"],
        metadata={"team": "a"},
    )

    assert answer["changed"] == ["url", "topics", "metadata"]
    found = get_endpoint(endpoint_id=one)
    assert (found["url"], found["topics"]) == ("https://example.com/new", ["billing.invoice.*"])
    assert (found["description"], found["rate_per_minute"]) == ("old", 5)
    assert found["headers"] == ["X-Key", "X-Other"]
    assert found["metadata"] == {"team": "a"}


def test_headers_are_set_and_taken_away_by_name_in_any_letter_case(db: Engine) -> None:
    with receiver() as peer:
        one = made(to=peer, headers={"X-Key": "a", "X-Other": "b", "X-Gone": "c"})
        update_endpoint(endpoint_id=one, headers={"x-key": "new", "X-GONE": None})
        emit()
        deliver_webhooks()

        [request] = peer.requests
    assert (request.headers["x-key"], request.headers["x-other"]) == ("new", "b")
    assert "x-gone" not in request.headers


def test_what_is_cleared_is_empty_and_headers_are_cleared_before_others_are_set(
    db: Engine,
) -> None:
    one = made(headers={"X-Old": "a"}, description="old", rate_per_minute=5, metadata={"team": "a"})

    update_endpoint(
        endpoint_id=one,
        clear=["description", "rate_per_minute", "headers", "metadata"],
        headers={"X-New": "b"},
    )

    found = get_endpoint(endpoint_id=one)
    assert (found["description"], found["rate_per_minute"]) == (None, None)
    assert (found["headers"], found["metadata"]) == (["X-New"], {})


def test_what_waits_goes_to_the_new_url_at_once_though_the_old_one_failed(db: Engine) -> None:
    with receiver(Answer(status=503, headers={"retry-after": "3600"})) as old, receiver() as new:
        one = made(to=old)
        emit()
        deliver_webhooks()
        with database.transaction() as session:
            assert endpoint_health.find(session, [one])[one].hold_until is not None

        update_endpoint(endpoint_id=one, url=new.url)
        emit()
        deliver_webhooks()

    assert len(old.requests) == 1
    assert len(new.requests) == 1
    assert get_endpoint(endpoint_id=one)["consecutive_failures"] == 0


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"url": "https://10.0.0.1/"}, UrlRefused),
        ({"topics": ["billing.nonsense"]}, contract.InvalidMessage),
        ({"headers": {"Host": "x"}}, HeadersRefused),
        ({"headers": {f"X-{number}": "x" for number in range(20)}}, HeadersRefused),
        ({"rate_per_minute": 0}, contract.InvalidMessage),
        ({"clear": ["url"]}, contract.InvalidMessage),
        ({"ordered": True}, endpoint_change.NotAtRest),
        ({}, NothingToChange),
        ({"tenant_id": "other", "description": "x"}, endpoint.UnknownEndpoint),
    ],
)
def test_what_can_not_be_is_refused_and_nothing_changes(
    db: Engine, change: dict[str, Any], refusal: type[Exception]
) -> None:
    one = made(headers={"X-Key": "a"})
    before = get_endpoint(endpoint_id=one)

    with pytest.raises(refusal):
        update_endpoint(endpoint_id=one, **change)

    assert get_endpoint(endpoint_id=one) == before


def test_a_header_that_is_refused_is_named_without_its_value(db: Engine) -> None:
    one = made()

    with pytest.raises(HeadersRefused) as refused:
        update_endpoint(endpoint_id=one, headers={"X-Key": "hush\n"})

    assert "X-Key" in str(refused.value)
    assert "hush" not in str(refused.value)


def test_a_deleted_endpoint_is_not_changed(db: Engine) -> None:
    one = made()
    delete_endpoint(endpoint_id=one)

    with pytest.raises(endpoint.UnknownEndpoint, match="deleted"):
        update_endpoint(endpoint_id=one, description="x")


def test_an_endpoint_that_becomes_ordered_hears_in_order_what_waited_out_of_order(
    db: Engine,
) -> None:
    with receiver(Answer(status=500), Answer()) as peer:
        one = made(to=peer, topics=["billing.quota_consumed"])
        first = emit()
        deliver_webhooks()  # fails, and is to wait behind what comes next
        disable_endpoint(endpoint_id=one)
        rest = emit(count=3)
        deliver_webhooks()

        update_endpoint(endpoint_id=one, ordered=True)
        enable_endpoint(endpoint_id=one)
        deliver_webhooks()

    assert peer.ids[1:] == first + rest


def test_an_endpoint_that_is_no_longer_ordered_is_sent_all_that_waits(db: Engine) -> None:
    with receiver(Answer(status=500), Answer()) as peer:
        one = made(to=peer, ordered=True, topics=["billing.quota_consumed"])
        sent = emit(count=3)
        deliver_webhooks()
        disable_endpoint(endpoint_id=one)
        update_endpoint(endpoint_id=one, ordered=False)
        enable_endpoint(endpoint_id=one)
        deliver_webhooks()

    assert sorted(peer.ids[1:]) == sorted(sent)


def test_the_order_does_not_change_under_what_is_on_its_way(db: Engine) -> None:
    one = made()
    emit()
    take()
    disable_endpoint(endpoint_id=one)

    with pytest.raises(endpoint_change.NotAtRest, match="under way"):
        update_endpoint(endpoint_id=one, ordered=True)


def test_the_order_does_not_change_while_a_long_backlog_is_being_held(db: Engine) -> None:
    one = made()
    disable_endpoint(endpoint_id=one)
    execute(db, "UPDATE endpoints SET unsettled = true")

    with pytest.raises(endpoint_change.NotAtRest, match="in a moment"):
        update_endpoint(endpoint_id=one, ordered=True)


def test_other_topics_are_for_what_happens_from_now_on(db: Engine) -> None:
    one = made(topics=["billing.quota_consumed"])
    emit()
    relay_all()

    update_endpoint(endpoint_id=one, topics=["billing.invoice.created"])
    emit()
    emit(topic=events.InvoiceCreated)
    relay_all()

    assert len(deliveries(db)) == 2


def test_endpoints_are_found_by_owner_state_and_what_they_asked_for(db: Engine) -> None:
    exact = made(topics=["billing.invoice.created"])
    prefix = made(topics=["billing.invoice.*", "billing.ping"])
    everything = made(tenant_id=None, topics=["*"])
    other = made(tenant_id="other", topics=["billing.ping"])
    disable_endpoint(endpoint_id=other)

    def found(**wanted: Any) -> list[str]:
        return [one["endpoint_id"] for one in list_endpoints(**wanted)["endpoints"]]

    assert found(topic="billing.invoice.created") == [str(exact), str(prefix), str(everything)]
    assert found(topic="billing.ping") == [str(prefix), str(everything), str(other)]
    assert found(operator=True) == [str(everything)]
    assert found(operator=False, state="enabled") == [str(exact), str(prefix)]
    assert found(state="disabled") == [str(other)]


def test_an_update_says_when(db: Engine) -> None:
    one = made()
    at = now() + dt.timedelta(days=1)

    update_endpoint(endpoint_id=one, description="x", as_of=at)
    update_endpoint(endpoint_id=one, description="x", as_of=at + dt.timedelta(days=1))

    assert get_endpoint(endpoint_id=one)["updated_at"] == at.isoformat()
