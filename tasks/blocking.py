"""Tasks called from an event loop, which they must not block: in a thread, and never half done."""

import asyncio
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


async def begin(work: Callable[[], T], *, undo: Callable[[T], object]) -> T:
    """Run `work` in a thread and return what it returns.

    A thread can not be stopped: if the caller is cancelled meanwhile, what was done is undone.
    """
    handover = _Handover[T]()

    def run() -> T:
        done = work()
        if not handover.offer(done):
            undo(done)
        return done

    try:
        return await asyncio.to_thread(run)
    except asyncio.CancelledError:
        for done in handover.refuse():
            asyncio.get_running_loop().run_in_executor(None, undo, done)
        raise


async def finish(work: Callable[[], T]) -> T:
    """Run `work` in a thread to its end, also if the caller is cancelled meanwhile."""
    return await asyncio.shield(asyncio.ensure_future(asyncio.to_thread(work)))


class _Handover(Generic[T]):
    """What a thread has done is either taken by its caller or undone, by exactly one of the two."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_refused = False
        self._offered: list[T] = []

    def offer(self, done: T) -> bool:
        """Tell, in the thread, whether the caller may still take it."""
        with self._lock:
            self._offered = [done]
            return not self._is_refused

    def refuse(self) -> list[T]:
        """Take nothing from here on; return what was offered before, to be undone."""
        with self._lock:
            self._is_refused = True
            return self._offered
