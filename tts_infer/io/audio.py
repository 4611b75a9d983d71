"""Audio: read files of any rate and channel count, resample, convert to 16 bits. Levels never change."""

from __future__ import annotations

import math
import reprlib
import warnings
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor

from tts_infer.arguments import checked
from tts_infer.devices import device_lock
from tts_infer.dsp.mismatch import level_of_caller
from tts_infer.errors import FileError, InputError, InputTypeError, TTSInferError
from tts_infer.io.decoders import RATES_HZ, Decoder, decoder, unreadable
from tts_infer.io.features import as_float_tensor, check_values
from tts_infer.io.inputs import Held, Source, name_of
from tts_infer.io.notes import SignalMeter, note_of_missing
from tts_infer.sentences import Sentence

INT16_SCALE = 32768  # soundfile divides by it on reading, so PCM16 passes unchanged
BLOCK_S = 30.0
_BLOCK_VALUES = 2**23  # of all channels together
_SLACK_S = 0.05  # codecs end within a frame of what their files state
_MOST_RATIO = 1000
_NO_SAMPLE = Sentence("no sample of it can be decoded", code="no-sample")


class AudioWarning(UserWarning):
    """Audio was read, but its file is damaged, or ends before the length that it states."""


@dataclass(frozen=True)
class AudioClip:
    """Mono audio: float32 samples of shape (T,), full scale 1.0, and their rate in Hz."""

    samples: NDArray[np.float32]
    sample_rate: int

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.sample_rate


@checked("meter")
def read_audio(source: Source | Held, sample_rate: int | None = None, meter: SignalMeter | None = None) -> AudioClip:
    """Read audio as mono float32, resampled if asked.

    Args:
        source: the path of a WAV, FLAC, OGG or MP3 file, or of whatever else the installed libsndfile reads, or PyAV
            (extra `av`), or of a pipe; the bytes of one; or an open binary file. Channels are averaged.
        sample_rate: wanted rate in Hz; None keeps the file's.
        meter: measures the channels, before they are averaged, and takes note of audio that is missing. Without one,
            missing audio gives an `AudioWarning`.

    Raises:
        FileError: the file is missing, is no audio, or holds no samples.
        InputError: the sample rate is out of bounds, see `resample`.
        InputTypeError: it is no source.
    """
    _check_rate(sample_rate)
    with decoder(source) as sound:
        rate = sound.sample_rate
        blocks = list(_read(sound, BLOCK_S, name_of(source), meter))
    clip = AudioClip(np.concatenate(blocks), rate)
    return clip if sample_rate is None else _resampled(clip, sample_rate)


@checked("seconds", "meter")
def read_blocks(
    source: Source | Held, sample_rate: int, seconds: float = BLOCK_S, meter: SignalMeter | None = None
) -> Generator[NDArray[np.float32], None, None]:
    """Read audio block by block; joined, the blocks equal what `read_audio` gives.

    Args:
        source, sample_rate, meter: as for `read_audio`.
        seconds: length of a block.

    Shape: blocks of (T,), T >= 0
    Raises:
        FileError, InputError, InputTypeError: see `read_audio`.
    """
    if not 0 < seconds < math.inf:
        raise InputError("seconds is {seconds}; allowed: more than 0", code="block-seconds", seconds=seconds)
    _check_rate(sample_rate)
    with decoder(source) as sound:
        rate = sound.sample_rate
        if rate == sample_rate:
            yield from _read(sound, seconds, name_of(source), meter)
            return
        _check_ratio(rate, sample_rate)
        resampler = soxr.ResampleStream(rate, sample_rate, 1, quality="HQ")
        for block in _read(sound, seconds, name_of(source), meter):
            yield resampler.resample_chunk(block)
        yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)


def seconds_of(source: Source | Held) -> float | None:
    """The length of audio by its header; None if that says nothing or cannot be read."""
    try:
        with decoder(source) as sound:
            return None if sound.frames is None else sound.frames / sound.sample_rate
    except TTSInferError:
        return None


