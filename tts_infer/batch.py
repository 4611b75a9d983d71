"""Many files at once: exact ragged batches, with reading, decoding and writing side by side, and a journal."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from glob import escape as glob_escape
from itertools import groupby, islice
from pathlib import Path

import numpy as np
import soundfile
from torch import Tensor

from tts_infer.audio import SampleFormat, check_writable, read_audio, write_audio
from tts_infer.errors import FileError, InputError, TTSInferError
from tts_infer.inputs import FEATURE_SUFFIXES, as_features, read_features
from tts_infer.journal import Entry, Journal
from tts_infer.manifest import Container, Item, list_items
from tts_infer.vocoder import PIECE_FRAMES, Vocoder

# Buckets that are read ahead of the one that is decoded, and that may wait for their files to be written.
_AHEAD = 2
# Threads for reading and for writing; both mostly wait, or are in C without Python's lock.
_THREADS = 2

Progress = Callable[[int, int, float], None]


@dataclass
class BatchReport:
    """What became of a batch. `made` and `xrt` count this run; `outputs` and `failed` the whole job."""

    outputs: dict[str, float] = field(default_factory=dict)  # output name -> seconds of audio
    failed: dict[str, str] = field(default_factory=dict)  # output name -> reason
    made: int = 0
    clipped_samples: int = 0
    seconds: float = 0.0
    wall_s: float = 0.0

    @property
    def xrt(self) -> float:
        """Seconds of audio made per second of this run."""
        return self.seconds / self.wall_s if self.wall_s else 0.0


def synthesize_batch(
    vocoder: Vocoder,
    inputs: Sequence[str | os.PathLike[str]],
    out_dir: str | os.PathLike[str],
    *,
    container: Container = "wav",
    sample_format: SampleFormat = "pcm16",
    journal: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> BatchReport:
    """Decode or copy many files into a folder; called again after whatever interrupted it, it continues.

    Outputs are written whole or not at all. A file is never decoded in other company than before, so an interrupted
    run ends with the bytes of an undisturbed one. A broken input is recorded with its reason, and the others go on.

    Args:
        vocoder: what decodes.
        inputs: see `tts_infer.manifest.list_items`.
        out_dir: folder of the outputs, made if it is missing.
        container: of outputs that no manifest names.
        sample_format: how samples are stored.
        journal: where progress is kept; None: beside `out_dir`, as `NAME.journal`.
        progress: called after each bucket with the files made in this run so far, those to make, and the seconds of
            audio made.

    Raises:
        FileError, InputError: bad names (before any work); a journal of other settings or in use; a full disk, with
            what was done kept.
    """
    root = Path(out_dir)
    items = list_items(inputs, root, container)
    settings = {
        "vocoder": vocoder.name,
        "placement": str(vocoder.placement),
        "dtype": vocoder.dtype,
        "sample_format": sample_format,
    }
    try:
        root.mkdir(parents=True, exist_ok=True)
        for folder in {(root / item.output).parent for item in items}:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot make {root}: {error.strerror}") from None
    for item in items:
        check_writable(root / item.output, sample_format)
    with Journal(Path(journal) if journal else root.with_name(f"{root.name}.journal"), settings) as kept:
        return _Job(vocoder, root, sample_format, kept, progress).run(items)


def _fingerprint(source: Path) -> str:
    """Changes when the file does. A missing one has its own."""
    try:
        stat = source.stat()
    except OSError:
        return f"{source}:missing"
    return f"{source}:{stat.st_size}:{stat.st_mtime_ns}"


def _frames(source: Path, vocoder: Vocoder) -> int:
    """About how many frames an input has, from its header where that says so. Decides on company, not on content."""
    if source.suffix.lower() not in FEATURE_SUFFIXES:
        try:
            info = soundfile.info(source)
        except (soundfile.LibsndfileError, OSError):
            return 0  # reading it will say why
        return int(info.frames / info.samplerate * vocoder.sample_rate / vocoder.hop_length)
    try:
        if source.suffix.lower() == ".npy":
            return int(np.load(source, mmap_mode="r").shape[-1])
        return int(read_features(source).shape[-1])
    except (TTSInferError, OSError, ValueError, IndexError):
        return 0


def _buckets(sizes: dict[str, int], first: int) -> Iterator[tuple[str, int]]:
    """Give each output name a bucket: neighbours in length, as many as are decoded at once."""
    bucket, longest, count = first, 0, 0
    for output, frames in sorted(sizes.items(), key=lambda pair: (pair[1], pair[0])):
        if count and max(longest, frames) * (count + 1) > PIECE_FRAMES:
            bucket, longest, count = bucket + 1, 0, 0
        longest, count = max(longest, frames), count + 1
        yield output, bucket


@dataclass
class _Job:
    vocoder: Vocoder
    root: Path
    sample_format: SampleFormat
    journal: Journal
    progress: Progress | None
    to_make: int = 0

    def run(self, items: Sequence[Item]) -> BatchReport:
        start = time.perf_counter()
        report = BatchReport()
        entries = self._plan(items)
        sources = {str(item.output): item.source for item in items}
        _remove_parts(self.root, sources)
        ordered = sorted((entries[output] for output in sources), key=lambda e: e.bucket)
        waiting = [list(group) for _, group in groupby(ordered, key=lambda e: e.bucket)]
        waiting = [bucket for bucket in waiting if not all(map(self._is_settled, bucket))]
        self.to_make = sum(map(len, waiting))
        with ThreadPoolExecutor(_THREADS) as readers, ThreadPoolExecutor(_THREADS) as writers:
            pending: deque[tuple[list[Entry], list[Future[int]]]] = deque()
            try:
                for bucket, contents in _ahead(readers, lambda b: self._read(b, sources), waiting):
                    pending.append(self._decode(bucket, contents, writers))
                    if len(pending) > _AHEAD:
                        self._finish(*pending.popleft(), report)
            finally:  # also when a disk is full: what is being written is still recorded, if it can be
                while pending:
                    self._finish(*pending.popleft(), report)
        entries.update(self.journal.entries())
        for output in sources:
            entry = entries[output]
            if entry.error is not None:
                report.failed[output] = entry.error
            else:
                report.outputs[output] = entry.seconds or 0.0
        report.wall_s = time.perf_counter() - start
        return report

    def _plan(self, items: Sequence[Item]) -> dict[str, Entry]:
        """Every item's entry: the one it had, if its source is as it was, else a new one in a new bucket."""
        known = self.journal.entries()
        current = {str(item.output): _fingerprint(item.source) for item in items}
        new = {
            str(item.output): _frames(item.source, self.vocoder)
            for item in items
            if (entry := known.get(str(item.output))) is None or entry.fingerprint != current[entry.output]
        }
        first = 1 + max((entry.bucket for entry in known.values()), default=0)
        planned = [Entry(output, current[output], bucket) for output, bucket in _buckets(new, first)]
        self.journal.record(planned)
        return known | {entry.output: entry for entry in planned}

    def _is_settled(self, entry: Entry) -> bool:
        return entry.error is not None or (entry.seconds is not None and (self.root / entry.output).is_file())

    def _read(self, bucket: list[Entry], sources: dict[str, Path]) -> list[Tensor | str]:
        """The mel (n_mels, L) of each item, or why there is none."""
        return [_read_item(sources[entry.output], self.vocoder) for entry in bucket]

    def _decode(
        self, bucket: list[Entry], contents: list[Tensor | str], writers: ThreadPoolExecutor
    ) -> tuple[list[Entry], list[Future[int]]]:
        """Decode a bucket and begin to write it. Entries come back as they will be once that is done."""
        mels = [content for content in contents if isinstance(content, Tensor)]
        audios = iter(self.vocoder.decode(mels) if mels else [])
        done, futures = [], []
        for entry, content in zip(bucket, contents, strict=True):
            if isinstance(content, str):
                done.append(replace(entry, seconds=None, error=content))
                continue
            audio, rate = next(audios), self.vocoder.sample_rate
            done.append(replace(entry, seconds=audio.shape[0] / rate, error=None))
            futures.append(writers.submit(write_audio, self.root / entry.output, audio, rate, self.sample_format))
        return done, futures

    def _finish(self, done: list[Entry], futures: list[Future[int]], report: BatchReport) -> None:
        """Wait for a bucket's files, and only then say that they are there."""
        report.clipped_samples += sum(future.result() for future in futures)
        self.journal.record(done)
        report.made += len(futures)
        report.seconds += sum(entry.seconds or 0.0 for entry in done)
        if self.progress is not None:
            self.progress(report.made, self.to_make, report.seconds)


