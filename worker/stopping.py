"""When to stop: the signals that say so, as an event."""

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def until_told_to_stop() -> Iterator[threading.Event]:
    """Turn Ctrl-C, SIGTERM and a closed terminal into an event; a second one changes nothing.

    Inside the block no KeyboardInterrupt is raised, so that stopping is never cut short.
    """
    over = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: over.set()) for number in numbers}
    try:
        yield over
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
