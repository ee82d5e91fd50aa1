"""Signing keys: rotated beside the old ones, revoked at once, shown to their maker alone."""

import base64
import datetime as dt
import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, text
from standardwebhooks import WebhookVerificationError

from models import database
from models.rules.refusal import Refusal
from models.store import endpoint, endpoint_secret
from tasks import execution, keeping
from tasks.contract import REGISTRY
from tasks.delivery import deliver_webhooks
from tasks.endpoint_list import get_endpoint
from tasks.endpoint_secrets import revoke_endpoint_secret, rotate_endpoint_secret
from tasks.endpoints import delete_endpoint
from tasks.message_faults import InvalidMessage
from tasks.rejected import replay_rejected
from tests.integration.outbox_world import emit, later, subscribe
from tests.receiver import Answer, receiver
from webhooks import signing
from webhooks.signing import MAX_LIVE_SECRETS

HUSH = "Bearer hush-hush"


def rotate(endpoint_id: str, **options: Any) -> Any:
    return rotate_endpoint_secret(
        **{"endpoint_id": UUID(endpoint_id), "idempotency_key": uuid4().hex, **options}
    )


def revoke(endpoint_id: str, secret_id: str, **options: Any) -> Any:
    return revoke_endpoint_secret(
        endpoint_id=UUID(endpoint_id),
        secret_id=UUID(secret_id),
        idempotency_key=uuid4().hex,
        **options,
    )


def test_after_a_rotation_both_secrets_verify_until_the_old_ones_time_is_over(db: Engine) -> None:
    with receiver() as peer:
        made = subscribe(peer)
        rotated = rotate(made["endpoint_id"], keep_old_seconds=60)
        emit()
        deliver_webhooks()
        emit()
        deliver_webhooks(as_of=later(seconds=61))

        both, new = peer.requests
        both.verify(made["secret"])
        both.verify(rotated["secret"])
        new.verify(rotated["secret"])
        with pytest.raises(WebhookVerificationError):
            new.verify(made["secret"])


def test_a_delivery_that_is_retried_after_a_rotation_is_signed_with_both(db: Engine) -> None:
    with receiver(Answer(status=500), Answer()) as peer:
        made = subscribe(peer)
        emit()
        deliver_webhooks()
        rotated = rotate(made["endpoint_id"])
        deliver_webhooks(as_of=later(seconds=7))

        first, second = peer.requests
        assert first.id == second.id
        first.verify(made["secret"])
        second.verify(made["secret"])
        second.verify(rotated["secret"])


def test_a_revoked_secret_signs_no_more(db: Engine) -> None:
    with receiver() as peer:
        made = subscribe(peer)
        rotated = rotate(made["endpoint_id"])

        answer = revoke(made["endpoint_id"], made["secret_id"])

        assert answer["live"] == [rotated["secret_id"]]
        emit()
        deliver_webhooks()
        [request] = peer.requests
        request.verify(rotated["secret"])
        with pytest.raises(WebhookVerificationError):
            request.verify(made["secret"])
        with db.connect() as connection:
            assert connection.scalar(text("SELECT count(*) FROM endpoint_secrets")) == 1


def test_an_endpoint_is_never_left_without_a_secret_that_lasts(db: Engine) -> None:
    made = subscribe()
    with pytest.raises(endpoint_secret.LastSecret, match="rotate first"):
        revoke(made["endpoint_id"], made["secret_id"])
    rotated = rotate(made["endpoint_id"])

    with pytest.raises(endpoint_secret.LastSecret):
        revoke(made["endpoint_id"], rotated["secret_id"])


def test_a_secret_of_another_endpoint_or_one_that_is_gone_is_unknown(db: Engine) -> None:
    made, other = subscribe(), subscribe()

    with pytest.raises(endpoint_secret.UnknownSecret, match=made["secret_id"]):
        revoke(made["endpoint_id"], other["secret_id"])


def test_at_most_five_keys_live_at_one_time(db: Engine) -> None:
    made = subscribe()
    for _ in range(4):
        rotate(made["endpoint_id"])

    with pytest.raises(endpoint_secret.TooManySecrets):
        rotate(made["endpoint_id"])

    assert len(get_endpoint(endpoint_id=UUID(made["endpoint_id"]))["keys"]) == 5
    rotate(made["endpoint_id"], keep_old_seconds=0)
    assert len(get_endpoint(endpoint_id=UUID(made["endpoint_id"]))["keys"]) == 1


