"""Secrets at rest: only the right key, for the right endpoint, unaltered, gives them back."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from webhooks import keyring, signing_keys

OLD = keyring.new_master_key("k1")
NEW = keyring.new_master_key("k2")
WRITTEN = "k2:" + base64.b64encode(bytes(32)).decode()
ENDPOINT = "end_1"
KEPT = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"
SEALED_BY_K1 = (
    "AQJrMWRlZmdoaWprbG1ubz9zrQMathffeyEen4sjKJohi0Vb5CC3M5ee6DC6"
    "8eAg2bwGkhVKj16M4oXUHl89lVAG4qiVBQ=="
)


@given(plaintext=st.text(max_size=100), associated=st.text(max_size=40))
@settings(max_examples=30)
def test_what_is_sealed_opens_again(plaintext: str, associated: str) -> None:
    ring = keyring.Keyring.parse(NEW)
    sealed = ring.seal(plaintext, associated=associated)
    assert ring.open(sealed, associated=associated) == plaintext


def test_sealing_twice_gives_different_bytes_and_never_the_secret() -> None:
    ring, secret = keyring.Keyring.parse(NEW), signing_keys.new_secret()
    first, second = (ring.seal(secret, associated=ENDPOINT) for _ in range(2))
    assert first != second
    assert secret.encode() not in first


def test_what_was_sealed_long_ago_opens() -> None:
    """What is kept in databases: any other format or binding would open none of it."""
    ring = keyring.Keyring(current="k2", keys={"k2": bytes(32), "k1": bytes(range(32))})

    assert ring.open(base64.b64decode(SEALED_BY_K1), associated=ENDPOINT) == KEPT


def test_secret_said_to_be_of_another_key_of_the_same_bytes_does_not_open() -> None:
    same = keyring.Keyring(current="k1", keys={"k1": bytes(32), "k2": bytes(32)})
    sealed = same.seal("whsec_", associated=ENDPOINT)
    with pytest.raises(keyring.TamperedSecret, match="'k2'"):
        same.open(sealed.replace(b"k1", b"k2", 1), associated=ENDPOINT)


def test_secret_moved_to_another_endpoint_does_not_open() -> None:
    ring = keyring.Keyring.parse(NEW)
    sealed = ring.seal("whsec_", associated=ENDPOINT)
    with pytest.raises(keyring.TamperedSecret, match="end_2"):
        ring.open(sealed, associated="end_2")


def test_any_altered_or_missing_byte_is_noticed() -> None:
    ring = keyring.Keyring.parse(NEW)
    sealed = ring.seal("whsec_abc", associated=ENDPOINT)
    for place in range(len(sealed)):
        altered = sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :]
        with pytest.raises((keyring.TamperedSecret, keyring.UnknownMasterKey)):
            ring.open(altered, associated=ENDPOINT)
        with pytest.raises((keyring.TamperedSecret, keyring.UnknownMasterKey)):
            ring.open(sealed[:place], associated=ENDPOINT)


def test_rotation_opens_with_the_old_key_and_seals_with_the_current() -> None:
    sealed = keyring.Keyring.parse(OLD).seal("whsec_abc", associated=ENDPOINT)
    both = keyring.Keyring.parse(f"{NEW}, {OLD}")
    assert not both.is_current(sealed)
    moved = both.reseal(sealed, associated=ENDPOINT)
    assert both.is_current(moved)
    assert keyring.key_id_of(moved) == "k2"
    assert keyring.Keyring.parse(NEW).open(moved, associated=ENDPOINT) == "whsec_abc"


def test_key_that_was_dropped_too_early_is_named() -> None:
    sealed = keyring.Keyring.parse(OLD).seal("whsec_abc", associated=ENDPOINT)
    with pytest.raises(keyring.UnknownMasterKey, match="'k1'") as caught:
        keyring.Keyring.parse(NEW).open(sealed, associated=ENDPOINT)
    assert caught.value.key_id == "k1"


def test_same_id_with_other_bytes_does_not_open() -> None:
    sealed = keyring.Keyring.parse(OLD).seal("whsec_abc", associated=ENDPOINT)
    impostor = keyring.Keyring.parse(keyring.new_master_key("k1"))
    with pytest.raises(keyring.TamperedSecret):
        impostor.open(sealed, associated=ENDPOINT)


def test_keyring_shows_only_ids() -> None:
    ring = keyring.Keyring.parse(f"{NEW},{OLD}")
    assert repr(ring) == "Keyring(current='k2')"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no master key"),
        (" , ", "no master key"),
        (base64.b64encode(bytes(32)).decode(), "number 1 is not written id:base64"),
        (f"{WRITTEN},:AAAA", "number 2 is not written"),
        (f"{WRITTEN},{WRITTEN}", "'k2' is given twice"),
        ("k1:!!!!", "'k1' is not base64"),
        ("k1:" + base64.b64encode(bytes(16)).decode(), "'k1' has 16 bytes"),
    ],
)
def test_unreadable_master_keys_are_named_without_being_shown(text: str, message: str) -> None:
    with pytest.raises(keyring.InvalidMasterKeys, match=message) as caught:
        keyring.Keyring.parse(text)
    assert not text.strip(", ") or text not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("key_id", ["", "k 1", "k:1", "k" * 33, "ü"])
def test_a_key_of_a_name_that_could_not_be_read_again_is_not_made(key_id: str) -> None:
    with pytest.raises(keyring.InvalidMasterKeys, match="is not 1 to 32 letters"):
        keyring.new_master_key(key_id)


def test_current_key_must_be_among_the_keys() -> None:
    with pytest.raises(keyring.InvalidMasterKeys, match="'k9'"):
        keyring.Keyring(current="k9", keys={"k1": bytes(32)})
