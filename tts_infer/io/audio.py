"""Audio: read files of any rate and channel count, resample, convert to 16 bits, never change a level."""

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

INT16_SCALE = 32768  # what soundfile divides by on reading, so that PCM16 passes unchanged


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
        raise FileError(f"{os.fspath(path)} holds no samples")
    return resample(AudioClip(_mono(samples), rate), sample_rate or rate)


def read_blocks(path: str | os.PathLike[str], sample_rate: int, seconds: float = 30.0) -> Iterator[NDArray[np.float32]]:
    """Read an audio file as `read_audio` does, block by block; the blocks join to what that would give.

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
            raise FileError(f"{os.fspath(path)} holds no samples")
        while not ended:
            samples = _mono(sound.read(size, dtype="float32", always_2d=True))
            ended = len(samples) < size
            yield resampler.resample_chunk(samples, last=ended) if resampler else samples


def seconds_of(path: str | os.PathLike[str]) -> float | None:
    """How long an audio file is, from its header; None if it does not say, and reading it will say why."""
    try:
        info = soundfile.info(_native(path))
    except (soundfile.LibsndfileError, OSError, TypeError, ValueError):
        return None
    return float(info.frames / info.samplerate)


def _native(path: str | os.PathLike[str]) -> str | bytes:
    """A name as the system keeps it: on most it is bytes, and not all of them are UTF-8."""
    return os.fspath(path) if os.name == "nt" else os.fsencode(path)


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[soundfile.SoundFile]:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise FileNotFoundError
        with soundfile.SoundFile(_native(path)) as sound:
            yield sound
    except FileNotFoundError:
        raise FileError(f"no such file: {os.fspath(path)}") from None
    # TypeError: of .raw files, which state no rate; ValueError: of a name with a NUL in it; MemoryError: of a length
    # that nobody meant
    except (soundfile.LibsndfileError, OSError, TypeError, ValueError, MemoryError) as error:
        if isinstance(error, TTSInferError):
            raise
        raise FileError(
            f"cannot read {os.fspath(path)} as audio: {reason_of(error)}; give a WAV, FLAC, OGG or MP3 file"
        ) from None


def reason_of(error: Exception) -> str:
    """What the system or libsndfile said, without the name of what it said it of."""
    return str(getattr(error, "strerror", None) or getattr(error, "error_string", None) or error).strip().rstrip(".")


def _mono(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Shape: (T, channels) -> (T,)"""
    return samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)


def resample(clip: AudioClip, sample_rate: int) -> AudioClip:
    """Convert to another rate with soxr's high quality; returns the same clip where nothing changes.

    Raises:
        InputError: sample_rate is not positive.
    """
    if sample_rate <= 0:
        raise InputError(f"sample_rate is {sample_rate}; it must be greater than 0 Hz")
    if sample_rate == clip.sample_rate:
        return clip
    return AudioClip(soxr.resample(clip.samples, clip.sample_rate, sample_rate, quality="HQ"), sample_rate)


def to_int16(audio: Tensor | NDArray[np.floating]) -> tuple[NDArray[np.int16], int]:
    """Convert float audio to 16-bit integers, and count the samples that had to be clipped.

    Args:
        audio: full scale 1.0.

    Returns:
        The samples, and how many lay beyond full scale.

    Shape: any -> the same
    Raises:
        InputTypeError: audio is no array or tensor of floats; integers would be scaled a second time.
        InputError: NaN or infinite samples.
    """
    samples = as_samples(audio)
    clipped = int(np.count_nonzero(np.abs(samples) > 1.0))
    scaled = np.rint(samples * np.float32(INT16_SCALE))
    return np.clip(scaled, -INT16_SCALE, INT16_SCALE - 1).astype(np.int16), clipped


def as_samples(audio: Tensor | NDArray[np.floating]) -> NDArray[np.float32]:
    """Samples to be written, checked."""
    if isinstance(audio, Tensor) and audio.is_floating_point() and audio.layout == torch.strided and not audio.is_meta:
        with device_lock(audio.device):  # to copy from an accelerator is to use it
            samples = audio.detach().cpu().float().numpy()
    elif isinstance(audio, np.ndarray) and np.issubdtype(audio.dtype, np.floating):
        samples = audio.astype(np.float32, copy=False)
    else:
        kind = f"of {audio.dtype}" if hasattr(audio, "dtype") else f"a {type(audio).__name__}"
        raise InputTypeError(f"audio to write is {kind}; expected a dense tensor or an array of floats, full scale 1.0")
    if not np.isfinite(samples).all():
        raise InputError(f"audio to write holds {np.count_nonzero(~np.isfinite(samples))} NaN or infinite samples")
    return samples
