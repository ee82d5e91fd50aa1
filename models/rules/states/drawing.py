"""The text of docs/states.md: each life cycle as a diagram and two tables."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from models.rules.states.machine import Machine


def to_markdown(machines: Sequence[Machine]) -> str:
    """Return the text of docs/states.md: a diagram and two tables for each machine."""
    return "\n".join([_HEADING, *(_section(machine) for machine in machines)])


_HEADING: Final = """\
# States

Drawn from `models/rules/states`; a test keeps them equal. A row moves along an arrow or not at
all: each move names the state it leaves and changes nothing when the row is no longer in it.
"""


def _section(machine: Machine) -> str:
    return "\n".join(
        [
            f"## {machine.name}",
            "",
            "```mermaid",
            "stateDiagram-v2",
            *(f"    {line}" for line in _arrows(machine)),
            "```",
            "",
            "| state | meaning |",
            "|---|---|",
            *(f"| `{state}` | {machine.meaning[state]} |" for state in machine.states),
            "",
            "| from | event | to |",
            "|---|---|---|",
            *(
                f"| `{source}` | {event} | `{target}` |"
                for source, event, target in _moves(machine)
            ),
            "",
        ]
    )


def _arrows(machine: Machine) -> list[str]:
    return [
        f"[*] --> {machine.initial}",
        *(f"{source} --> {target}: {event}" for source, event, target in _moves(machine)),
        *(f"{state} --> [*]" for state in machine.states if state in machine.terminal),
    ]


def _moves(machine: Machine) -> list[tuple[StrEnum, str, StrEnum]]:
    return [
        (source, event, target)
        for source in machine.states
        for event, target in machine.transitions[source].items()
    ]
