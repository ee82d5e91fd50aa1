"""What an error of the database means: try again, wait, or somebody's mistake."""

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, OperationalError

RETRYABLE_SQLSTATES = frozenset({"40001", "40P01", "55P03"})
"""Serialization failure, deadlock, and a lock that did not come free in time: the transaction did
nothing and may run again."""

CHECK_VIOLATION = "23514"
LOCK_NOT_AVAILABLE = "55P03"
INSUFFICIENT_PRIVILEGE = "42501"

CUT_SHORT_SQLSTATES = frozenset({"57014", LOCK_NOT_AVAILABLE})
"""A statement was cancelled, by its time limit or by hand; a lock was waited for long enough."""

UNREACHABLE_SQLSTATES = frozenset({"57P01", "57P02", "57P03", "08000", "08003", "08006", "53300"})
"""The server went away, is starting, or has no slot left: the same call may work in a moment."""


def is_retryable(error: BaseException) -> bool:
    """Tell whether PostgreSQL undid a transaction that may simply be run again."""
    if not isinstance(error, DBAPIError):
        return False
    return _sqlstate(error) in RETRYABLE_SQLSTATES or _is_moved_partition(error)


def is_unreachable(error: BaseException) -> bool:
    """Tell whether the database could not be reached, or went away in mid-transaction."""
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated or _sqlstate(error) in UNREACHABLE_SQLSTATES:
        return True
    # psycopg has no SQLSTATE for a connection that could not be made at all.
    return isinstance(error, OperationalError) and _sqlstate(error) is None


def is_lock_timeout(error: BaseException) -> bool:
    """Tell whether a lock could not be had within the time that was set for it."""
    return isinstance(error, DBAPIError) and _sqlstate(error) == LOCK_NOT_AVAILABLE


def is_cut_short(error: BaseException) -> bool:
    """Tell whether PostgreSQL gave up: a statement took too long, or a lock did not come free."""
    return isinstance(error, DBAPIError) and _sqlstate(error) in CUT_SHORT_SQLSTATES


def is_forbidden(error: BaseException) -> bool:
    """Tell whether the database's role may not do what was asked."""
    return isinstance(error, DBAPIError) and _sqlstate(error) == INSUFFICIENT_PRIVILEGE


def is_refused_value(error: BaseException) -> bool:
    """Tell whether PostgreSQL refused what it was given, and would refuse it again."""
    return isinstance(error, DataError | IntegrityError)


def reason(error: BaseException) -> str:
    """Return in one line why the database could not be reached, without statement or password."""
    cause = getattr(error, "orig", None) or error
    return (str(cause).splitlines() or [type(cause).__name__])[0]


def _is_moved_partition(error: DBAPIError) -> bool:
    # A row was on its way into the default partition when its day got one of its own: the check
    # that fails then, unlike those we wrote, has no name. The next try goes to the right place.
    diagnosis = getattr(error.orig, "diag", None)
    unnamed = diagnosis is not None and diagnosis.constraint_name is None
    return unnamed and _sqlstate(error) == CHECK_VIOLATION


def _sqlstate(error: DBAPIError) -> str | None:
    state = getattr(error.orig, "sqlstate", None)
    return state if isinstance(state, str) else None