@pytest.mark.parametrize("seconds", [-1, 604_801])
def test_old_keys_sign_for_seven_days_at_most(db: Engine, seconds: int) -> None:
    made = subscribe()

    with pytest.raises(InvalidMessage, match="keep_old_seconds"):
        rotate(made["endpoint_id"], keep_old_seconds=seconds)


def test_of_more_keys_than_may_sign_the_newest_do(db: Engine) -> None:
    """There are too many for a sender whose clock is behind that of who rotates."""
    with receiver() as peer:
        made = subscribe(peer)
        for _ in range(4):
            rotate(made["endpoint_id"], keep_old_seconds=60)
        for minutes in range(50, 54):
            newest = rotate(made["endpoint_id"], as_of=later(minutes=minutes))
        emit()
        deliver_webhooks()

        [request] = peer.requests
    assert len(request.headers["webhook-signature"].split(" ")) == MAX_LIVE_SECRETS
    request.verify(newest["secret"])


def test_a_later_rotation_never_lets_an_old_key_live_longer(db: Engine) -> None:
    made = subscribe()
    rotate(made["endpoint_id"], keep_old_seconds=60)
    [_, old] = get_endpoint(endpoint_id=UUID(made["endpoint_id"]))["keys"]

    rotate(made["endpoint_id"], keep_old_seconds=604_800)

    keys = get_endpoint(endpoint_id=UUID(made["endpoint_id"]))["keys"]
    assert [one["expires_at"] for one in keys if one["secret_id"] == made["secret_id"]] == [
        old["expires_at"]
    ]
    assert keys[0]["expires_at"] is None


def test_eight_rotations_at_once_with_one_key_are_one(db: Engine) -> None:
    made, gate = subscribe(), threading.Barrier(8)

    def call(_: int) -> Any:
        gate.wait()
        return rotate(made["endpoint_id"], idempotency_key="one")

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(call, range(8)))

    assert all(answer == answers[0] for answer in answers)
    assert len(get_endpoint(endpoint_id=UUID(made["endpoint_id"]))["keys"]) == 2


def test_an_endpoint_with_a_key_pair_gives_its_public_half_away_and_signs_with_the_other(
    db: Engine,
) -> None:
    with receiver() as peer:
        made = subscribe(peer, signature="ed25519")
        assert made["secret"] is None
        assert made["public_key"].startswith("whpk_")
        emit()
        deliver_webhooks()

        [request] = peer.requests
    signing.verify(
        secrets=[made["public_key"]],
        headers=request.headers,
        body=request.body,
        now=int(request.headers["webhook-timestamp"]),
    )
    with db.connect() as connection:
        sealed = connection.scalar(text("SELECT sealed FROM endpoint_secrets"))
    public = base64.b64decode(made["public_key"].removeprefix("whpk_"))
    assert public not in bytes(sealed or b"")


def test_a_rotation_can_change_the_way_of_signing(db: Engine) -> None:
    with receiver() as peer:
        made = subscribe(peer)
        rotated = rotate(made["endpoint_id"], signature="ed25519")
        emit()
        deliver_webhooks()

        [request] = peer.requests
    versions = [one.split(",")[0] for one in request.headers["webhook-signature"].split(" ")]
    assert versions == ["v1", "v1a"]
    assert rotated["public_key"]


def test_no_key_of_another_tenants_or_a_deleted_endpoint_is_rotated_or_revoked(db: Engine) -> None:
    made = subscribe()
    with pytest.raises(endpoint.UnknownEndpoint):
        rotate(made["endpoint_id"], tenant_id="other")
    rotate(made["endpoint_id"])
    with pytest.raises(endpoint.UnknownEndpoint):
        revoke(made["endpoint_id"], made["secret_id"], tenant_id="other")
    delete_endpoint(endpoint_id=UUID(made["endpoint_id"]))
    with pytest.raises(endpoint.UnknownEndpoint):
        rotate(made["endpoint_id"])


def send(name: str, message_id: str = "m", **arguments: Any) -> Any:
    """Carry a task out as a message, which is kept when it is refused."""
    return execution.execute(REGISTRY[name], arguments, message_id)


