"""Which headers an endpoint's owner may add."""

import pytest

from webhooks.headers import HeaderRefused, check_headers


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer secret-token"},
        {"X-Api-Key": "a b\tc", "x-empty": ""},
        {f"x-{n}": "v" for n in range(20)},
        {"x": "y" * (4096 - 5)},
    ],
)
def test_ordinary_headers_are_taken(headers: dict[str, str]) -> None:
    check_headers(headers)


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "Connection",
        "Content-Type",
        "Content-Length",
        "content-anything",
        "Transfer-Encoding",
        "TE",
        "Upgrade",
        "Expect",
        "Cookie",
        "Proxy-Authorization",
        "User-Agent",
        "Webhook-Signature",
        "webhook-id",
        "X-Event-Id",
        "TraceParent",
        "tracestate",
        "x-topic",
        "X-Attempt",
        "X-Payload-Version",
        "Keep-Alive",
        "Trailer",
        "Accept-Encoding",
        "",
        "a b",
        "a:b",
        "a\r\nb",
        "ä",
        "x\n",
    ],
)
def test_header_of_ours_or_without_a_proper_name_is_refused_by_name(name: str) -> None:
    with pytest.raises(HeaderRefused) as caught:
        check_headers({"x-good": "1", name: "secret-value"})
    assert caught.value.name == name
    assert "secret-value" not in str(caught.value)


@pytest.mark.parametrize("value", ["a\r\nb", "a\nb", "a\rb", "a\0b", "ü", "a\x7f", "a\n"])
def test_value_that_could_break_out_is_refused(value: str) -> None:
    with pytest.raises(HeaderRefused, match="'x-token'"):
        check_headers({"x-token": value})


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({f"x-{n}": "v" for n in range(21)}, "at most 20"),
        ({"x": "y" * (4096 - 4)}, "over 4096 bytes"),
        ({"x-a": "1", "X-A": "2"}, "given twice"),
    ],
)
def test_too_many_too_large_or_repeated_headers_are_refused(
    headers: dict[str, str], reason: str
) -> None:
    with pytest.raises(HeaderRefused, match=reason):
        check_headers(headers)
