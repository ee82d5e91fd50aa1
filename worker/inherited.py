"""What a process of the pool has of its parent's connections: nothing."""

import os
import socket
import stat
from pathlib import Path
from typing import Final

DESCRIPTORS: Final = Path("/dev/fd")


def let_go() -> None:
    """Put nothing in the place of each connection that was open when this process was forked.

    One that replaces a dead process is forked from a parent that talks to the broker, and would
    keep its connections open when it is killed: Redis would go on giving messages to nobody. The
    numbers stay taken, so that whoever still closes such a connection closes nothing of ours.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    try:
        for number in [int(one.name) for one in DESCRIPTORS.iterdir()]:
            if _is_connection(number):
                os.dup2(nothing, number, inheritable=False)
    finally:
        os.close(nothing)


def _is_connection(number: int) -> bool:
    """Whether it is a socket whose other end has an address; the pool's own pipes have none."""
    try:
        if not stat.S_ISSOCK(os.fstat(number).st_mode):
            return False
        with socket.socket(fileno=os.dup(number)) as one:
            return bool(one.getpeername())
    except OSError:
        return False  # of this listing itself, or a socket that is not connected
