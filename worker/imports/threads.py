"""What suits a thread that reads rows beside one that records them."""

import contextlib
import gc
import sys
from collections.abc import Iterator
from typing import Final

OBJECTS_UNSEARCHED: Final = 50_000
"""New objects after which Python looks for garbage; by default that is 700."""

SWITCH_SECONDS: Final = 0.0005
"""How long one thread may keep the other waiting for Python; by default that is 5 ms."""


@contextlib.contextmanager
def tuned() -> Iterator[None]:
    """Let this process run both of them well while the block does."""
    threshold, interval = gc.get_threshold(), sys.getswitchinterval()
    # Rows form no cycles. To look for some among the ten thousands that are held cost half as much
    # as to read and record them.
    gc.set_threshold(OBJECTS_UNSEARCHED, *threshold[1:])
    # When PostgreSQL has answered, the thread that records goes on at once.
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        yield
    finally:
        gc.set_threshold(*threshold)
        sys.setswitchinterval(interval)
