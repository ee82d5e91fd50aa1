"""Who may import whom: the contracts in pyproject.toml."""

import subprocess
import sys
from pathlib import Path


def test_the_import_contracts_hold(checkout: Path) -> None:
    # A process of its own: the linter's command configures logging and switches off our loggers.
    lint = "import sys; from importlinter import cli; sys.exit(cli.lint_imports(no_cache=True))"
    done = subprocess.run(
        [sys.executable, "-c", lint], cwd=checkout, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout
