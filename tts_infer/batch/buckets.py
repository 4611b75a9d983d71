"""What a batch is made of, and how one bucket of it is done: read, decode, write.

An engine says where and when these steps run, and nothing else; so every engine makes the same bytes. It is a function
of a vocoder, the buckets to do and a sample format, and yields the outcomes of one bucket after the other, in any
order, each only when every file of it has its final name. After a file that could not be written, and when it is
closed, it begins no further bucket.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from tts_infer.config import MelConfig
from tts_infer.devices import CPU
from tts_infer.errors import FileError, InputError, TTSInferError
from tts_infer.io.audio import read_audio, seconds_of
from tts_infer.io.features import FEATURE_SUFFIXES, as_audio, as_features, open_features, prefix_errors, read_mel
from tts_infer.io.writer import SampleFormat, write_audio
from tts_infer.vocoder import Vocoder

# Frames of a bucket on CPUs: what a core computes of them stays in its caches, and few files make work for many cores.
CPU_FRAMES = 1024


@dataclass(frozen=True)
class Task:
    """One file to make."""

    name: str  # of the output, below the output folder
    source: Path
    target: Path


Bucket = Sequence[Task]  # decoded together, always in the same company, so that each gets the same bits
Content = Tensor | str  # samples or a mel; or why there is neither


@dataclass(frozen=True)
class Outcome:
    """What became of one task. If neither `error` nor `unwritten`, the file is there."""

    name: str
    seconds: float | None = None  # of audio
    clipped_samples: int = 0
    error: str | None = None  # of the input: the others go on
    unwritten: str | None = None  # why the system refused to write: the batch stops


Work = Generator[list[Outcome], None, None]  # closed, it ends
Engine = Callable[[Vocoder, Sequence[Bucket], SampleFormat], Work]


def frames_of(source: Path, config: MelConfig) -> int:
    """About how many frames an input has, from its header where that says so. Decides on company, not on content."""
    if not _holds_features(source):
        return int((seconds_of(source) or 0) * config.sample_rate / config.hop_length)
    try:
        shape = open_features(source).shape
    except FileError:
        return 0
    return shape[-1] if shape else 0


def bucket_frames(vocoder: Vocoder) -> int:
    """How many frames a bucket should have: on accelerators, as many as are decoded at once."""
    return CPU_FRAMES if vocoder.placement.devices == {CPU} else vocoder.max_frames


def group(sizes: Mapping[str, int], first: int, limit: int) -> Iterator[tuple[str, int]]:
    """Give each name a bucket: neighbours in length, together if they are short.

    Args:
        sizes: frames of each.
        first: number of the first bucket.
        limit: frames of a bucket, padding included.
    """
    bucket, longest, count = first, 0, 0
    for name, frames in sorted(sizes.items(), key=lambda pair: (pair[1], pair[0])):
        if count and max(longest, frames) * (count + 1) > limit:
            bucket, longest, count = bucket + 1, 0, 0
        longest, count = max(longest, frames), count + 1
        yield name, bucket


def read(task: Task, config: MelConfig) -> Content:
    """Samples (T,) at the vocoder's rate, or a mel (n_mels, L), checked; or why there is neither."""
    try:
        if not _holds_features(task.source):
            samples = read_audio(task.source, config.sample_rate).samples
            with prefix_errors(task.source):
                return as_audio(samples)[0]
        return read_mel(task.source, config.n_mels)[0]
    except TTSInferError as error:
        return str(error)


def to_mel(content: Content, vocoder: Vocoder) -> Content:
    """The mel of samples; a mel, or a reason, as it is."""
    if isinstance(content, str) or content.ndim == 2:
        return content
    try:
        return as_features(vocoder.mel(content)[0], vocoder.n_mels)[0]  # loud audio may give what no mel should have
    except TTSInferError as error:
        return str(error)


def decode(mels: Sequence[Content], vocoder: Vocoder) -> list[Content]:
    """The samples (T,) of each mel of a bucket; a reason as it is."""
    audios = iter(vocoder.decode(given) if (given := [mel for mel in mels if isinstance(mel, Tensor)]) else [])
    return [mel if isinstance(mel, str) else next(audios) for mel in mels]


def write(task: Task, audio: Content, sample_rate: int, sample_format: SampleFormat) -> Outcome:
    """Write one file, whole or not at all."""
    if isinstance(audio, str):
        return Outcome(task.name, error=audio)
    try:
        clipped = write_audio(task.target, audio, sample_rate, sample_format)
    except InputError as error:
        return Outcome(task.name, error=f"{task.source}: {error}")
    except FileError as error:
        return Outcome(task.name, unwritten=str(error))
    return Outcome(task.name, audio.shape[0] / sample_rate, clipped)


def _holds_features(source: Path) -> bool:
    return source.suffix.lower() in FEATURE_SUFFIXES
