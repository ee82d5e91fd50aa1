"""What a command says when it can not do what was asked, and its exit status."""

from typing import Any

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from models import failures, migrations
from models.rules.refusal import Refusal
from tasks.message_faults import InvalidMessage
from worker import boot, local, processes, settings, stack

EXIT_REFUSED = 1
"""Exit status when what was asked for is refused."""

EXIT_UNUSABLE = 2
"""Exit status when things are not as they must be."""

EXPECTED = (
    settings.InvalidSettings,
    local.AlreadyRunning,
    migrations.Blocked,
    local.NoSafeFolder,
    local.NotInstalled,
    local.ServerFailed,
    boot.DatabaseAhead,
    boot.DatabaseBehind,
    boot.DatabaseUnreachable,
    processes.ChildFailed,
    stack.PortTaken,
)
"""What people can mend; each says how."""


def explained(error: Exception) -> tuple[str, int] | None:
    """Return an error in one line, and the exit status; None for a fault of the program."""
    if isinstance(error, InvalidMessage):
        said = "; ".join(map(_fault, error.errors)) or error.message
        return f"{said} [{error.code}]", EXIT_REFUSED
    if isinstance(error, Refusal):
        return f"{error.message} [{error.code}]", EXIT_REFUSED
    if isinstance(error, EXPECTED):
        return str(error), EXIT_UNUSABLE
    if isinstance(error, OperationalError | RedisError):
        return f"the broker can not be reached: {error}", EXIT_UNUSABLE
    if failures.is_unreachable(error):
        return f"the database can not be reached: {failures.reason(error)}", EXIT_UNUSABLE
    return None


def _fault(error: dict[str, Any]) -> str:
    """What is wrong with one argument: its name, its value where it is short, and the reason."""
    named = " ".join(str(error[part]) for part in ("field", "value") if error.get(part))
    return f"{named}: {error['reason']}"
