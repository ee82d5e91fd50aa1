"""Our own servers are sent nothing, whatever else an operator allows."""

from ipaddress import ip_address
from pathlib import Path

import pytest

from webhooks import guard, ourselves
from webhooks.guard import OwnServerRefused, Policy
from worker import settings

OWN = Policy(
    allow_http=True,
    allowed_private_hosts=frozenset({"127.0.0.0/8", "::1", "10.0.0.0/8", "redis", "redis:6379"}),
    own_servers=frozenset({"127.0.0.1:5432", "redis:6379", "10.0.0.7:9000", "[::1]:7000"}),
)


def check(url: str) -> None:
    target = guard.check_url(url, policy=OWN)
    guard.resolve(target, policy=OWN)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:5432/",
        "http://127.9.9.9:5432/",
        "http://[::1]:5432/",
        "http://redis:6379/",
        "http://REDIS:6379/x?y",
        "http://10.0.0.7:9000/",
        "http://127.0.0.1:7000/",
    ],
)
def test_a_server_of_ours_is_refused_by_every_name(url: str) -> None:
    with pytest.raises(OwnServerRefused, match="one of our own servers"):
        check(url)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:5433/", "http://10.0.0.8:9000/", "http://10.0.0.7:9001/"]
)
def test_what_is_beside_it_is_not(url: str) -> None:
    check(url)


def test_a_name_that_leads_to_a_server_of_ours_is_refused() -> None:
    found = [ip_address("10.1.2.3")]

    def resolver(host: str, port: int) -> list[str]:
        return {"postgres": ["10.1.2.3"], "other": ["10.1.2.4"]}[host]

    assert ourselves.leads_to_us(["postgres"], found, port=5432, resolver=resolver)
    assert not ourselves.leads_to_us(["other"], found, port=5432, resolver=resolver)


def test_a_server_of_ours_that_can_not_be_looked_up_may_be_any_inner_address() -> None:
    def resolver(host: str, port: int) -> list[str]:
        raise OSError("no name servers")

    inside, outside = [ip_address("10.1.2.3")], [ip_address("93.184.216.34")]
    assert ourselves.leads_to_us(["postgres"], inside, port=5432, resolver=resolver)
    assert not ourselves.leads_to_us(["postgres"], outside, port=5432, resolver=resolver)


def test_every_server_that_the_settings_name_is_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BILLING_LOCAL_FOLDER", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:hunter2@db.inner/billing")
    monkeypatch.setenv("BROKER_URL", "amqp://user:hunter2@broker.inner//")
    monkeypatch.setenv("BILLING_RESULT_BACKEND", "redis://:hunter2@[fd00::7]:6380/1")
    monkeypatch.setenv("BILLING_USAGE_STREAM_URL", "rediss://stream.inner/0")

    policy = settings.load().task_config().address_policy

    assert policy.own_servers - settings.FLOWER == {
        "db.inner:5432",
        "broker.inner:5672",
        "[fd00::7]:6380",
        "stream.inner:6379",
    }
    assert "hunter2" not in repr(policy)