def _read_item(source: Path, vocoder: Vocoder) -> Tensor | str:
    try:
        if source.suffix.lower() not in FEATURE_SUFFIXES:
            return vocoder.mel(read_audio(source, vocoder.sample_rate).samples)[0]
        features = as_features(read_features(source), vocoder.n_mels)
        if features.shape[0] != 1:
            raise InputError(f"{source} holds a batch of {features.shape[0]}; expected one mel a file")
        return features[0]
    except TTSInferError as error:
        return str(error)


def _remove_parts(root: Path, outputs: Iterable[str]) -> None:
    """Remove what a killed run left half written."""
    for output in outputs:
        path = root / output
        for part in path.parent.glob(f".{glob_escape(path.name)}.*.part"):
            part.unlink(missing_ok=True)


def _ahead(
    readers: ThreadPoolExecutor, read: Callable[[list[Entry]], list[Tensor | str]], buckets: list[list[Entry]]
) -> Iterator[tuple[list[Entry], list[Tensor | str]]]:
    """Each bucket with its contents, read while those before it are worked on."""
    rest = iter(buckets)
    queue = deque((bucket, readers.submit(read, bucket)) for bucket in islice(rest, _AHEAD))
    while queue:
        bucket, future = queue.popleft()
        for following in islice(rest, 1):
            queue.append((following, readers.submit(read, following)))
        yield bucket, future.result()
