"""Life cycles of what operators look after: refused messages and archived usage."""

from enum import StrEnum
from typing import Final

from models.rules.states.machine import Machine


class RejectedState(StrEnum):
    """Life of a refused message that waits for an operator."""

    open = "open"
    replayed = "replayed"
    discarded = "discarded"


REJECTED: Final = Machine(
    name="Rejected message",
    states=RejectedState,
    initial=RejectedState.open,
    transitions={
        RejectedState.open: {
            "replay": RejectedState.replayed,
            "discard": RejectedState.discarded,
        },
        RejectedState.replayed: {},
        RejectedState.discarded: {},
    },
    meaning={
        RejectedState.open: "Refused with a reason and kept whole; an operator mends and replays "
        "it, or discards it.",
        RejectedState.replayed: "Sent again, mended or not, and taken; a replay that is refused "
        "leaves it open.",
        RejectedState.discarded: "An operator decided that it is not wanted; nothing follows.",
    },
)


class ArchiveState(StrEnum):
    """Life of archived usage: a file, and the events it takes the place of."""

    due = "due"
    written = "written"
    verified = "verified"
    purged = "purged"
    forgotten = "forgotten"


ARCHIVE: Final = Machine(
    name="Archive of usage",
    states=ArchiveState,
    initial=ArchiveState.due,
    transitions={
        ArchiveState.due: {"write": ArchiveState.written},
        ArchiveState.written: {
            "verify": ArchiveState.verified,
            "write_again": ArchiveState.due,
        },
        ArchiveState.verified: {"purge": ArchiveState.purged},
        ArchiveState.purged: {"forget": ArchiveState.forgotten},
        ArchiveState.forgotten: {},
    },
    meaning={
        ArchiveState.due: "Its month is closed and its events are still to be written to a file.",
        ArchiveState.written: "The file is on disk; it is read back and compared with the events, "
        "and one that differs stays here until an operator has it written again.",
        ArchiveState.verified: "Every event was found in the file and its key is remembered; the "
        "events are purged next.",
        ArchiveState.purged: "The events are gone, the file and their keys are kept: an event that "
        "is sent again is known until the keys are forgotten.",
        ArchiveState.forgotten: "The keys are gone too; usage of its month is refused for ever, "
        "the file stays.",
    },
)
