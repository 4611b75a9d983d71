"""The buckets of a batch, and the steps for one bucket: read, decode, write.

An executor decides only where and when these steps run, so every executor makes the same bytes. It is a function of a
vocoder, the buckets and a sample format. It yields the outcomes of one bucket after the other, in any order, each when
every file of the bucket has its final name. It begins no further bucket after a file that could not be written, or
when it is closed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from tts_infer.batch.manifest import Item
from tts_infer.devices import CPU
from tts_infer.errors import FileError, InputError, TTSInferError, first_sentence
from tts_infer.io.audio import read_audio, seconds_of
from tts_infer.io.feature_files import open_features, read_mel
from tts_infer.io.features import as_audio, as_features, prefix_errors
from tts_infer.io.sources import holds_features
from tts_infer.io.targets import require_audio
from tts_infer.io.writer import SampleFormat, write_audio
from tts_infer.vocoder import Vocoder
from tts_infer.vocoders.features import FeatureSpec

# Frames of a bucket on CPUs: few enough for the caches of a core, and for a few files to give work to many cores.
CPU_FRAMES = 1024

Bucket = Sequence[Item]  # always decoded together, so that each file gets the same bits
Content = Tensor | str  # samples or a mel; or the reason why there is neither


@dataclass(frozen=True)
class Outcome:
    """The result of one item. Without `error` and `unwritten`, the file is there."""

    name: str
    seconds: float | None = None  # of audio
    size: int | None = None  # of the file, in bytes; None if that is not known
    clipped_samples: int = 0
    error: str | None = None  # of the input: the others go on
    note: str | None = None  # what is odd about the input, though it was decoded
    unwritten: FileError | None = None  # the system refused to write: the batch stops


Work = Generator[list[Outcome], None, None]  # it stops when it is closed
Executor = Callable[[Vocoder, Sequence[Bucket], SampleFormat], Work]


def frames_of(source: Path, features: FeatureSpec) -> int:
    """About how many frames an input has, by its header; 0 if unknown. It only decides which files share a bucket."""
    if not holds_features(source):
        return int((seconds_of(source) or 0) * features.sample_rate / features.hop_length)
    try:
        shape = open_features(source).shape
    except Exception:  # whatever it is, `read` makes it the reason of this file
        return 0
    return shape[-1] if shape else 0


def bucket_frames(vocoder: Vocoder) -> int:
    """The frames of a bucket; on accelerators, as many as are decoded at once."""
    return CPU_FRAMES if vocoder.placement.devices == {CPU} else vocoder.max_frames


def group(sizes: Mapping[str, int], first: int, limit: int) -> Iterator[tuple[str, int]]:
    """Give each name a bucket. Names of similar length share one, if they are short.

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


def read(item: Item, features: FeatureSpec) -> Content:
    """Read a source: samples (T,) at the vocoder's rate, or a mel (n_mels, L), checked; or why there is neither."""
    try:
        if holds_features(item.source):
            return read_mel(item.source, features.n_channels)[0]
        with prefix_errors(item.source):
            return as_audio(read_audio(item.source, features.sample_rate).samples)[0]
    except Exception as error:
        return _reason(error)


def _reason(error: Exception) -> str:
    """Why a file failed: one line, whatever was raised. The others of a batch go on."""
    if isinstance(error, TTSInferError):
        return str(error)
    if isinstance(error, MemoryError) or "memory" in str(error) or "bad_alloc" in str(error):
        return "there is not enough memory for it; decode it alone (tts-infer decode), which takes pieces"
    return f"{type(error).__name__}: {first_sentence(error)[:150]}"


def to_mel(content: Content, vocoder: Vocoder) -> Content:
    """Turn samples into their mel; a mel or a reason is returned as it is."""
    if isinstance(content, str) or content.ndim == 2:
        return content
    try:
        return as_features(vocoder.mel(content)[0], vocoder.n_mels)[0]  # the mel of loud audio may be refused
    except Exception as error:
        return _reason(error)


def note_of(content: Content, vocoder: Vocoder) -> str | None:
    """What is odd about an input that was read: a mel of another convention."""
    if vocoder.convention_check is None or isinstance(content, str) or content.ndim == 1:
        return None
    with suppress(Exception):  # the decode says what is wrong
        if warning := vocoder.convention_check(content[None]):
            return str(warning)
    return None


def decode(mels: Sequence[Content], vocoder: Vocoder) -> list[Content]:
    """Decode the mels of a bucket into samples (T,); a reason is returned as it is.

    If they cannot be decoded together, each is decoded alone, and what fails then has its reason.
    """
    given = [mel for mel in mels if isinstance(mel, Tensor)]
    try:
        audios: Iterator[Content] = iter(vocoder.decode(given, check_convention=False) if given else [])
    except Exception:
        return [mel if isinstance(mel, str) else _alone(mel, vocoder) for mel in mels]
    return [mel if isinstance(mel, str) else next(audios) for mel in mels]


def _alone(mel: Tensor, vocoder: Vocoder) -> Content:
    try:
        return vocoder.decode([mel], check_convention=False)[0]
    except Exception as error:
        return _reason(error)


def write(
    item: Item, audio: Content, sample_rate: int, sample_format: SampleFormat, note: str | None = None
) -> Outcome:
    """Write one file, whole or not at all. `note`: see `Outcome`."""
    if isinstance(audio, str):
        return Outcome(item.name, error=audio)
    try:
        require_audio(audio.shape[0])
        clipped = write_audio(item.target, audio, sample_rate, sample_format)
    except InputError as error:
        return Outcome(item.name, error=str(error.within(item.source)))
    except FileError as error:
        return Outcome(item.name, unwritten=error)
    except Exception as error:
        return Outcome(item.name, error=_reason(error))
    outcome = Outcome(item.name, audio.shape[0] / sample_rate, clipped_samples=clipped, note=note)
    with suppress(OSError):  # someone else took the file away
        outcome = replace(outcome, size=item.target.stat().st_size)
    return outcome
