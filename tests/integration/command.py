"""Runs the `billing` command in this process."""

import io
from dataclasses import dataclass

import pytest
from typer.main import get_command

import worker.cli

BUILT = get_command(worker.cli.app)
"""All commands, built once: `worker.cli.app()` builds them anew each time that it is called."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str


class Command:
    """The `billing` command with an environment of its own."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        database_url: str,
    ) -> None:
        """Let it find nothing but this database."""
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        monkeypatch.setenv("DATABASE_URL", database_url)
        monkeypatch.delenv("BROKER_URL", raising=False)
        # Wide enough that no word of a message is cut in two.
        monkeypatch.setenv("COLUMNS", "300")
        monkeypatch.setenv("TERMINAL_WIDTH", "300")

    def __call__(self, *words: str, stdin: bytes = b"") -> Ended:
        """Run it with these words."""
        given = io.TextIOWrapper(io.BufferedReader(io.BytesIO(stdin)))
        self._monkeypatch.setattr("sys.stdin", given)
        self._monkeypatch.setattr("sys.argv", ["billing", *words])
        self._monkeypatch.setattr(worker.cli, "app", lambda: BUILT(prog_name="billing"))
        with pytest.raises(SystemExit) as ended:
            worker.cli.main()
        said = self._capsys.readouterr()
        code = ended.value.code
        return Ended(code if isinstance(code, int) else 0, said.out, said.err)
