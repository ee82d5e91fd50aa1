"""What URLs say of TLS: understood before anything connects, refused where it only looks safe."""

import ssl
from pathlib import Path

import pytest

from tasks import tls
from tests.tls import Authority
from worker import settings
from worker import tls as of_database

HOST = "redis.example.com:6379/0"
SECRET = "hunter2"


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    """A file with a CA's certificate."""
    return Authority(tmp_path, "ca").file


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A file without any."""
    path = tmp_path / "text"
    path.write_text("no certificate")
    return path


def test_a_redis_is_checked_unless_the_url_says_otherwise(ca: Path) -> None:
    plain = tls.check(f"rediss://{HOST}")
    known = tls.check(f"rediss://{HOST}?ssl_ca_certs={ca}&health_check_interval=5")
    open_to_all = tls.check(f"rediss://{HOST}?ssl_cert_reqs=CERT_NONE")

    assert plain.url == f"rediss://{HOST}?ssl_cert_reqs=required"
    assert plain.options == {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    assert known.options == {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_ca_certs": str(ca)}
    assert "health_check_interval=5" in known.url
    assert open_to_all.url == f"rediss://{HOST}?ssl_cert_reqs=none"
    assert [one.is_verified for one in (plain, known, open_to_all)] == [True, True, False]


def test_what_was_understood_once_is_understood_again(ca: Path) -> None:
    once = tls.check(f"rediss://:{SECRET}@{HOST}?ssl_ca_certs={ca}")

    assert tls.check(once.url) == once


def test_rabbitmq_gets_the_words_beside_its_url(ca: Path) -> None:
    found = tls.check(f"amqps://user:{SECRET}@host:5671//?ssl_ca_certs={ca}&heartbeat=9")

    assert found.url == f"amqps://user:{SECRET}@host:5671//?heartbeat=9"
    assert found.is_verified
    assert not tls.check("amqps://host//?ssl_cert_reqs=none").is_verified
    # kombu puts the host's name in the place of None.
    assert found.options == {
        "cert_reqs": ssl.CERT_REQUIRED,
        "ca_certs": str(ca),
        "server_hostname": None,
    }


@pytest.mark.parametrize(
    "url", [f"redis://{HOST}", "amqp://guest@host//", "memory://", f"redis://{HOST}?db=1"]
)
def test_without_tls_a_url_stays_as_it_is(url: str) -> None:
    assert tls.check(url) == tls.Checked(url)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (
            "redis://h/0?ssl_ca_certs={ca}",
            "begins with redis://, which is not encrypted",
        ),
        ("amqp://h//?ssl_cert_reqs=required", "write amqps://"),
        ("rediss://h/0?ssl_cert_reqs=optional", "ssl_cert_reqs=optional; write required"),
        ("rediss://h/0?ssl_cert_reqs=none&ssl_ca_certs={ca}", "does not look at it"),
        ("rediss://h/0?ssl_check_hostname=false", "has ssl_check_hostname; what can be said"),
        ("rediss://h/0?ssl_keyfile={ca}", "no ssl_certfile that the key is of"),
        ("rediss://h/0?ssl_ca_certs=/nowhere", "/nowhere, which can not be read: No such file"),
        ("rediss://h/0?ssl_ca_certs={text}", "which holds no certificate in PEM"),
    ],
)
def test_what_a_broker_would_not_do_is_refused(url: str, said: str, ca: Path, text: Path) -> None:
    with pytest.raises(tls.InvalidTls) as refused:
        tls.check(url.format(ca=ca, text=text))

    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("sslmode=verify", "has sslmode=verify; libpq knows disable, allow"),
        ("sslrootcert={ca}", "has sslrootcert and no sslmode, which goes on in the clear"),
        ("sslmode=prefer&sslrootcert={ca}", "sslmode=prefer, which goes on in the clear"),
        ("sslmode=require&sslrootcert=system", "write verify-full"),
        ("sslmode=verify-full&sslrootcert=/nowhere", "/nowhere, which can not be read"),
        ("sslmode=verify-full&sslrootcert={text}", "holds no certificate in PEM"),
    ],
)
def test_what_postgresql_would_not_do_is_refused(
    words: str, said: str, ca: Path, text: Path
) -> None:
    with pytest.raises(tls.InvalidTls) as refused:
        of_database.check_database(f"postgresql://h/db?{words.format(ca=ca, text=text)}")

    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("words", "mode"),
    [
        ("", None),
        ("?sslmode=prefer", None),
        ("?sslmode=require", "require"),
        ("?sslmode=require&sslrootcert={ca}", "verify-ca"),
        ("?sslmode=verify-full&sslrootcert={ca}", "verify-full"),
        ("?sslrootcert=system", "verify-full"),
    ],
)
def test_what_is_checked_of_postgresql_is_known(words: str, mode: str | None, ca: Path) -> None:
    url = f"postgresql://h/db{words.format(ca=ca)}"
    of_database.check_database(url)

    assert of_database.mode_of(url) == mode


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DATABASE_URL", "postgresql://u:{secret}@h/db?sslrootcert=/nowhere"),
        ("BROKER_URL", "redis://:{secret}@h/0?ssl_ca_certs=/nowhere"),
        ("BILLING_RESULT_BACKEND", "rediss://:{secret}@h/0?ssl_ca_certs=/nowhere"),
        ("BILLING_USAGE_STREAM_URL", "rediss://:{secret}@h/0?ssl_certfile=/nowhere"),
    ],
)
def test_a_refusal_names_the_variable_and_no_password(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, value: str
) -> None:
    monkeypatch.setenv("BILLING_LOCAL_FOLDER", str(tmp_path))
    for name in ("DATABASE_URL", "BROKER_URL", "BILLING_RESULT_BACKEND"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, value.format(secret=SECRET))

    with pytest.raises(settings.InvalidSettings) as refused:
        settings.load().require_usable()

    assert str(refused.value).startswith(f"{variable} has ")
    assert SECRET not in str(refused.value)