def test_a_refused_message_is_kept_without_its_headers_and_nothing_says_their_values(
    db: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    refused = {"url": "https://x.example/", "topics": ["*"], "idempotency_key": "k"}
    with caplog.at_level(logging.DEBUG):
        for headers in ({"Authorization": HUSH}, {"X": HUSH + "\n"}, HUSH, {"Host": [HUSH]}):
            with pytest.raises(Refusal) as error:
                send("billing.create_endpoint", **refused, headers=headers)
            assert "hush-hush" not in str(error.value)
            assert "hush-hush" not in json.dumps(getattr(error.value, "errors", []))
        with pytest.raises(Refusal):
            send("billing.update_endpoint", endpoint_id=str(uuid4()), headers={"X": HUSH})

    with db.connect() as connection:
        kept = connection.scalars(text("SELECT to_jsonb(r)::text FROM rejected_messages r")).all()
    assert kept
    assert "hush-hush" not in "".join(kept) + caplog.text


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("billing.create_endpoint", {"header": {"Authorization": HUSH}}),
    ("billing.create_endpoint", {"custom-headers": [HUSH], "Headers": {"a": HUSH}}),
    ("billing.create_endpoint", {"url": "https://me:hush-hush@example.com/"}),
    ("billing.create_endpoint", {"url": "https://hush-hush@example.com/", "topics": 3}),
    ("billing.update_endpoint", {"headrs": {"X": HUSH}}),
    ("billing.update_endpoint", {"endpoint_id": str(UUID(int=1)), "url": "//hush-hush@x"}),
    ("billing.rotate_endpoint_secret", {"secret": "hush-hush", "endpoint_id": str(UUID(int=1))}),
    ("billing.replay_rejected", {"rejected_message_id": 1, "payload": {"headers": {"X": HUSH}}}),
]


@pytest.mark.parametrize(("name", "arguments"), REFUSED)
def test_a_secret_in_the_wrong_place_is_neither_kept_nor_said(
    db: Engine, caplog: pytest.LogCaptureFixture, name: str, arguments: dict[str, Any]
) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(Refusal) as error:
        send(name, **arguments)

    kept = kept_of_refused(db)
    assert len(kept) == 1
    assert "hush-hush" not in str(error.value) + kept[0] + caplog.text


@pytest.mark.parametrize(
    "arguments",
    [
        {"endpoint": {"Headers": {"X": HUSH}}},
        {"calls": [{"deep": [{"secret": HUSH}]}]},
        {"url": "https://me:hush-hush@example.com/"},
        {"payload": '[[], {"headers": {"X": "hush-hush"}'},
        {"payload": base64.b64encode(b'[[], {"headers": {"X": "hush-hush"}').decode()},
    ],
)
def test_of_a_message_that_nobody_can_take_the_secrets_are_not_kept(
    db: Engine, arguments: dict[str, Any]
) -> None:
    keeping.keep_unknown("billing.create_endpiont", arguments, "m1")
    keeping.keep_unreadable("billing.create_endpoint", {"payload": arguments}, "m2", reason="r")
    keeping.keep_lost("billing.create_endpoint", arguments, RuntimeError("lost"), "m3")

    kept = kept_of_refused(db)
    assert len(kept) >= 2, "of two nothing may be left to tell them apart by"
    for one in kept:
        assert "hush-hush" not in one
        assert base64.b64encode(b"hush")[:4].decode() not in one


def test_what_holds_no_secret_is_kept_whole(db: Engine) -> None:
    usage = {"tenant_id": "acme", "events": [{"headers": {"a": "b"}}], "payload": "x"}
    with pytest.raises(Refusal):
        send("billing.record_usage", **usage)
    keeping.keep_unknown("billing.recrod_usage", {"tenant_id": "acme", "url": "https://x/"}, "m2")

    with db.connect() as connection:
        payloads = connection.scalars(text("SELECT payload FROM rejected_messages ORDER BY id"))
        assert list(payloads) == [usage, {"tenant_id": "acme", "url": "https://x/"}]


def kept_of_refused(db: Engine) -> list[str]:
    with db.connect() as connection:
        rows = connection.scalars(text("SELECT to_jsonb(r)::text FROM rejected_messages r"))
        return [str(row) for row in rows]


