"""Which Redis the usage stream is drained from, and who is told of invoices."""

from ipaddress import IPv4Address
from pathlib import Path

import pytest

from worker import settings


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment in which nothing is configured and no embedded servers run."""
    names = (
        "BROKER_URL",
        "BILLING_USAGE_STREAM_URL",
        "BILLING_PROVIDER",
        "BILLING_PROVIDER_KEY",
        "BILLING_WEBHOOK_ALLOW_HTTP",
        "BILLING_WEBHOOK_PRIVATE_HOSTS",
    )
    for name in names:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BILLING_LOCAL_FOLDER", str(tmp_path))


@pytest.mark.parametrize(
    ("broker", "given", "drained"),
    [
        ("redis://broker:6379/0", None, "redis://broker:6379/0"),
        ("rediss://broker:6379/0", None, "rediss://broker:6379/0?ssl_cert_reqs=required"),
        ("redis://broker:6379/0", "redis://other:6379/1", "redis://other:6379/1"),
        ("redis://broker:6379/0", "off", None),
        ("amqp://broker//", None, None),
        ("amqp://broker//", "redis://other:6379/1", "redis://other:6379/1"),
        (None, None, None),
    ],
)
def test_the_stream_is_on_the_broker_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, broker: str | None, given: str | None, drained: str | None
) -> None:
    if broker is not None:
        monkeypatch.setenv("BROKER_URL", broker)
    if given is not None:
        monkeypatch.setenv("BILLING_USAGE_STREAM_URL", given)

    assert settings.load().task_config().stream_url == drained


def test_a_stream_that_is_no_redis_is_refused_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BILLING_USAGE_STREAM_URL", "amqp://user:hunter2@broker//")

    with pytest.raises(settings.InvalidSettings) as refused:
        settings.load().task_config()

    assert "BILLING_USAGE_STREAM_URL" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_where_the_stream_is_does_not_show_when_the_configuration_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BILLING_USAGE_STREAM_URL", "redis://:hunter2@broker:6379/0")

    assert "hunter2" not in repr(settings.load().task_config())


def test_nobody_is_told_of_invoices_unless_somebody_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert settings.load().task_config().provider is None
    monkeypatch.setenv("BILLING_PROVIDER", "stripe")
    monkeypatch.setenv("BILLING_PROVIDER_KEY", "rk_test_51hunter2")

    provider = settings.load().task_config().provider

    assert provider is not None
    assert (provider.base_url, provider.collects) == ("https://api.stripe.com", False)
    assert provider.secret_key == "rk_test_51hunter2"
    assert "hunter2" not in repr(settings.load()) + repr(settings.load().task_config())


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"BILLING_PROVIDER": "stripe"}, "BILLING_PROVIDER_KEY"),
        ({"BILLING_PROVIDER": "stripe", "BILLING_PROVIDER_KEY": "hunter2 x"}, "_KEY"),
        ({"BILLING_PROVIDER": "stripe", "BILLING_PROVIDER_KEY": "pk_live_hunter2"}, "_KEY"),
        ({"BILLING_PROVIDER_KEY": "sk_live_hunter2"}, "set that to stripe"),
        ({"BILLING_PROVIDER": "paypal", "BILLING_PROVIDER_KEY": "hunter2hunter2"}, "'stripe'"),
        (
            {
                "BILLING_PROVIDER": "stripe",
                "BILLING_PROVIDER_KEY": "sk_live_hunter2",
                "BILLING_PROVIDER_URL": "https://169.254.169.254/",
            },
            "BILLING_PROVIDER_URL",
        ),
    ],
)
def test_a_provider_that_can_not_be_told_is_refused_without_its_key(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], named: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(settings.InvalidSettings, match=named) as refused:
        settings.load().task_config()

    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("variables", "in_development", "http", "loopback"),
    [
        ({}, False, False, False),
        ({}, True, True, True),
        ({"BILLING_WEBHOOK_ALLOW_HTTP": "false"}, True, False, True),
        ({"BILLING_WEBHOOK_PRIVATE_HOSTS": "10.0.0.0/8"}, True, True, False),
    ],
)
def test_endpoints_on_this_machine_are_for_development_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
    *,
    variables: dict[str, str],
    in_development: bool,
    http: bool,
    loopback: bool,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    policy = settings.load().address_policy(frozenset(), in_development=in_development)

    assert policy.allow_http == http
    assert policy.allows_address(IPv4Address("127.0.0.1")) == loopback


def test_without_embedded_servers_nothing_is_taken_for_development() -> None:
    policy = settings.load().task_config().address_policy

    assert (policy.allow_http, policy.trusts_networks) == (False, False)
