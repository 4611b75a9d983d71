"""Audio: read files of any rate and channel count, resample, convert to 16 bits. Levels never change."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor

from tts_infer.devices import device_lock
from tts_infer.errors import FileError, InputError, InputTypeError, TTSInferError
from tts_infer.io.sources import file_not_found

INT16_SCALE = 32768  # soundfile divides by it on reading, so PCM16 passes unchanged


@dataclass(frozen=True)
class AudioClip:
    """Mono audio: float32 samples of shape (T,), full scale 1.0, and their rate in Hz."""

    samples: NDArray[np.float32]
    sample_rate: int

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.sample_rate


def read_audio(path: str | os.PathLike[str], sample_rate: int | None = None) -> AudioClip:
    """Read an audio file as mono float32, resampled if asked.

    Args:
        path: WAV, FLAC, OGG or MP3, or whatever else the installed libsndfile reads; channels are averaged.
        sample_rate: wanted rate in Hz; None keeps the file's.

    Raises:
        FileError: the file is missing, is no audio, or holds no samples.
    """
    with _opened(path) as sound:
        samples, rate = sound.read(dtype="float32", always_2d=True), sound.samplerate
    if len(samples) == 0:
        raise _no_samples(path)
    return resample(AudioClip(_mono(samples), rate), sample_rate or rate)


def read_blocks(path: str | os.PathLike[str], sample_rate: int, seconds: float = 30.0) -> Iterator[NDArray[np.float32]]:
    """Read an audio file block by block; joined, the blocks equal what `read_audio` gives.

    Args:
        path, sample_rate: as for `read_audio`.
        seconds: length of a block.

    Shape: blocks of (T,), T >= 0
    Raises:
        FileError: see `read_audio`.
    """
    with _opened(path) as sound:
        rate, ended = sound.samplerate, False
        resampler = None if rate == sample_rate else soxr.ResampleStream(rate, sample_rate, 1, quality="HQ")
        size = max(1, round(seconds * rate))
        if not sound.frames:
            raise _no_samples(path)
        while not ended:
            samples = _mono(sound.read(size, dtype="float32", always_2d=True))
            ended = len(samples) < size
            yield resampler.resample_chunk(samples, last=ended) if resampler else samples


def seconds_of(path: str | os.PathLike[str]) -> float | None:
    """The length of an audio file from its header; None if the header cannot be read."""
    try:
        info = soundfile.info(_native(path))
    except (soundfile.LibsndfileError, OSError, TypeError, ValueError):
        return None
    return float(info.frames / info.samplerate)


def _native(path: str | os.PathLike[str]) -> str | bytes:
    """A name as the system keeps it: bytes on most systems, not always UTF-8."""
    return os.fspath(path) if os.name == "nt" else os.fsencode(path)


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[soundfile.SoundFile]:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise FileNotFoundError
        with soundfile.SoundFile(_native(path)) as sound:
            yield sound
    except TTSInferError:
        raise
    except FileNotFoundError:
        raise file_not_found(path) from None
    # TypeError: .raw files state no rate; ValueError: a NUL in the name; MemoryError: a wrong length in the header
    except (soundfile.LibsndfileError, OSError, TypeError, ValueError, MemoryError) as error:
        text = "cannot read {path} as audio: {reason}; give a WAV, FLAC, OGG or MP3 file"
        raise FileError(text, code="no-audio", path=os.fspath(path), reason=reason_of(error)) from None


def _no_samples(path: str | os.PathLike[str]) -> FileError:
    return FileError("{path} holds no samples", code="no-samples", path=os.fspath(path))


def reason_of(error: Exception) -> str:
    """What the system or libsndfile said, without the name of the file."""
    return str(getattr(error, "strerror", None) or getattr(error, "error_string", None) or error).strip().rstrip(".")


def _mono(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Shape: (T, channels) -> (T,)"""
    return samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)


def resample(clip: AudioClip, sample_rate: int) -> AudioClip:
    """Convert to another rate with soxr's high quality. A clip of that rate is returned as it is.

    Raises:
        InputError: sample_rate is not positive.
    """
    if sample_rate <= 0:
        text = "sample_rate is {sample_rate}; it must be greater than 0 Hz"
        raise InputError(text, code="sample-rate-not-positive", sample_rate=sample_rate)
    if sample_rate == clip.sample_rate:
        return clip
    return AudioClip(soxr.resample(clip.samples, clip.sample_rate, sample_rate, quality="HQ"), sample_rate)


def to_int16(audio: Tensor | NDArray[np.floating]) -> tuple[NDArray[np.int16], int]:
    """Convert float audio to 16-bit integers, and count the samples that are clipped.

    Args:
        audio: full scale 1.0.

    Returns:
        The samples, and how many were beyond full scale.

    Shape: any -> the same
    Raises:
        InputTypeError: audio is no array or tensor of floats. Integers would be scaled twice.
        InputError: NaN or infinite samples.
    """
    samples = as_samples(audio)
    clipped = int(np.count_nonzero(np.abs(samples) > 1.0))
    scaled = np.rint(samples * np.float32(INT16_SCALE))
    return np.clip(scaled, -INT16_SCALE, INT16_SCALE - 1).astype(np.int16), clipped


def as_samples(audio: Tensor | NDArray[np.floating]) -> NDArray[np.float32]:
    """Check samples before they are written.

    Shape: any -> the same
    Raises:
        InputTypeError, InputError: see `to_int16`.
    """
    if isinstance(audio, Tensor) and audio.is_floating_point() and audio.layout == torch.strided and not audio.is_meta:
        with device_lock(audio.device):  # a copy from an accelerator uses it
            samples = audio.detach().cpu().float().numpy()
    elif isinstance(audio, np.ndarray) and np.issubdtype(audio.dtype, np.floating):
        samples = audio.astype(np.float32, copy=False)
    else:
        kind = f"of {audio.dtype}" if hasattr(audio, "dtype") else f"a {type(audio).__name__}"
        text = "audio to write is {kind}; expected a dense tensor or an array of floats, full scale 1.0"
        raise InputTypeError(text, code="samples-not-float", kind=kind)
    if not np.isfinite(samples).all():
        bad = np.count_nonzero(~np.isfinite(samples))
        raise InputError("audio to write holds {bad} NaN or infinite samples", code="samples-not-finite", bad=bad)
    return samples