def test_what_was_not_kept_must_be_given_anew_to_replay(db: Engine) -> None:
    message: dict[str, Any] = {
        "tenant_id": "acme",
        "url": "https://example.com/",
        "topics": ["*"],
        "headers": {"Authorization": HUSH},
        "idempotency_key": "k",
    }
    with pytest.raises(Refusal):
        send("billing.create_endpoint", **message)  # nobody knows the tenant yet
    subscribe()
    with db.connect() as connection:
        found = connection.scalar(text("SELECT id FROM rejected_messages"))
    assert found is not None

    as_it_was = replay_rejected(rejected_message_id=found)
    assert (as_it_was["state"], as_it_was["code"]) == (
        "open",
        "rejected_message.secret_not_kept",
    )
    mended = replay_rejected(rejected_message_id=found, payload=message)

    assert mended["state"] == "replayed"
    assert mended["answer"]["secret"] is None
    assert mended["answer"]["secret_state"] == "withheld"
    shown = send("billing.create_endpoint", **message)
    assert shown["endpoint_id"] == mended["answer"]["endpoint_id"]
    assert shown["secret_state"] == "shown"
    assert shown["secret"].startswith("whsec_")


def test_no_log_line_of_a_rotation_or_a_sending_has_a_secret(
    db: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), receiver() as peer:
        made = subscribe(peer, headers={"Authorization": HUSH})
        rotated = rotate(made["endpoint_id"])
        emit()
        deliver_webhooks()
        revoke(made["endpoint_id"], made["secret_id"])

    assert "endpoint.secret_rotated" in caplog.text
    for secret in (made["secret"], rotated["secret"]):
        assert secret.removeprefix("whsec_") not in caplog.text
    assert "hush-hush" not in caplog.text


def test_keys_that_expired_long_ago_are_destroyed(db: Engine) -> None:
    made = subscribe()
    rotate(made["endpoint_id"], keep_old_seconds=0)

    with database.transaction() as session:
        at = later(seconds=1)
        assert endpoint_secret.forget_expired(session, expired_by=at) == 1
        assert endpoint_secret.forget_expired(session, expired_by=at + dt.timedelta(days=9)) == 0


def test_secrets_that_were_kept_under_other_names_are_taken_away(empty_database: Engine) -> None:
    from models import migrations  # noqa: PLC0415

    migrations.upgrade(empty_database, "0014")
    payloads: list[tuple[str, Any]] = [
        ("billing.create_endpoint", {"url": "https://me:hush@x/", "topics": ["*"]}),
        ("billing.update_endpoint", {"header": {"X": "hush"}, "url": "https://x/", "clear": None}),
        ("billing.replay_rejected", {"payload": {"headers": {"X": "hush"}}, "actor": "me"}),
        ("billing.create_endpoint", {"url": "hush\u0000"}),
        ("billing.create_endpoint", ["no object", "hush"]),
        ("billing.record_usage", {"payload": "kept", "url": "a@b"}),
    ]
    with empty_database.begin() as connection:
        for number, (task, payload) in enumerate(payloads):
            connection.execute(
                text(
                    "INSERT INTO rejected_messages (task, payload, payload_hash, code, errors, "
                    "received_at, last_seen_at) VALUES (:task, :payload, :hash, 'c', :errors, "
                    "now(), now())"
                ),
                {
                    "task": task,
                    "payload": json.dumps(payload),
                    "hash": bytes([number]),
                    "errors": json.dumps([{"field": "f", "reason": "r", "value": "hush"}]),
                },
            )

    migrations.upgrade(empty_database)

    with empty_database.connect() as connection:
        rows = connection.execute(
            text("SELECT payload, errors FROM rejected_messages ORDER BY id")
        ).all()
    assert "hush" not in json.dumps([[row.payload, row.errors] for row in rows[:5]])
    withheld = "(not kept: it may be a secret)"
    assert [row.payload for row in rows] == [
        {"url": withheld, "topics": ["*"]},
        {"header": withheld, "url": "https://x/", "clear": None},
        {"payload": withheld, "actor": "me"},
        {"payload": withheld},
        {"payload": withheld},
        {"payload": "kept", "url": "a@b"},
    ]
    assert rows[5].errors[0]["value"] == "hush"
