"""The base of every expected refusal: an error with a stable code and the field it is about."""

from typing import ClassVar


class Refusal(Exception):
    """A command that can not be carried out as it was asked, and would not be by trying again.

    Its `args` are message, code and field: what a result backend keeps of an error, so that callers
    in any language get the code, and from which it makes the error again.

    Args:
        message: what was wrong, with which value, and what would be right.
        code: not given by who raises it; a class has its own.
        field: the argument it is about, if it is about one.
    """

    code: ClassVar[str] = "refused"

    def __init__(self, message: str, code: str | None = None, field: str | None = None) -> None:
        super().__init__(message, code or self.code, field)

    def __str__(self) -> str:
        """What was wrong, in one sentence."""
        return self.message

    @property
    def message(self) -> str:
        """What was wrong, in one sentence."""
        return str(self.args[0])

    @property
    def field(self) -> str | None:
        """The argument it is about."""
        field: str | None = self.args[2]
        return field
