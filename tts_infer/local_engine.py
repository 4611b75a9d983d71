"""A batch in this process: reading, decoding and writing side by side."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

from tts_infer.audio import SampleFormat
from tts_infer.buckets import Bucket, Content, Outcome, decode, read, to_mel, write
from tts_infer.vocoder import Vocoder

# Buckets that are read ahead of the one that is decoded, and that may wait for their files to be written.
_AHEAD = 2
# Threads for reading and for writing; both mostly wait, or are in C without Python's lock.
_THREADS = 2


def run(vocoder: Vocoder, buckets: Sequence[Bucket], sample_format: SampleFormat) -> Iterator[list[Outcome]]:
    """An engine, see `tts_infer.buckets`."""
    with ThreadPoolExecutor(_THREADS) as readers, ThreadPoolExecutor(_THREADS) as writers:
        pending: deque[list[Future[Outcome]]] = deque()
        for bucket, mels in _ahead(readers, vocoder, buckets):
            rate, audios = vocoder.sample_rate, decode(mels, vocoder)
            pending.append(
                [
                    writers.submit(write, task, audio, rate, sample_format)
                    for task, audio in zip(bucket, audios, strict=True)
                ]
            )
            if len(pending) > _AHEAD:
                outcomes = [future.result() for future in pending.popleft()]
                yield outcomes
                if any(outcome.unwritten for outcome in outcomes):
                    break
        for futures in pending:
            yield [future.result() for future in futures]


def _ahead(
    readers: ThreadPoolExecutor, vocoder: Vocoder, buckets: Sequence[Bucket]
) -> Iterator[tuple[Bucket, list[Content]]]:
    """Each bucket with its mels, read while those before it are worked on."""

    def begin(bucket: Bucket) -> tuple[Bucket, Future[list[Content]]]:
        return bucket, readers.submit(lambda: [to_mel(read(task, vocoder.mel_config), vocoder) for task in bucket])

    rest = iter(buckets)
    queue = deque(begin(bucket) for bucket in islice(rest, _AHEAD))
    while queue:
        bucket, mels = queue.popleft()
        queue.extend(begin(following) for following in islice(rest, 1))
        yield bucket, mels.result()
