"""Signatures against the published vectors, and against an independent verifier."""

import base64
import time

import pytest
import standardwebhooks
from hypothesis import given, settings
from hypothesis import strategies as st

from webhooks import signing, signing_keys

MESSAGE_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
TIMESTAMP = 1614265330
BODY = b'{"test": 2432232314}'
SHARED = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PRIVATE = (
    "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
)
V1 = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
V1A = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="


def sign(*secrets: str, body: bytes = BODY) -> str:
    return signing.sign(secrets=secrets, message_id=MESSAGE_ID, timestamp=TIMESTAMP, body=body)


def headers(signature: str, timestamp: int = TIMESTAMP) -> dict[str, str]:
    return {
        "Webhook-Id": MESSAGE_ID,
        "Webhook-Timestamp": str(timestamp),
        "Webhook-Signature": signature,
    }


def verify(signature: str, *secrets: str, now: int = TIMESTAMP, body: bytes = BODY) -> None:
    signing.verify(secrets=secrets, headers=headers(signature), body=body, now=now)


@pytest.mark.parametrize(("secret", "signature"), [(SHARED, V1), (PRIVATE, V1A)])
def test_published_vector_is_matched_to_the_letter(secret: str, signature: str) -> None:
    assert sign(secret) == signature


def test_signatures_are_joined_by_one_space_and_v1_comes_first() -> None:
    other = signing_keys.new_secret()
    assert sign(PRIVATE, SHARED, other) == f"{V1} {sign(other)} {V1A}"


@given(body=st.binary(max_size=200))
@settings(max_examples=30)
def test_what_is_signed_verifies_with_either_key_and_only_unchanged(body: bytes) -> None:
    private, public = signing_keys.new_keypair()
    secret = signing_keys.new_secret()
    signature = sign(secret, private, body=body)
    for key in (secret, public, private):
        verify(signature, key, body=body)
        with pytest.raises(signing.SignatureRefused, match="matches a known key"):
            verify(signature, key, body=body + b" ")


@pytest.mark.parametrize("body", [b"{}", b"", '{"mood":"🥳 ünï"}'.encode(), b"x" * 300_000])
def test_independent_verifier_accepts_our_signature(body: bytes) -> None:
    secret, now = signing_keys.new_secret(), int(time.time())
    private, _ = signing_keys.new_keypair()
    signature = signing.sign(
        secrets=[signing_keys.new_secret(), private, secret],
        message_id="evt_1",
        timestamp=now,
        body=body,
    )
    given_headers = {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(now),
        "webhook-signature": signature,
    }
    standardwebhooks.Webhook(secret).verify(body, given_headers, json_parse=False)


def test_a_new_secret_is_32_random_bytes() -> None:
    first, second = signing_keys.new_secret(), signing_keys.new_secret()
    assert first != second
    assert len(base64.b64decode(first.removeprefix("whsec_"))) == 32


def test_public_key_is_the_private_keys_other_half() -> None:
    private, public = signing_keys.new_keypair()
    assert signing_keys.public_key(private) == public
    with pytest.raises(signing_keys.InvalidSecret, match="only a whsk_ key"):
        signing_keys.public_key(SHARED)


@pytest.mark.parametrize("length", [24, 32, 64])
def test_shared_secrets_of_24_to_64_bytes_are_taken(length: int) -> None:
    secret = "whsec_" + base64.b64encode(bytes(length)).decode()
    signing.check_secret(secret)
    signing.check_secret(secret.rstrip("="))


@pytest.mark.parametrize(
    ("secret", "message"),
    [
        ("whsec_" + base64.b64encode(bytes(23)).decode(), "holds 23"),
        ("whsec_" + base64.b64encode(bytes(65)).decode(), "holds 65"),
        ("whsec_", "holds 0"),
        ("whsec_not base64 at all", "not base64"),
        ("plain", "starts with whsec_, whsk_ or whpk_"),
        ("whsk_" + base64.b64encode(bytes(32)).decode(), "seed and its public key"),
        ("whsk_" + base64.b64encode(bytes(64)).decode(), "do not belong together"),
        ("whpk_" + base64.b64encode(bytes(31)).decode(), "holds 32 bytes"),
        ("whpk_" + base64.b64encode(bytes(32)).decode(), "signing needs whsk_"),
    ],
)
def test_unusable_secret_is_refused_and_never_quoted(secret: str, message: str) -> None:
    with pytest.raises(signing_keys.InvalidSecret, match=message) as caught:
        signing.check_secret(secret)
    text = secret.partition("_")[2]
    assert not text or text not in str(caught.value)
    assert caught.value.__cause__ is None


def test_parsed_keys_do_not_show_themselves() -> None:
    assert repr(signing_keys.parse(SHARED)) == "SharedKey()"
    assert repr(signing_keys.parse(PRIVATE)) == "PrivateKey()"


def test_nothing_is_ever_signed_with_nothing() -> None:
    with pytest.raises(signing.NothingToSignWith):
        sign()


@pytest.mark.parametrize("message_id", ["", "a.b", "a b", "a\nb", "ä", "x" * 257])
def test_ambiguous_message_id_is_refused(message_id: str) -> None:
    with pytest.raises(signing.InvalidMessageId):
        signing.sign(secrets=[SHARED], message_id=message_id, timestamp=TIMESTAMP, body=BODY)


@pytest.mark.parametrize("drift", [-300, 300])
def test_timestamp_within_tolerance_is_taken(drift: int) -> None:
    verify(V1, SHARED, now=TIMESTAMP + drift)


@pytest.mark.parametrize("drift", [-301, 301])
def test_timestamp_outside_tolerance_is_refused(drift: int) -> None:
    with pytest.raises(signing.SignatureRefused, match="s old"):
        verify(V1, SHARED, now=TIMESTAMP + drift)


@pytest.mark.parametrize(
    "signature",
    [
        "",
        ",",
        V1.replace("v1,", "v2,"),
        V1.replace("v1,", "v1a,"),
        V1A.replace("v1a,", "v1,"),
        "v1,###",
        V1.replace("v1,", "v1;"),
    ],
)
def test_signature_of_another_kind_does_not_verify(signature: str) -> None:
    with pytest.raises(signing.SignatureRefused, match="matches a known key"):
        verify(signature, SHARED, signing_keys.public_key(PRIVATE))


def test_no_more_than_thirty_two_signatures_are_looked_at() -> None:
    verify(" ".join([*["v1,AAAA"] * 31, V1]), SHARED)
    with pytest.raises(signing.SignatureRefused, match="none of 32 signatures"):
        verify(" ".join([*["v1,AAAA"] * 32, V1]), SHARED)


@pytest.mark.parametrize("missing", ["Webhook-Id", "Webhook-Timestamp", "Webhook-Signature"])
def test_message_without_one_of_the_headers_does_not_verify(missing: str) -> None:
    given_headers = headers(V1)
    del given_headers[missing]
    with pytest.raises(signing.SignatureRefused):
        signing.verify(secrets=[SHARED], headers=given_headers, body=BODY, now=TIMESTAMP)
