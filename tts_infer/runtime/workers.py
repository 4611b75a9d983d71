"""One scheduler for everything that computes on the CPU: workers with one thread each, which share whole parts.

torch's own threads share the work inside every operator, and wait for each other after each of them, some forty times a
decode. On a busy machine one of them is put aside by the system, and the others wait for it each time. Parts of a
signal wait for each other once. So a decode is cut into parts; a worker computes a part from beginning to end, with the
frames around it that its own frames depend on.

That costs some frames twice. So on an idle machine torch's own threads compute, which nobody puts aside then; a look
at the system's own count of work tells, twenty times a second at most.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar, cast

import torch

from tts_infer.locks import ProcessLock

T = TypeVar("T")
Fn = TypeVar("Fn", bound=Callable[..., Any])

# Frames of a part at most: longer parts need more memory, and the frames around a part weigh less than a tenth.
PART_FRAMES = 2048
# Cores that other processes use, from which on the machine counts as busy.
_BUSY_CORES = 0.25
_SAMPLE_S = 0.05

_setting_threads = ProcessLock()
_making = ProcessLock()
_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}  # by process and number of workers
_this_thread = threading.local()


@dataclass(frozen=True)
class Part:
    """Items of a batch, and frames of them."""

    items: slice
    start: int
    stop: int


def parts(batch: int, frames: int, context: int, workers: int, others: float = 0.0) -> list[Part]:
    """Cut a batch into parts for workers: along its items where it has several, else along time.

    Args:
        batch, frames: what is to be cut.
        context: frames on each side that are computed again for a part.
        workers: how many there are, one for each core.
        others: cores that other processes use.
    """
    if batch > 1 and frames <= PART_FRAMES:
        group = min(max(1, PART_FRAMES // max(1, frames)), math.ceil(batch / workers))
        starts = range(0, batch, group)
        return [Part(slice(first, min(batch, first + group)), 0, frames) for first in starts]
    sharing = min(range(1, workers + 1), key=lambda n: (frames + 2 * context * (n - 1)) / _cores(n, workers, others))
    count = math.ceil(max(1, frames / PART_FRAMES) / sharing) * sharing
    borders = [frames * i // count for i in range(count + 1)]
    cut = zip(borders, borders[1:], strict=False)  # noqa: RUF007
    pairs = [(start, stop) for start, stop in cut]
    return [Part(slice(item, item + 1), start, stop) for item in range(batch) for start, stop in pairs]


def _cores(threads: int, cores: int, others: float) -> float:
    """What so many threads get of the cores, if the system gives every thread on a full machine the same share."""
    return min(threads, cores * threads / (threads + others))


def count() -> int:
    """How many workers the caller has: as many as torch has threads for it. A worker itself has one."""
    return torch.get_num_threads()


def submit(task: Callable[[], T]) -> Future[T]:
    """Hand a task to the workers, and do not wait for it."""
    return _pool(count()).submit(task)


def run(tasks: Sequence[Callable[[], T]]) -> list[T]:
    """Run tasks on the workers, and give their results in order. The first error is raised when all have ended.

    A worker that calls this computes them itself: it must not wait for workers that may all wait as it does.
    """
    if getattr(_this_thread, "is_worker", False):
        return [task() for task in tasks]
    futures: list[Future[T]] = []
    try:
        futures += (submit(task) for task in tasks)
    except RuntimeError:  # the interpreter ends, while the thread that calls still computes: it does the rest itself
        rest = [task() for task in tasks[len(futures) :]]
        return [future.result() for future in futures] + rest
    for future in futures:
        future.exception()  # waits
    return [future.result() for future in futures]


def should_share() -> bool:
    """Whether workers should compute instead of torch's own threads: on a busy machine, if there are several."""
    return count() > 1 and _others.are_busy()


def alone(compute: Callable[[], T]) -> T:
    """Compute what is not cut: by one worker where `should_share` says so, else here, by torch's threads."""
    if not should_share():
        return compute()

    def task() -> T:
        with torch.inference_mode():
            return compute()

    (result,) = run([task])
    return result


