"""Locks of one process. What `threading` offers stays taken in a forked child if a thread of its parent had it."""

from __future__ import annotations

import os
import threading
from types import TracebackType


class ProcessLock:
    """As `threading.Lock`, but a forked child has one of its own, which is free. Who holds it must not fork."""

    def __init__(self) -> None:
        self._locks: dict[int, threading.Lock] = {}  # by process

    def acquire(self, blocking: bool = True) -> bool:
        """Take it; without `blocking` only if it is free. Whether it was taken."""
        return self._own.acquire(blocking)

    def release(self) -> None:
        self._own.release()

    @property
    def was_taken(self) -> bool:
        """Whether a thread of the parent had it at the fork. What it guards may be half done in this process."""
        return any(lock.locked() for process, lock in list(self._locks.items()) if process != os.getpid())

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()

    @property
    def _own(self) -> threading.Lock:
        return self._locks.setdefault(os.getpid(), threading.Lock())