def _read(sound: Decoder, seconds: float, name: str, meter: SignalMeter | None) -> Iterator[NDArray[np.float32]]:
    """Everything that is there, averaged over the channels, in blocks of about `seconds`. Shape: (T,)"""
    size = max(1, min(round(seconds * sound.sample_rate), _BLOCK_VALUES // sound.channels))
    count = 0
    while len(channels := sound.read(size)):
        count += len(channels)
        if meter is not None:
            meter.add(channels)
        yield _mono(channels)
    if not count:
        if sound.damage or sound.frames:
            raise unreadable(name, sound.damage or _NO_SAMPLE)
        raise FileError("{path} holds no samples", code="no-samples", path=name)
    missing = 0.0 if sound.frames is None else (sound.frames - count) / sound.sample_rate
    if missing > _SLACK_S or sound.damage:
        note = note_of_missing(count / sound.sample_rate, missing, sound.damage)
        if meter is not None:
            meter.remember(note)
        else:
            warnings.warn(AudioWarning(f"{name}: {note.text}"), stacklevel=level_of_caller())


def _mono(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Shape: (T, channels) -> (T,)"""
    return samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)


def resample(clip: AudioClip, sample_rate: int) -> AudioClip:
    """Convert to another rate with soxr's high quality. A clip of that rate is returned as it is.

    Args:
        clip: mono.
        sample_rate: in Hz.

    Raises:
        InputError: a rate is no whole number of 1 to 1,000,000 Hz; one is more than 1,000 times the other; or the clip
            is not of shape (T,), too short to give a sample of that rate, or so loud that sums are beyond float32.
        InputTypeError: its samples are no floats.
    """
    if not isinstance(clip, AudioClip):
        text = "clip is a {kind}; expected an AudioClip"
        raise InputTypeError(text, code="no-clip", kind=type(clip).__name__)
    for rate in (sample_rate, clip.sample_rate):
        _check_rate(-1 if rate is None else rate)
    samples = as_float_tensor(clip.samples, "audio")
    if samples.ndim != 1:
        text = "clip to resample has shape {shape}; expected (T,), one channel"
        raise InputError(text, code="clip-shape", shape=tuple(samples.shape))
    check_values(samples, "audio", piece=True, most=math.inf)
    if sample_rate == clip.sample_rate:
        return clip
    return _resampled(AudioClip(samples.cpu().numpy(), int(clip.sample_rate)), int(sample_rate))


def _resampled(clip: AudioClip, sample_rate: int) -> AudioClip:
    if sample_rate == clip.sample_rate:
        return clip
    _check_ratio(int(clip.sample_rate), sample_rate)
    made = soxr.resample(clip.samples, int(clip.sample_rate), sample_rate, quality="HQ")
    if not np.isfinite(made).all() and np.isfinite(clip.samples).all():
        text = "audio reaches {largest:.4g}, too much to be resampled: full scale is 1.0"
        raise InputError(text, code="resampled-range", largest=float(np.abs(clip.samples).max()))
    if len(clip.samples) and not len(made):
        text = "{count} samples of {rate} Hz give none of {sample_rate} Hz; give a longer clip, or a higher rate"
        fields: dict[str, Any] = {"count": len(clip.samples), "rate": clip.sample_rate, "sample_rate": sample_rate}
        raise InputError(text, code="resampled-empty", **fields)
    return AudioClip(made, sample_rate)


def _check_rate(sample_rate: Any) -> None:
    whole = isinstance(sample_rate, (int, np.integer)) and not isinstance(sample_rate, bool)
    if sample_rate is not None and not (whole and int(sample_rate) in RATES_HZ):
        text = "sample_rate is {sample_rate}; allowed: a whole number of 1 to {most} Hz"
        raise InputError(text, code="sample-rate-range", sample_rate=reprlib.repr(sample_rate), most=RATES_HZ[-1])


def _check_ratio(rate: int, sample_rate: int) -> None:
    """Refuse what would become a thousand times as long or as short: a mistake, and endless work for a small file."""
    if max(rate, sample_rate) > _MOST_RATIO * min(rate, sample_rate):
        text = "audio of {rate} Hz cannot be resampled to {sample_rate} Hz; one may be {most} times the other at most"
        raise InputError(text, code="sample-rate-ratio", rate=rate, sample_rate=sample_rate, most=_MOST_RATIO)


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
    scaled = np.rint(np.clip(samples, -1, 1) * np.float32(INT16_SCALE))
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
