"""A batch in this process: one thread takes a bucket from reading to writing, as many at once as torch has threads.

Whole buckets keep cores busier than the threads of a single decode, which wait for each other many times in every
layer. And one thread makes the same bits on a machine of any size.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

import torch

from tts_infer.batch.buckets import Bucket, Outcome, Work, decode, read, to_mel, write
from tts_infer.io.writer import SampleFormat
from tts_infer.vocoder import Vocoder

# Two even where torch has one thread: the one reads or writes while the other decodes.
_FEWEST = 2
_beginning = threading.Lock()


def run(vocoder: Vocoder, buckets: Sequence[Bucket], sample_format: SampleFormat) -> Work:
    """An engine, see `tts_infer.batch.buckets`."""
    stopped = threading.Event()

    def make(bucket: Bucket) -> list[Outcome]:
        if stopped.is_set():
            return []
        mels = [to_mel(read(task, vocoder.mel_config), vocoder) for task in bucket]
        made = zip(bucket, decode(mels, vocoder), strict=True)
        outcomes = [write(task, audio, vocoder.sample_rate, sample_format) for task, audio in made]
        if any(outcome.unwritten for outcome in outcomes):
            stopped.set()
        return outcomes

    with _pool(max(_FEWEST, torch.get_num_threads())) as pool:
        try:
            # the longest first: begun last, they would keep a single core busy at the end
            for future in as_completed([pool.submit(make, bucket) for bucket in reversed(buckets)]):
                if outcomes := future.result():
                    yield outcomes
        finally:
            stopped.set()


def _pool(workers: int) -> ThreadPoolExecutor:
    """Threads that compute alone, each.

    A thread has for its life what torch is told at the time when it first asks. What torch is told holds for the thread
    that says it, too, so that is one of its own; and it is taken back when the last worker has asked.
    """
    pool, ready = ThreadPoolExecutor(workers), threading.Barrier(workers + 1)

    def ask() -> None:
        torch.get_num_threads()
        ready.wait()

    def begin() -> None:
        others = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            for _ in range(workers):
                pool.submit(ask)
            ready.wait()
        finally:
            torch.set_num_threads(others)

    with _beginning:  # or another batch would take the one for what others have
        beginner = threading.Thread(target=begin)
        beginner.start()
        beginner.join()
    return pool
