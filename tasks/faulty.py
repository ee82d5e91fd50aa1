"""A chunk of work that fails because of a member is done again, one member at a time."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from models import failures

Answer = TypeVar("Answer")


class Faulty(Exception):
    """A chunk could not be worked off, because of at least one of its members."""

    def __init__(self, members: Sequence[Any]) -> None:
        super().__init__(f"{len(members)} could not be worked off together")
        self.members = members


def guarded(work: Callable[[], Answer], members: Sequence[Any]) -> Answer:
    """Do the work of a chunk.

    Raises:
        Faulty: it failed, and the database is not to blame; what went wrong is its cause.
    """
    try:
        return work()
    except Exception as error:
        if failures.is_retryable(error) or failures.is_unreachable(error):
            raise
        raise Faulty(members) from error
