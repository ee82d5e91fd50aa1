"""Where commands write what is more than an answer: a file, or standard output."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TextIO

import typer

STDOUT: Final = Path("-")


def is_stdout(path: Path | None) -> bool:
    """Tell whether nothing else than standard output is named: by "-", or by nothing."""
    return path is None or path == STDOUT


@contextmanager
def text(path: Path | None, *, option: str = "FILE") -> Iterator[TextIO]:
    """Give what text is written to, in UTF-8 and with the ends of lines that it has.

    Raises:
        BadParameter: the file can not be written; `option` is what named it.
    """
    if path is None or is_stdout(path):
        yield sys.stdout
        return
    with _refusing(path, option):
        file = path.open("w", encoding="utf-8", newline="")
    with file:
        yield file


def write(path: Path, content: bytes, *, option: str = "FILE") -> None:
    """Write bytes. Raises as `text` does."""
    if is_stdout(path):
        sys.stdout.buffer.write(content)
        return
    with _refusing(path, option):
        path.write_bytes(content)


@contextmanager
def _refusing(path: Path, option: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}", param_hint=option) from None
