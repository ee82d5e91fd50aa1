"""What a life cycle is: states, what each means, and which event leads from which to which."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Machine:
    """A life cycle: where it starts, what each state means, and which event leads where.

    Every state is a key of `transitions` and of `meaning`; a terminal one has no events.
    """

    name: str
    states: type[StrEnum]
    initial: StrEnum
    transitions: Mapping[StrEnum, Mapping[str, StrEnum]]
    meaning: Mapping[StrEnum, str]

    @property
    def terminal(self) -> frozenset[StrEnum]:
        """The states that nothing leaves."""
        return frozenset(state for state, events in self.transitions.items() if not events)
