"""The published documents by the judgement of validators that are not ours."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.processes import SECONDS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("node") is None or shutil.which("npm") is None,
        reason="node or npm is not here",
    ),
]

PACKAGES = ("ajv@8", "ajv-formats@3", "@asyncapi/specs@6")


def run(folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=SECONDS
    )


def test_schemas_examples_and_the_asyncapi_document_are_sound(
    checkout: Path, tmp_path: Path
) -> None:
    installed = run(tmp_path, "npm", "install", "--no-audit", "--no-fund", *PACKAGES)
    if installed.returncode != 0:
        pytest.skip(f"npm install failed: {(installed.stderr.splitlines() or ['?'])[-1]}")
    shutil.copy(checkout / "tests/acceptance/validate.mjs", tmp_path)

    judged = run(tmp_path, "node", "validate.mjs", str(checkout / "schemas"))

    assert judged.returncode == 0, judged.stderr
    assert json.loads(judged.stdout) == []
