"""Secrets in files, as Docker, Kubernetes and systemd hand them over: named by VARIABLE_FILE."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from pydantic import SecretStr

LONGEST: Final = 65_536
"""Characters of a secret; a device that never ends is not read to its end."""

SUFFIX: Final = "_FILE"


class InvalidSecretFile(ValueError):
    """A secret's file can not be used. The message names variable and path, never the content."""


def read(
    variables: Iterable[str], environment: Mapping[str, str]
) -> tuple[dict[str, SecretStr], list[str]]:
    """Return the secrets that stand in files, by variable, and what is wrong with the others.

    Args:
        variables: of secrets, each of which may have a twin that ends in _FILE. An empty variable
            is one that is not set.
    """
    found: dict[str, SecretStr] = {}
    faults: list[str] = []
    for variable in variables:
        path = environment.get(f"{variable}{SUFFIX}")
        if not path:
            continue
        if environment.get(variable):
            faults.append(f"{variable} and {variable}{SUFFIX} are both set; keep one of them")
            continue
        try:
            found[variable] = SecretStr(_content(Path(path)))
        except InvalidSecretFile as error:
            faults.append(f"{variable}{SUFFIX} is {path}, which {error}")
    return found, faults


def not_from_files(variables: Iterable[str]) -> dict[str, str]:
    """Return what a child's environment needs so that the variables it is given count alone."""
    return {f"{variable}{SUFFIX}": "" for variable in variables}


def _content(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(LONGEST + 1)
    except OSError as error:
        raise InvalidSecretFile(f"can not be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidSecretFile("is not text in UTF-8") from None
    if len(text) > LONGEST:
        raise InvalidSecretFile(f"is longer than {LONGEST:,} characters")
    # Editors and `echo` end a file with a newline, which is no part of any secret.
    text = text.rstrip("\r\n")
    if not text:
        raise InvalidSecretFile("is empty")
    return text
