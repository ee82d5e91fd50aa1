"""Identities and peppers: spelling makes nobody another, and no secret is shown."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.rules import trial
from models.rules.trial import Identity, Peppers

SECRET = base64.b64encode(bytes(range(32))).decode()
OTHER = base64.b64encode(bytes(range(1, 33))).decode()
PEPPERS = Peppers.parse(f"p2:{SECRET}, p1:{OTHER}")
ROOM = st.text(" \t\n\u00a0\u2009", max_size=3)
PROVIDERS = st.text(min_size=1, max_size=8).filter(lambda text: ":" not in text)


@given(PROVIDERS, st.text(min_size=1, max_size=20), ROOM, ROOM)
def test_case_and_space_around_it_make_nobody_another(
    provider: str, external_id: str, before: str, after: str
) -> None:
    one = Identity(provider, external_id)
    spelled = Identity(f"{before}{provider}{after}", f"{after}{external_id}{before}")
    lower = Identity(provider.lower(), external_id.lower())

    assert one.text == spelled.text == lower.text
    assert Identity(*one.text.split(":", 1)).text == one.text


@given(PROVIDERS, PROVIDERS, st.text(max_size=12), st.text(max_size=12))
def test_no_two_who_differ_are_hashed_alike(a: str, b: str, x: str, y: str) -> None:
    one, other = Identity(a, x), Identity(b, y)
    parts = [f"{a}".lower().strip(), f"{x}".lower().strip()]
    if one.text == other.text:
        assert one.text.split(":", 1) == other.text.split(":", 1)
    assert one.text == ":".join(parts)
    assert (PEPPERS.mark(one) == PEPPERS.mark(other)) == (one.text == other.text)


def test_the_hash_is_hmac_sha256_of_the_lower_cased_text_under_the_first_pepper() -> None:
    mark = PEPPERS.mark(Identity(" Email", "Ann@Acme.Example "))

    # openssl dgst -sha256 -mac HMAC -macopt hexkey:000102…1f, of email:ann@acme.example
    assert mark.pepper_id == "p2"
    assert mark.digest.hex() == "5505caa6fac4af7252fc8c7d8aab7fdd02bce9cabd9807a7e402766773f6d8d9"
    assert mark.digest in PEPPERS.digests([Identity("email", "ann@acme.example")])


def test_who_is_known_under_an_old_pepper_is_looked_for_under_it() -> None:
    ann = Identity("email", "ann")
    old = Peppers.parse(f"p1:{OTHER}")

    assert old.mark(ann).digest in PEPPERS.digests([ann])
    assert PEPPERS.digests([ann, ann]) == sorted(PEPPERS.digests([ann]))
    assert len(PEPPERS.digests([ann])) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no pepper"),
        (SECRET, "number 1 is not written id:base64"),
        (f"p1:{SECRET},p 2:{SECRET}", "number 2"),
        ("p1:not base64!", "'p1' is not base64"),
        ("p1:c2hvcnQ=", "'p1' has 5 bytes"),
        (f"p1:{SECRET},p1:{SECRET}", "'p1' is given twice"),
    ],
)
def test_unreadable_peppers_are_named_without_being_shown(text: str, message: str) -> None:
    with pytest.raises(trial.InvalidPeppers, match=message) as refused:
        Peppers.parse(text)

    assert SECRET not in str(refused.value)
    assert "not base64!" not in str(refused.value)


def test_a_pepper_does_not_show() -> None:
    assert SECRET not in repr(PEPPERS)
    assert "p2" in repr(PEPPERS)
    assert repr(bytes(range(32))) not in repr(PEPPERS)
