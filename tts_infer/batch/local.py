"""A batch in this process: each thread takes a bucket from reading to writing, with one torch thread of its own.

Whole buckets keep the cores busier than the threads of a single decode, which wait for each other several times per
layer. And one thread makes the same bits on a machine of any size.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

import torch

from tts_infer.batch.buckets import Bucket, Outcome, Work, decode, note_of, read, to_mel, write
from tts_infer.io.writer import SampleFormat
from tts_infer.runtime.workers import use_one_thread
from tts_infer.vocoder import Vocoder

# At least two, also where torch has one thread: one reads or writes while the other decodes.
_FEWEST = 2


def run(vocoder: Vocoder, buckets: Sequence[Bucket], sample_format: SampleFormat) -> Work:
    """An executor, see `tts_infer.batch.buckets`."""
    workers = max(1, min(len(buckets), max(_FEWEST, torch.get_num_threads())))
    ready, stopped = threading.Barrier(workers), threading.Event()

    def begin() -> None:
        use_one_thread()
        ready.wait()  # so that torch's settings are as before when the first bucket is done

    def make(bucket: Bucket) -> list[Outcome]:
        if stopped.is_set():
            return []
        contents = [read(item, vocoder.features) for item in bucket]
        notes = [note_of(content, vocoder) for content in contents]
        audios = decode([to_mel(content, vocoder) for content in contents], vocoder)
        made = zip(bucket, audios, notes, strict=True)
        outcomes = [write(item, audio, vocoder.sample_rate, sample_format, note) for item, audio, note in made]
        if any(outcome.unwritten for outcome in outcomes):
            stopped.set()
        return outcomes

    with ThreadPoolExecutor(workers, initializer=begin) as pool:
        try:
            # the longest first: at the end, a long one would keep a single core busy
            for future in as_completed([pool.submit(make, bucket) for bucket in reversed(buckets)]):
                if outcomes := future.result():
                    yield outcomes
        finally:
            stopped.set()
