"""What a window and a filterbank leave in every mel: its largest value, and the irregular sums of its low filters."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tts_infer.config import MelConfig
from tts_infer.dsp.mel import mel_filterbank

# Mean square by which fingerprints must differ to be told apart.
_DISTINCT = 0.01
# A bin is heard if its mean is this far above the lowest value, which may be the log floor.
_HEARD = 0.3


@lru_cache(64)
def ceiling(config: MelConfig) -> float:
    """The largest log-mel, of magnitudes, that audio within full scale can have.

    It is that of a full-scale tone, whose main lobe spreads over three bins with 1/2, 1 and 1/2 of half the window's
    sum, or that of full-scale noise.
    """
    filters = mel_filterbank(config)
    window_sum = (config.win_length or config.n_fft) / 2
    lobe = np.pad(filters, ((1, 1), (0, 0)))
    tone = (lobe[:-2] / 2 + lobe[1:-1] + lobe[2:] / 2).max() * window_sum / 2
    noise = 0.35 * 0.886 * math.sqrt(0.75 * window_sum) * filters.sum(0).max()
    return math.log(max(tone, noise))


@lru_cache(64)
def rivals(config: MelConfig) -> tuple[MelConfig, ...]:
    """Filterbanks of the same shape that the field uses, other than that of `config`."""
    kinds: list[dict[str, Any]] = [{"mel_scale": "htk", "norm": None}, {"mel_scale": "slaney", "norm": "slaney"}]
    others = {replace(config, f_max=f_max, **kind) for kind in kinds for f_max in (config.f_max, None)}
    own = _fingerprint(config)
    return tuple(other for other in others if np.square(_fingerprint(other) - own).mean() > _DISTINCT)


def likelihood(profile: NDArray[np.floating[Any]], low: float, own: MelConfig, rival: MelConfig) -> float:
    """The log likelihood ratio, twice, of two filterbanks by the irregularities of a mean log-mel.

    Args:
        profile: mean over time. Shape: (n_mels,)
        low: the lowest value of the mel; bins near to it are not heard.
    """
    heard = profile > low + _HEARD
    heard = heard[:-2] & heard[1:-1] & heard[2:]
    bends = np.diff(profile, 2)[heard]
    if len(bends) < len(heard) / 2:
        return 0.0
    errors = [float(np.square(bends - _fingerprint(config)[heard]).mean()) for config in (own, rival)]
    return len(bends) * math.log(errors[0] / errors[1])


def describe(rival: MelConfig) -> str:
    f_max = rival.f_max or rival.sample_rate / 2
    return f"{rival.mel_scale} scale, norm {rival.norm or 'none'}, to {f_max:.0f} Hz, as in " + (
        "BigVGAN and HiFi-GAN" if rival.norm else "Vocos"
    )


@lru_cache(64)
def _fingerprint(config: MelConfig) -> NDArray[np.float64]:
    """The second difference over bins of a flat spectrum's log-mel. Shape: (n_mels - 2,)"""
    sums = mel_filterbank(config).sum(0)
    return np.diff(np.log(np.maximum(sums, 1e-4 * sums.max())), 2)
