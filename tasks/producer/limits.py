"""How events are gathered, and how many may wait."""

from dataclasses import dataclass

from tasks.producer import line


@dataclass(frozen=True, slots=True)
class Limits:
    """How events are gathered. A chunk is sent when the first of its three limits is reached.

    Args:
        chunk_events: events of a chunk, 1 to 10,000.
        chunk_seconds: age of the oldest event of a chunk, more than 0.
        chunk_bytes: bytes of a chunk's JSON; one event may have more.
        pending_bytes: bytes of all events without an answer, in memory or (with a spill) on disk.
        in_flight: chunks that are on their way at the same time, 1 to 100.
        answer_seconds: how long to wait for a chunk's answer before it is sent again; doubled each
            time. Longer than the queue usually is: sending twice is harmless, not free.
    """

    chunk_events: int = 1_000
    chunk_seconds: float = 1.0
    chunk_bytes: int = 1024 * 1024
    pending_bytes: int = 64 * 1024 * 1024
    in_flight: int = 8
    answer_seconds: float = 30.0

    def __post_init__(self) -> None:
        """Refuse what could not work. Raises ValueError."""
        for name, least, most in (
            ("chunk_events", 1, 10_000),
            ("chunk_seconds", 0.001, 3_600),
            ("chunk_bytes", 1, 32 * 1024 * 1024),
            ("pending_bytes", line.LONGEST_LINE, 2**50),
            ("in_flight", 1, 100),
            ("answer_seconds", 0.1, 3_600),
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                raise ValueError(f"{name} is {value}; it must be {least} to {most}")
