"""Log-mel spectrograms. One class computes every convention of the field; `MelConfig` says which."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from tts_infer.arguments import checked
from tts_infer.config import MelConfig, MelScale, SpectralMethod
from tts_infer.devices import device_of, precision
from tts_infer.dsp.checks import require_floats
from tts_infer.dsp.filterbank import BandedProduct
from tts_infer.dsp.stft import STFT
from tts_infer.dsp.tiles import is_traced
from tts_infer.errors import ConfigError, InputError

# Slaney's scale is linear below 1 kHz (15 mels) and logarithmic above, 27 steps per factor 6.4.
_SLANEY_HZ_PER_MEL = 200 / 3
_SLANEY_CORNER_HZ = 1000.0
_SLANEY_CORNER_MEL = _SLANEY_CORNER_HZ / _SLANEY_HZ_PER_MEL
_SLANEY_LOG_STEP = math.log(6.4) / 27

# Longer spectrograms are computed in pieces of this many frames, which fit a processor's cache. A frame depends on its
# own samples only, so the pieces are exact.
MAX_FRAMES = 1024


def hz_to_mel(hz: float, scale: MelScale) -> float:
    """Hertz to mels. HTK: 2595 log10(1 + hz / 700). Slaney: linear to 1 kHz, then logarithmic."""
    if scale == "htk":
        return 2595.0 * math.log10(1.0 + hz / 700.0)
    if hz < _SLANEY_CORNER_HZ:
        return hz / _SLANEY_HZ_PER_MEL
    return _SLANEY_CORNER_MEL + math.log(hz / _SLANEY_CORNER_HZ) / _SLANEY_LOG_STEP


def mel_to_hz(mel: NDArray[np.float64], scale: MelScale) -> NDArray[np.float64]:
    """Mels to hertz: the inverse of `hz_to_mel`. Shape: any -> the same"""
    if scale == "htk":
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    above = _SLANEY_CORNER_HZ * np.exp(_SLANEY_LOG_STEP * (mel - _SLANEY_CORNER_MEL))
    return np.where(mel < _SLANEY_CORNER_MEL, mel * _SLANEY_HZ_PER_MEL, above)


@checked()
def mel_centres(config: MelConfig) -> NDArray[np.float64]:
    """The frequency in hertz at which each mel band is most sensitive. Shape: (n_mels,)"""
    f_max = config.sample_rate / 2 if config.f_max is None else config.f_max
    low, high = hz_to_mel(config.f_min, config.mel_scale), hz_to_mel(f_max, config.mel_scale)
    return mel_to_hz(np.linspace(low, high, config.n_mels + 2)[1:-1], config.mel_scale)


def mel_filterbank(config: MelConfig) -> NDArray[np.float64]:
    """Triangular filters, evenly spaced in mels, each reaching from its left to its right neighbour's centre.

    norm "slaney" divides each filter by half its width in hertz, so that all have the same area. A filter narrower
    than a bin may be all zero, as in torchaudio and librosa.

    Shape: (N, n_mels), N = n_fft // 2 + 1
    Raises:
        ConfigError: every filter is all zero, so that any audio would be silence.
    Source: torchaudio.functional.melscale_fbanks and librosa.filters.mel, which compute the same triangles.
    """
    return _filterbank(config).copy()


@lru_cache(maxsize=16)  # every vocoder asks for it some seven times
def _filterbank(config: MelConfig) -> NDArray[np.float64]:
    edges = _filter_edges(config)
    bins = np.linspace(0, config.sample_rate / 2, config.n_fft // 2 + 1)
    distance = bins[:, None] - edges
    rising = distance[:, :-2] / (edges[1:-1] - edges[:-2])
    falling = -distance[:, 2:] / (edges[2:] - edges[1:-1])
    triangles = np.maximum(np.minimum(rising, falling), 0.0)
    if not triangles.any():
        text = (
            "the mel filters from {f_min:g} to {f_max:g} Hz hold no frequency of an FFT of {n_fft}; allowed: wider ones"
        )
        span = {"f_min": edges[0], "f_max": edges[-1], "n_fft": config.n_fft}
        raise ConfigError(text, code="mel-filters-empty", **span)
    if config.norm == "slaney":
        triangles = triangles * (2.0 / (edges[2:] - edges[:-2]))
    return triangles


def filter_centres(config: MelConfig) -> NDArray[np.float64]:
    """Where the filters have their maxima, in hertz. Shape: (n_mels,)"""
    return _filter_edges(config)[1:-1]


def _filter_edges(config: MelConfig) -> NDArray[np.float64]:
    """Each filter reaches from edge i to i + 2, in hertz. Shape: (n_mels + 2,)"""
    f_max = config.sample_rate / 2 if config.f_max is None else config.f_max
    low, high = hz_to_mel(config.f_min, config.mel_scale), hz_to_mel(f_max, config.mel_scale)
    return mel_to_hz(np.linspace(low, high, config.n_mels + 2), config.mel_scale)


class LogMel(nn.Module):
    """Log-mel spectrogram of a waveform.

    mel = ln(max(filterbank @ (|STFT|^2 + power_eps)^(power / 2), log_floor))

    Args:
        config: the convention.
        method: how STFT and filters are computed, see `STFT` and `BandedProduct`.

    Shape: (B, T) -> (B, n_mels, L), L as in `STFT`
    Raises:
        ConfigError: at construction, if the sizes do not fit each other.
        InputError: the audio is too short for one frame.
    Source: vocos/feature_extractors.py MelSpectrogramFeatures with its defaults; HiFi-GAN's meldataset.py with
        slaney, power_eps 1e-9, log_floor 1e-5 and padding "same".
    """

    def __init__(self, config: MelConfig, method: SpectralMethod = "matmul") -> None:
        super().__init__()
        if not isinstance(config, MelConfig):
            text = "config is a {kind}; expected a MelConfig, such as vocoder.mel_config"
            raise ConfigError(text, code="no-mel-config", kind=type(config).__name__)
        self.config = config
        self.stft = STFT(config.n_fft, config.hop_length, config.win_length, config.padding, method)
        self.filterbank = BandedProduct(mel_filterbank(config), method)

    def forward(self, audio: Tensor) -> Tensor:
        with precision(device_of(audio)):
            return self._computed(audio)

    def _computed(self, audio: Tensor) -> Tensor:
        padded = self.stft.padded(audio)
        frames, hop = self.stft.n_frames(audio.shape[-1]), self.config.hop_length
        if is_traced() or frames <= MAX_FRAMES:
            return self._log_mel(padded)
        mel = padded.new_empty(audio.shape[0], self.config.n_mels, frames)
        for start in range(0, frames, MAX_FRAMES):
            stop = min(frames, start + MAX_FRAMES)
            mel[..., start:stop] = self._log_mel(padded[:, start * hop : (stop - 1) * hop + self.config.n_fft])
        return mel

    def _log_mel(self, padded: Tensor) -> Tensor:
        real, imag = self.stft.transform(padded)
        power = real.square().addcmul_(imag, imag)
        if self.config.power_eps:
            power += self.config.power_eps
        magnitude = power.sqrt_() if self.config.power == 1 else power
        mel = self.filterbank(magnitude.transpose(1, 2))
        return mel.clamp_min_(self.config.log_floor).log_().transpose(1, 2).contiguous()


def log_mel_error_db(reference: Tensor, output: Tensor, config: MelConfig | None = None) -> float:
    """Mean absolute difference of two log-mel spectrograms, in dB, over the frames that both have.

    Args:
        reference, output: log-mels in the same convention. The mel of a copy is up to one frame shorter.
        config: that convention; its power says how many dB a unit of log-mel is. None: a mel of magnitudes.

    Shape: (B, n_mels, L) and (B, n_mels, L'), or both without B -> a number
    Raises:
        InputError: batch or mels differ, or the log-mels have no common frame.
    """
    for name, mel in (("reference", reference), ("output", output)):
        require_floats(mel, name, (2, 3), "(B, n_mels, L) or (n_mels, L)")
    frames = min(reference.shape[-1], output.shape[-1])
    if reference.shape[:-1] != output.shape[:-1] or frames == 0:
        raise InputError(
            "cannot compare log-mels of shape {reference} and {output}",
            code="mels-incomparable",
            reference=tuple(reference.shape),
            output=tuple(output.shape),
        )
    difference = reference[..., :frames] - output[..., :frames].to(reference.device)
    return float(difference.abs().mean()) * (config or MelConfig()).db_per_unit
