"""Importing many modules at once."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Import in this block, and Python does not look for dead objects meanwhile.

    Nearly all that modules make lives as long as the process: to search it, again and again while
    it grows, took a fifth of each start. It is not searched later either.
    """
    searching = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if searching:
            gc.enable()
