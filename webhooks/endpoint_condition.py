"""How an endpoint is doing, as it is remembered: its circuit and its run of failures."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum, unique
from typing import Any, Final

PROBE_DELAY_FIRST: Final = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Bucket:
    """Attempts that ended in one stretch of 30 s; `slot` counts those stretches from 1970."""

    slot: int
    attempts: int
    failures: int


@dataclass(frozen=True, slots=True)
class Circuit:
    """The circuit of one endpoint. A fresh one is closed."""

    consecutive_failures: int = 0
    window: tuple[Bucket, ...] = ()
    probe_at: datetime | None = None
    """While open: when the next attempt may go as a probe."""
    probe_delay: timedelta = PROBE_DELAY_FIRST

    @property
    def is_open(self) -> bool:
        """Whether ordinary attempts are deferred."""
        return self.probe_at is not None


@unique
class Notice(StrEnum):
    """What is told of an endpoint, each once in a run of failures."""

    OPENED = "opened"
    FAILING_24H = "failing_24h"
    FAILING_72H = "failing_72h"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class Trouble:
    """A run of failures without a success between them. A fresh one has not begun."""

    began_at: datetime | None = None
    failures: int = 0
    events: tuple[str, ...] = ()
    """Distinct events among them, as many as the disable rule asks for."""
    told: frozenset[Notice] = frozenset()


@dataclass(frozen=True, slots=True)
class Condition:
    """All that the rules know of one endpoint. A fresh one is well."""

    circuit: Circuit = field(default_factory=Circuit)
    trouble: Trouble = field(default_factory=Trouble)
    opening_told_at: datetime | None = None

    def to_dict(self) -> dict[str, Any]:
        """The condition as JSON-ready values; `from_dict` reads it. A fresh one is empty."""
        circuit, trouble = self.circuit, self.trouble
        every = {
            "consecutive_failures": circuit.consecutive_failures,
            "window": [[b.slot, b.attempts, b.failures] for b in circuit.window],
            "probe_at": _text(circuit.probe_at),
            "probe_delay_seconds": circuit.is_open and int(circuit.probe_delay.total_seconds()),
            "failing_from": _text(trouble.began_at),
            "failures": trouble.failures,
            "events": list(trouble.events),
            "told": sorted(trouble.told),
            "opening_told_at": _text(self.opening_told_at),
        }
        return {name: value for name, value in every.items() if value}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> "Condition":
        """The condition again; an empty mapping is a fresh one."""
        return cls(
            Circuit(
                consecutive_failures=state.get("consecutive_failures", 0),
                window=tuple(Bucket(*bucket) for bucket in state.get("window", ())),
                probe_at=_instant(state.get("probe_at")),
                probe_delay=timedelta(
                    seconds=state.get("probe_delay_seconds", PROBE_DELAY_FIRST.total_seconds())
                ),
            ),
            Trouble(
                began_at=_instant(state.get("failing_from")),
                failures=state.get("failures", 0),
                events=tuple(state.get("events", ())),
                told=frozenset(Notice(notice) for notice in state.get("told", ())),
            ),
            _instant(state.get("opening_told_at")),
        )


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat()


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
