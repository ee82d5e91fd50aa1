"""Where commands write what is more than an answer: a file, or standard output."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, TextIO

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
    with _opened(path, "w", option, encoding="utf-8", newline="") as file:
        yield file


def write(path: Path, content: bytes, *, option: str = "FILE") -> None:
    """Write bytes. Raises as `text` does."""
    if is_stdout(path):
        sys.stdout.buffer.write(content)
        return
    with _opened(path, "wb", option) as file:
        file.write(content)


def _opened(path: Path, mode: str, option: str, **how: str) -> IO[Any]:
    try:
        return path.open(mode, **how)  # type: ignore[call-overload, no-any-return]
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}", param_hint=option) from None
