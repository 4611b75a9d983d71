"""Audio files: read at any rate and channel count, resample, write whole or not at all, never change a level."""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from torch import Tensor

from tts_infer.devices import exclusive
from tts_infer.errors import FileError, InputError

SampleFormat = Literal["pcm16", "float32"]
_CONTAINERS = {".wav": "WAV", ".flac": "FLAC"}
_SUBTYPES = {"pcm16": "PCM_16", "float32": "FLOAT"}
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
    if not os.path.isfile(path):
        raise FileError(f"no such file: {os.fspath(path)}")
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        reason = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
        raise FileError(
            f"cannot read {os.fspath(path)} as audio: {reason.strip().rstrip('.')}; give a WAV, FLAC, OGG or MP3 file"
        ) from None
    if len(samples) == 0:
        raise FileError(f"{os.fspath(path)} holds no samples")
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)
    return resample(AudioClip(mono, rate), sample_rate or rate)


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
    """
    samples = _as_numpy(audio)
    clipped = int(np.count_nonzero(np.abs(samples) > 1.0))
    scaled = np.rint(samples * np.float32(INT16_SCALE))
    return np.clip(scaled, -INT16_SCALE, INT16_SCALE - 1).astype(np.int16), clipped


def _as_numpy(audio: Tensor | NDArray[np.floating]) -> NDArray[np.floating]:
    if not isinstance(audio, Tensor):
        return np.asarray(audio)
    with exclusive(audio.device):  # to copy from an accelerator is to use it
        return audio.detach().cpu().numpy()


def check_writable(path: str | os.PathLike[str], sample_format: SampleFormat = "pcm16") -> None:
    """Refuse early what `write_audio` would refuse late.

    Raises:
        FileError: the extension is neither .wav nor .flac, the folder does not exist, or FLAC is asked to hold floats.
    """
    path = Path(path)
    if path.suffix.lower() not in _CONTAINERS:
        raise FileError(f"cannot write {path}: extension {path.suffix!r}; allowed: {', '.join(_CONTAINERS)}")
    if sample_format not in get_args(SampleFormat):
        raise FileError(f"sample format {sample_format!r}; allowed: {', '.join(get_args(SampleFormat))}")
    if path.suffix.lower() == ".flac" and sample_format == "float32":
        raise FileError(f"cannot write {path}: FLAC holds integers only; use pcm16, or a .wav file")
    if not path.parent.is_dir():
        raise FileError(f"cannot write {path}: no such folder: {path.parent}")
    if path.is_dir():
        raise FileError(f"cannot write {path}: it is a folder")


def write_audio(
    path: str | os.PathLike[str],
    audio: Tensor | NDArray[np.floating],
    sample_rate: int,
    sample_format: SampleFormat = "pcm16",
) -> int:
    """Write mono audio as WAV or FLAC, whole or not at all.

    Args:
        path: .wav or .flac; an existing file is replaced once the new one is complete.
        audio: full scale 1.0; its level is not changed.
        sample_rate: in Hz.
        sample_format: "pcm16", or "float32" (WAV only).

    Returns:
        How many samples were clipped to full scale: 0 for float32, which clips nothing.

    Shape: audio of (T,)
    Raises:
        FileError: see `check_writable`; or the system refuses to write.
        InputError: audio is not of one dimension.
    """
    check_writable(path, sample_format)
    if audio.ndim != 1:
        raise InputError(f"audio to write has shape {tuple(audio.shape)}; expected (T,)")
    samples = _as_numpy(audio)
    pcm, clipped = to_int16(samples) if sample_format == "pcm16" else (samples.astype(np.float32), 0)
    container = _CONTAINERS[Path(path).suffix.lower()]
    try:
        # encoded in memory: what the system says of a full disk would be lost inside libsndfile
        encoded = io.BytesIO()
        soundfile.write(encoded, pcm, sample_rate, subtype=_SUBTYPES[sample_format], format=container)
        with whole_file(path) as part:
            part.write_bytes(encoded.getbuffer())
    except (soundfile.LibsndfileError, OSError) as error:
        raise FileError(f"cannot write {os.fspath(path)}: {getattr(error, 'strerror', None) or error}") from None
    return clipped


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary name beside `path`; it takes the name `path` if the body succeeds, and is removed if not."""
    path = Path(path)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
