"""Who may import whom: the contracts in pyproject.toml."""

from pathlib import Path

from importlinter import cli


def test_the_import_contracts_hold(checkout: Path) -> None:
    broken = cli.lint_imports(config_filename=str(checkout / "pyproject.toml"), no_cache=True)

    assert broken == cli.EXIT_STATUS_SUCCESS
