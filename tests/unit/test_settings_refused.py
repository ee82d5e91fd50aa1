"""Every variable: one that can not be used is named, with what would be right, and never shown."""

import re
from pathlib import Path
from typing import Any

import pytest

from webhooks.keyring import new_master_key
from worker import secret_files, settings

SECRET = "hunter2hunter2"

FIELDS: dict[str, Any] = {
    str(field.validation_alias): field for field in settings.Settings.model_fields.values()
}

A_FILE = __file__
NOWHERE = "/nowhere/at/all"

BAD: dict[str, tuple[str, str]] = {
    "BILLING_LOCAL_FOLDER": (A_FILE, "must be a folder"),
    "BILLING_DEMO_FOLDER": (A_FILE, "must be a folder"),
    "DATABASE_URL": (f"mysql://u:{SECRET}@db/x", "billing needs 'postgresql://"),
    "BROKER_URL": (f"https://u:{SECRET}@b/x", "redis://:password@host:6379/0"),
    "BILLING_RESULT_BACKEND": (SECRET, "redis://:password@host:6379/0"),
    "BILLING_USAGE_STREAM_URL": (f"amqp://u:{SECRET}@b/x", "redis:// or rediss://"),
    "BILLING_MASTER_KEYS": (f"k1:{SECRET}", "32 bytes"),
    "BILLING_TRIAL_PEPPERS": (f"k1:{SECRET}", "32 bytes"),
    "BILLING_MESSAGE_KEYS": (f"k1:{SECRET}", "32 bytes"),
    "BILLING_MESSAGE_SIGNATURES": ("sometimes", "'required' or 'optional'"),
    "FLOWER_BASIC_AUTH": (SECRET, "user:password"),
    "OTEL_EXPORTER_OTLP_ENDPOINT": ("collector:4318", "http://collector:4318"),
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": ("collector:4318", "http://collector:4318"),
    "OTEL_TRACES_EXPORTER": ("console", "'otlp' or 'none'"),
    "OTEL_SDK_DISABLED": ("perhaps", "valid boolean"),
    "OTEL_SERVICE_NAME": ("b" * 256, "at most 255 characters"),
    "BILLING_WEBHOOK_ALLOW_HTTP": ("perhaps", "valid boolean"),
    "BILLING_WEBHOOK_PRIVATE_HOSTS": ("10.0.0.0/99", "10.0.0.0/99"),
    "BILLING_WEBHOOK_TIMEOUT_SECONDS": ("31", "less than or equal to 30"),
    "BILLING_USAGE_FURTHEST_FUTURE_MINUTES": ("soon", "valid integer"),
    "BILLING_INVOICE_GRACE_HOURS": ("-1", "greater than or equal to 0"),
    "BILLING_ALLOCATE_AHEAD_MINUTES": ("10081", "less than or equal to 10080"),
    "BILLING_USAGE_ARCHIVE_AFTER_DAYS": ("34", "greater than or equal to 35"),
    "BILLING_USAGE_ARCHIVE_FOLDER": (A_FILE, "must be a folder"),
    "BILLING_USAGE_KEYS_REMEMBERED_DAYS": ("0", "greater than or equal to 1"),
    "BILLING_USAGE_ARCHIVE_UNINVOICED": ("2", "valid boolean"),
    "BILLING_PAPER_FONT": (NOWHERE, "does not point to a file"),
    "BILLING_PROVIDER": ("paypal", "'stripe'"),
    "BILLING_PROVIDER_KEY": (SECRET, "set that to stripe"),
    "BILLING_PROVIDER_URL": ("https://169.254.169.254/", "BILLING_PROVIDER_URL"),
    "BILLING_PROVIDER_COLLECTS": ("maybe", "valid boolean"),
    "BILLING_PROVIDER_TIMEOUT_SECONDS": ("0", "greater than or equal to 1"),
    "BILLING_WEBHOOK_ATTEMPTS_DAYS": ("6", "greater than or equal to 7"),
    "BILLING_WEBHOOK_EVENTS_DAYS": ("6", "greater than or equal to 7"),
    "BILLING_WEBHOOK_DEAD_DAYS": ("29", "greater than or equal to 30"),
    "BILLING_DATABASE_POOL_SIZE": ("101", "less than or equal to 100"),
    "BILLING_SOFT_SHUTDOWN_SECONDS": ("121", "less than or equal to 120"),
    "BILLING_VISIBILITY_TIMEOUT_SECONDS": ("4", "greater than or equal to 5"),
    "BILLING_ALIVE_FILE": (NOWHERE, "in a folder that is there"),
    "BILLING_METRICS_FOLDER": (A_FILE, "must be a folder"),
    "BILLING_LOG": ("xml", "'auto', 'json' or 'text'"),
    "BILLING_LOG_LEVEL": ("LOUD", "'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
    "BILLING_TELL_LEDGER": ("sometimes", "valid boolean"),
    "BILLING_LOG_LEDGER": ("sometimes", "valid boolean"),
}

NEEDED = {
    "BILLING_PROVIDER_URL": {"BILLING_PROVIDER": "stripe", "BILLING_PROVIDER_KEY": "sk_12345"}
}


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment in which nothing is configured and no embedded servers run."""
    for name in FIELDS:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)
    monkeypatch.setenv("BILLING_LOCAL_FOLDER", str(tmp_path))


def refusal() -> str:
    with pytest.raises(settings.InvalidSettings) as refused:
        settings.load().require_usable()
    return str(refused.value)


def test_every_variable_has_a_value_that_is_refused_here() -> None:
    assert set(BAD) == set(FIELDS)
    shown = {name for name, (value, _) in BAD.items() if SECRET in value}
    assert shown == set(settings.SECRETS)


@pytest.mark.parametrize("variable", FIELDS)
def test_what_can_not_be_used_is_named_with_what_would_be_right(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    value, right = BAD[variable]
    for name, needed in NEEDED.get(variable, {}).items():
        monkeypatch.setenv(name, needed)
    monkeypatch.setenv(variable, value)

    said = refusal()

    assert variable in said.split()[0]
    assert right in said
    assert SECRET not in said
    assert len(said.splitlines()) == 1


def test_all_that_is_wrong_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BILLING_LOG", "xml")
    monkeypatch.setenv("BILLING_DATABASE_POOL_SIZE", "0")
    monkeypatch.setenv("BROKER_URL_FILE", NOWHERE)

    said = refusal()

    for name in ("BILLING_LOG", "BILLING_DATABASE_POOL_SIZE", "BROKER_URL_FILE"):
        assert name in said


def test_nothing_that_is_set_shows_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in settings.SECRETS:
        monkeypatch.setenv(name, f"billing:{SECRET}")

    assert SECRET not in repr(settings.load())


@pytest.mark.parametrize(
    "url", [f"redis://:{SECRET}@host:six/0", SECRET, f"//:{SECRET}@host", f"redis://:{SECRET}[@h"]
)
@pytest.mark.parametrize("variable", ["BROKER_URL", "DATABASE_URL", "BILLING_RESULT_BACKEND"])
def test_a_url_that_can_not_be_read_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, variable: str, url: str
) -> None:
    monkeypatch.setenv(variable, url)

    said = refusal()

    assert said.startswith(variable)
    assert SECRET not in said


SECRET_VALUES = {
    "DATABASE_URL": "postgresql://u:p@db:5432/x",
    "BROKER_URL": "redis://:p@host:6379/0",
    "BILLING_RESULT_BACKEND": "redis://:p@host:6379/1",
    "BILLING_USAGE_STREAM_URL": "redis://:p@host:6379/2",
    "BILLING_MASTER_KEYS": new_master_key("k1"),
    "BILLING_TRIAL_PEPPERS": new_master_key("p1"),
    "BILLING_PROVIDER_KEY": "sk_live_12345",
    "BILLING_MESSAGE_KEYS": new_master_key("m1"),
    "FLOWER_BASIC_AUTH": "operator:secret",
}


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
@pytest.mark.parametrize("variable", settings.SECRETS)
def test_every_secret_may_stand_in_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, ending: str
) -> None:
    file = tmp_path / "secret"
    file.write_bytes(f"{SECRET_VALUES[variable]}{ending}".encode())
    monkeypatch.setenv(f"{variable}_FILE", str(file))
    monkeypatch.setenv(variable, "")  # as compose passes what is not set
    if variable == "BILLING_PROVIDER_KEY":
        monkeypatch.setenv("BILLING_PROVIDER", "stripe")

    chosen = settings.load()

    (field,) = (
        name
        for name, one in settings.Settings.model_fields.items()
        if one.validation_alias == variable
    )
    assert getattr(chosen, field).get_secret_value() == SECRET_VALUES[variable]
    assert field in chosen.model_fields_set
    chosen.require_usable()


@pytest.mark.parametrize("variable", settings.SECRETS)
def test_a_secret_given_twice_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    monkeypatch.setenv(variable, f"billing:{SECRET}")
    monkeypatch.setenv(f"{variable}_FILE", str(tmp_path / "secret"))

    assert refusal() == f"{variable} and {variable}_FILE are both set; keep one of them"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "can not be read: No such file or directory"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\xff\xfe", "is not text in UTF-8"),
        (b"x" * (secret_files.LONGEST + 1), "is longer than"),
    ],
)
def test_a_file_that_can_not_be_used_is_named_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, why: str
) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("BILLING_MASTER_KEYS_FILE", str(file))

    assert re.match(f"BILLING_MASTER_KEYS_FILE is {file}, which {why}", refusal())


def test_a_folder_is_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DATABASE_URL_FILE", str(tmp_path))

    assert refusal().endswith("can not be read: Is a directory")


def test_what_a_child_is_given_counts_whatever_file_its_parent_has(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BROKER_URL_FILE", str(tmp_path / "gone"))
    given = {"BROKER_URL": SECRET_VALUES["BROKER_URL"]}
    for name, value in {**given, **secret_files.not_from_files(given)}.items():
        monkeypatch.setenv(name, value)

    assert settings.load().broker() == given["BROKER_URL"]
