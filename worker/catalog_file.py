"""A catalogue as a YAML or JSON file. Numbers are read as they are written, never as floats."""

import json
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any, Final, Literal

import yaml

Format = Literal["yaml", "json"]

LARGEST: Final = 32 * 1024 * 1024
"""Bytes of a file."""


class UnreadableCatalog(ValueError):
    """A file is no catalogue: what is wrong, and where."""


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core schema: `no` is a word, and what is no whole number stays text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Make a mapping; a key that is there twice is a mistake, not a choice."""
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(
                None, None, f"{twice!r} is there twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


# Of its own, or the resolvers of YAML 1.1 would be asked too.
_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    # With a zero in front it is a word, such as a key; the base class would read it as octal.
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first)
    )


def read(text: str, format_: Format) -> dict[str, Any]:
    """Return the document in a text.

    Raises:
        UnreadableCatalog: it is not YAML or JSON, or not a mapping of sections.
    """
    try:
        if format_ == "json":
            found = json.loads(text, parse_float=str, parse_constant=_refuse)
        else:
            found = yaml.load(text, _Loader)  # noqa: S506 (a SafeLoader)
    except (yaml.YAMLError, ValueError) as error:
        raise UnreadableCatalog(" ".join(str(error).split())) from None
    if not isinstance(found, dict):
        raise UnreadableCatalog("must be a mapping of sections, such as products and plans")
    return found


def write(document: dict[str, Any], format_: Format) -> str:
    """Return a document as text that `read` reads."""
    if format_ == "json":
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)


def format_of(path: Path) -> Format:
    """Return how a file is written, by its name: JSON if it says so, else YAML."""
    return "json" if path.suffix.lower() == ".json" else "yaml"


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number that could be charged")
