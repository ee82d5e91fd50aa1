"""Whether this worker is going down: said once by its parent process, seen by every child."""

import mmap

# A shared page rather than a lock: a signal handler may write it, and a child killed while it
# reads leaves nothing locked.
_page = mmap.mmap(-1, 1)


def begin() -> None:
    """Say that this worker is going down. Its children, forked before or after, see it."""
    _page[0] = 1


def has_begun() -> bool:
    """Tell whether to take no new work and to end soon."""
    return _page[0] == 1
