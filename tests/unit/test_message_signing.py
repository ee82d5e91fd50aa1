"""What a signature of a task message holds together, and what it says no to."""

import base64
import hashlib
import hmac
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery import signals
from hypothesis import given
from hypothesis import strategies as st
from kombu import serialization

from tasks import signing
from tasks.signing import BadlySigned, MessageKeys, Unsigned
from webhooks.keyring import new_master_key
from worker import app, settings, trust

OLD, NEW = (new_master_key(name) for name in ("k1", "k2"))
KEYS = MessageKeys.parse(f"{NEW},{OLD}")
BODY = b'[[],{"tenant_id":"acme"},{}]'


def headers(keys: MessageKeys = KEYS, **changed: Any) -> dict[str, Any]:
    made = {"id": "1", "task": "billing.set_tenant"}
    return {**made, signing.HEADER: keys.sign(made["id"], made["task"], BODY), **changed}


def test_what_was_signed_is_let_pass() -> None:
    KEYS.check(headers(), BODY)


def test_a_key_behind_the_first_still_verifies_and_one_that_was_dropped_does_not() -> None:
    signed_before = headers(MessageKeys.parse(OLD))

    KEYS.check(signed_before, BODY)
    with pytest.raises(BadlySigned, match="not among BILLING_MESSAGE_KEYS"):
        MessageKeys.parse(NEW).check(signed_before, BODY)


@pytest.mark.parametrize(
    ("given", "body"),
    [
        (headers(id="2"), BODY),
        (headers(task="billing.erase_tenant"), BODY),
        (headers(), BODY + b" "),
        (headers(**{signing.HEADER: "v1 k2 " + base64.b64encode(b"x" * 32).decode()}), BODY),
        (headers(**{signing.HEADER: "v1 k2 %%%"}), BODY),
        (headers(**{signing.HEADER: "v1 k2 é"}), BODY),
        (headers(**{signing.HEADER: "v1 k2"}), BODY),
        (headers(**{signing.HEADER: ""}), BODY),
        (headers(**{signing.HEADER: headers()[signing.HEADER].replace("v1", "v2")}), BODY),
        (headers(**{signing.HEADER: headers()[signing.HEADER].replace("k2", "k1")}), BODY),
    ],
)
def test_whatever_was_changed_is_refused(given: dict[str, Any], body: bytes) -> None:
    with pytest.raises(BadlySigned) as refused:
        KEYS.check(given, body)
    with pytest.raises(BadlySigned):
        KEYS.check(given, body, demanded=False)

    assert refused.value.code == "message.badly_signed"


@pytest.mark.parametrize("value", [None, 7, ["v1"]])
def test_a_message_without_a_signature_is_refused_where_one_is_demanded(value: Any) -> None:
    with pytest.raises(Unsigned):
        KEYS.check(headers(**{signing.HEADER: value}), BODY)


def test_a_message_without_a_signature_is_let_pass_where_none_is_demanded() -> None:
    KEYS.check(headers(**{signing.HEADER: None}), BODY, demanded=False)


@given(
    st.tuples(st.text(max_size=4), st.text(max_size=4), st.binary(max_size=4)),
    st.tuples(st.text(max_size=4), st.text(max_size=4), st.binary(max_size=4)),
)
def test_no_two_messages_share_a_signature(
    one: tuple[str, str, bytes], other: tuple[str, str, bytes]
) -> None:
    assert (KEYS.sign(*one) == KEYS.sign(*other)) == (one == other)


def test_the_signature_is_what_the_document_says() -> None:
    """docs/signed-messages.md, for producers in other languages."""
    key = base64.b64decode(NEW.partition(":")[2])
    text = b"v1\n1\n1\n18\nbilling.set_tenant\n" + BODY

    mac = base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()

    assert headers()[signing.HEADER] == f"v1 k2 {mac}"


@pytest.fixture
def keys_in_use() -> Iterator[None]:
    """This process signs, and demands it."""
    assert app.conf.task_serializer == "json"  # read first: it says which keys there are, too
    trust.use(KEYS)
    yield
    trust.use(None)


def test_what_is_sent_is_signed_as_its_bytes_are_written(keys_in_use: None) -> None:
    arguments = {"tenant_id": "é", "name": None, "metadata": {"a": [1, "2", {}], "b": 1.5}}
    headers, _, body, _ = app.amqp.as_task_v2("1", "billing.set_tenant", kwargs=arguments)

    signals.before_task_publish.send(sender="billing.set_tenant", body=body, headers=headers)

    assert signing.HEADER in headers
    *_, written = serialization.dumps(body, "json")  # type: ignore[no-untyped-call]
    trust.require(SimpleNamespace(headers=headers, body=written))
    trust.require(SimpleNamespace(headers=headers, body=written.encode()))
    with pytest.raises(BadlySigned):
        trust.require(SimpleNamespace(headers=headers, body=written + " "))


def test_keys_never_show(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = NEW.partition(":")[2]
    assert secret not in repr(KEYS)
    monkeypatch.setenv("BILLING_MESSAGE_KEYS", f"{NEW},k1:{secret[:-5]}")

    with pytest.raises(settings.InvalidSettings, match="BILLING_MESSAGE_KEYS") as refused:
        settings.load().signing_keys()

    assert secret[:-5] not in str(refused.value) + repr(settings.load())


def test_without_keys_nothing_is_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BILLING_MESSAGE_KEYS", raising=False)

    assert settings.load().signing_keys() is None
