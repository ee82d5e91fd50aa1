"""The base of every expected refusal: an error with a stable code and the field it is about."""

from typing import ClassVar


class Refusal(Exception):
    """A command that can not be carried out as it was asked, and would not be by trying again.

    Args:
        message: what was wrong, with which value, and what would be right.
        field: the argument it is about, if it is about one.
    """

    code: ClassVar[str] = "refused"

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field

    @property
    def message(self) -> str:
        """What was wrong, in one sentence."""
        return str(self.args[0])
