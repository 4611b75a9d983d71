"""How many answers are computed at once, how many wait, and when who is refused should come again."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tts_infer.errors import InputError

_WEIGHT = 0.2  # of the newest answer in the mean


class Admission:
    """A queue with an end. The answers that are computed at once take turns at the workers, piece by piece.

    Args:
        streams: answers that are computed at once.
        queue: requests that may wait for that.
    """

    def __init__(self, streams: int, queue: int) -> None:
        self._streams, self._queue = streams, queue
        self._places = asyncio.Semaphore(streams)
        self._mean_s = 1.0
        self.active = self.waiting = 0

    @property
    def retry_after_s(self) -> int:
        """Seconds until a request that comes now would likely be admitted: by the answers so far, 1 or more."""
        return max(1, math.ceil(self._mean_s * (self.waiting + 1) / self._streams))

    def require_room(self) -> None:
        """Refuse a request for which there is no place to wait, best before its body is read.

        Raises:
            InputError: too many wait.
        """
        if self._places.locked() and self.waiting >= self._queue:
            text = "{active} answers are computed, {waiting} requests wait, no more may; try again in {seconds} s"
            wait_s = self.retry_after_s
            raise InputError(text, code="server-busy", active=self.active, waiting=self.waiting, seconds=wait_s)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A place among the answers that are computed: at once, or after who waits already.

        Raises:
            InputError: too many wait.
        """
        self.require_room()
        self.waiting += 1
        try:
            await self._places.acquire()
        finally:
            self.waiting -= 1
        self.active += 1
        start = time.perf_counter()
        try:
            yield
        finally:
            self.active -= 1
            self._mean_s += _WEIGHT * (time.perf_counter() - start - self._mean_s)
            self._places.release()
