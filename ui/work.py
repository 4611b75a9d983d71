"""What computes: jobs that take turns piece by piece, so that short ones pass between the pieces of long ones.

A job belongs to the visitor who started it. It ends between two pieces when it is told to stop: by a click on Cancel,
by a second press of its button, or because its page was closed.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager as Context
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import gradio as gr

import tts_infer

What = Literal["preparing", "decoding", "speaking", "files", "comparing", "measuring", "examining"]  # keys of texts
Turn = Callable[[], Context[None]]  # one piece of work is done inside of it
# Work is cut into pieces of about this length: a person who cancels does not notice, and overhead is a few percent.
PIECE_S = 0.12
# So long may one job compute. The longest inputs that the page takes need less with any vocoder.
MOST_SPENT_S = 900.0


def no_turn() -> Context[None]:
    """The turn of who need not share."""
    return nullcontext()


class Stopped(tts_infer.InputError):
    """A job was told to stop."""

    def __init__(self) -> None:
        super().__init__("This was cancelled.", code="page-stopped")

    def within(self, where: object) -> Stopped:
        """The whole job was stopped, whatever part of it ran."""
        return self

    def naming(self, names: Mapping[str, str]) -> Stopped:
        return self


@dataclass(eq=False)
class Job:
    """Something that computes for one visitor.

    Attributes:
        session: the visitor's page; None: of a program without one
        what: what it does
        total, done: seconds of audio, or files
        spent_s: for how long it has computed
        began: when it was asked for, on the monotonic clock
        stopped: it ends before its next piece
    """

    session: str | None
    what: What = "preparing"
    total: float = 0.0
    done: float = 0.0
    spent_s: float = 0.0
    began: float = 0.0
    stopped: bool = False

    def advance(self, amount: float) -> None:
        """Say that so much more is done."""
        self.done += amount


class Desk:
    """Gives one job at a time its turn: the one that has computed least so far."""

    def __init__(self) -> None:
        self._free = threading.Condition()
        self._jobs: list[Job] = []
        self._waiting: list[Job] = []
        self._busy: Job | None = None
        self._readers: Counter[str] = Counter()  # by session

    @contextmanager
    def reading(self, session: str) -> Iterator[None]:
        """While the answers of a page or program are read. When nobody reads them any more, its jobs are stopped."""
        with self._free:
            self._readers[session] += 1
        try:
            yield
        finally:
            with self._free:
                self._readers[session] -= 1
                if not self._readers[session]:
                    del self._readers[session]
            if not self.is_read(session):
                self.stop(session)

    def is_idle(self) -> bool:
        """Whether there are no jobs."""
        return not self._jobs

    def is_read(self, session: str | None) -> bool:
        """Whether somebody reads the answers of a page or program."""
        return session in self._readers

    @contextmanager
    def job(self, request: gr.Request | None) -> Iterator[Job]:
        """A job while it is at work."""
        job = Job(request.session_hash if request else None, began=time.monotonic())
        with self._free:
            self._jobs.append(job)
        try:
            yield job
        finally:
            with self._free:
                self._jobs.remove(job)

    @contextmanager
    def turn(self, job: Job) -> Iterator[None]:
        """Wait for the job's turn, and take it.

        Raises:
            Stopped: the job was told to stop.
            InputError: it has computed for too long.
        """
        if job.spent_s > MOST_SPENT_S:
            text = "This has computed for more than {seconds:g} s, which is the limit; give a shorter input."
            raise tts_infer.InputError(text, code="page-time", seconds=MOST_SPENT_S)
        with self._free:
            self._waiting.append(job)
            self._free.wait_for(lambda: job.stopped or (self._busy is None and job is self._next()))
            self._waiting.remove(job)
            if job.stopped:
                self._free.notify_all()
                raise Stopped
            self._busy = job
        begin = time.perf_counter()
        try:
            yield
        finally:
            with self._free:
                job.spent_s += time.perf_counter() - begin
                self._busy = None
                self._free.notify_all()

    def turns(self, job: Job) -> Turn:
        """The turns of a job, for those who need not know about jobs."""
        return lambda: self.turn(job)

    def _next(self) -> Job:
        """Those whose answers nobody reads come last; a program without a session waits for its answer."""
        return min(self._waiting, key=lambda job: (bool(job.session) and not self.is_read(job.session), job.spent_s))

    def stop(self, session: str | None) -> None:
        """Tell all jobs of a page to stop."""
        with self._free:
            for job in self._jobs:
                if session is not None and job.session == session:
                    job.stopped = True
            self._free.notify_all()

    def seen_by(self, session: str | None) -> list[dict[str, Any]]:
        """What a page is told of its jobs: what, done, total, how many are before it, and the seconds left."""
        with self._free:
            now, sharing = time.monotonic(), max(1, len([job for job in self._jobs if not job.stopped]))
            return [
                {
                    "what": job.what,
                    "done": job.done,
                    "total": job.total,
                    "ahead": 0 if job.spent_s or job is self._busy else len(self._ahead_of(job)),
                    "wait_s": PIECE_S * len(self._ahead_of(job)),
                    "left_s": _left_s(job) * sharing,
                    "since_s": now - job.began,
                }
                for job in self._jobs
                if job.session == session and not job.stopped
            ]

    def _ahead_of(self, job: Job) -> list[Job]:
        """The jobs that have their next turn before a job that waits for its first one."""
        return [
            other
            for other in self._jobs
            if not other.stopped and (other is self._busy or (other.spent_s, other.began) < (job.spent_s, job.began))
        ]


def _left_s(job: Job) -> float:
    """For how long a job will compute; 0 if that is not known yet."""
    return job.spent_s * (job.total / job.done - 1) if job.done and job.total > job.done else 0.0


desk = Desk()