def forkable(function: Fn) -> Fn:
    """Decorate a function that computes: in a forked child that asked torch for several threads, a worker runs it."""

    @wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        if not _is_forked or count() == 1:
            return function(*arguments, **named)
        (result,) = run([lambda: function(*arguments, **named)])
        return result

    return cast(Fn, call)


def is_disturbed() -> bool:
    """Whether other processes disturb a measurement of several threads now; False where the system does not tell.

    The first look takes a twentieth of a second.
    """
    if not should_share():
        return False
    if not _others.cores:  # not looked twice yet, or nothing is known
        time.sleep(_SAMPLE_S)
    return should_share() and _others.cores > _BUSY_CORES


def other_cores() -> float:
    """Cores that other processes use, as far as it is known."""
    return _others.cores


def _pool(workers: int) -> ThreadPoolExecutor:
    key = os.getpid(), workers  # a forked child has none of its parent's threads
    with _making:
        if key not in _pools:
            _pools[key] = _started_pool(workers)
        return _pools[key]


def _started_pool(workers: int) -> ThreadPoolExecutor:
    """A pool whose threads all run already.

    The main thread may be interrupted by an exception at any time, as by Ctrl-C. If that came while it started a thread
    of a pool, the interpreter would wait for the thread at its end, without end. So another thread starts them.
    """
    pool = ThreadPoolExecutor(workers, "tts-infer", initializer=_begin)
    together = threading.Barrier(workers)  # no task ends before every thread has one

    def start() -> None:
        try:
            for _ in range(workers):
                pool.submit(together.wait)
        except RuntimeError:  # the interpreter ends already
            together.abort()

    starter = threading.Thread(target=start, daemon=True)
    starter.start()
    starter.join()
    return pool


def _begin() -> None:
    _this_thread.is_worker = True
    with suppress(RuntimeError):  # the interpreter ends already, and starts no thread
        use_one_thread()


def use_one_thread() -> None:
    """Set torch to one thread in the calling thread, and in no other.

    `torch.set_num_threads` sets the calling thread, and the default of every thread that has not asked yet. A thread
    takes the default when it first asks, and keeps it. So this thread asks while the default is 1, and another thread
    sets the default back.
    """
    with _setting_threads, ThreadPoolExecutor(1) as other:
        default = other.submit(torch.get_num_threads).result()
        torch.set_num_threads(1)
        torch.get_num_threads()
        other.submit(torch.set_num_threads, default).result()


def survive_fork() -> None:
    """Let forked children compute: torch's threads do not exist in them, and to wait for them would be endless.

    A child has one torch thread. If it asks torch for more, a worker of its own computes, see `forkable`.
    """
    global _fork_is_safe
    with _making:
        if not _fork_is_safe and hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_in_child)
        _fork_is_safe = True


_fork_is_safe = False
_is_forked = False


def _in_child() -> None:
    global _is_forked
    _is_forked = True
    torch.set_num_threads(1)


class _Others:
    """How many cores other processes use, by the system's own count since the last look."""

    def __init__(self) -> None:
        self._last: tuple[float, float, float] | None = None  # time, all processes, this one; in seconds
        self._busy = True  # until it is known: what holds on a busy machine is never far off
        self.cores = 0.0

    def are_busy(self) -> bool:
        now = time.perf_counter()
        if self._last is None or now - self._last[0] >= _SAMPLE_S:
            seen = _cpu_seconds()
            if seen is None:  # no Linux: it is never known
                return True
            own = time.process_time()
            if self._last is not None:
                then, all_then, own_then = self._last
                self.cores = max(0.0, (seen - all_then) - (own - own_then)) / (now - then)
                self._busy = self.cores > _BUSY_CORES
            self._last = now, seen, own
        return self._busy


_others = _Others()


def _cpu_seconds() -> float | None:
    """Seconds that all cores have worked since the system began, or were taken by its host."""
    with suppress(OSError, ValueError):
        with open("/proc/stat", encoding="ascii") as file:
            user, nice, system, _, _, irq, softirq, steal = map(int, file.readline().split()[1:9])
        return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return None
