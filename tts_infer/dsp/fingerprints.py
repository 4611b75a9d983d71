"""What a window and a filterbank leave in every mel: its largest value, and the irregular sums of its low filters."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tts_infer.config import MelConfig
from tts_infer.dsp.mel import filter_centres, mel_filterbank

Array = NDArray[np.float32]

# Part of a frequency by which two filterbanks must differ somewhere.
_DISTINCT = 0.02
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
    candidates = [replace(config, f_max=None, **kind) for kind in kinds]
    if config.n_mels == 80:  # HiFi-GAN's and BigVGAN's
        candidates.append(replace(candidates[1], f_max=8000.0))
    own = filter_centres(config)
    return tuple(one for one in candidates if np.abs(filter_centres(one) / own - 1).max() > _DISTINCT)


def irregularity(bends: Array, heard: Array, own: MelConfig, rival: MelConfig) -> float:
    """The log ratio of the errors with which two filterbanks explain the irregularities of a mean log-mel.

    Args:
        bends, heard: see `bends_of`.
    """
    errors = [bends - heard * _fingerprint(config) for config in (own, rival)]
    return math.log((np.vdot(errors[0], errors[0]) + 1e-9) / (np.vdot(errors[1], errors[1]) + 1e-9))


def bends_of(profile: Array, low: float) -> tuple[Array, Array]:
    """The second difference over bins of a mean log-mel, and 1 where it is heard; 0 everywhere if too little is.

    Args:
        profile: mean over time. Shape: (n_mels,)
        low: the lowest value of the mel; bins near to it are not heard.

    Shape: 2 x (n_mels - 2,)
    """
    loud = profile > low + _HEARD
    heard = (loud[:-2] & loud[1:-1] & loud[2:]).astype(np.float32)
    heard *= heard.sum() >= len(heard) / 2
    return (profile[2:] - 2 * profile[1:-1] + profile[:-2]) * heard, heard


def describe(rival: MelConfig) -> str:
    f_max = rival.f_max or rival.sample_rate / 2
    return f"{rival.mel_scale} scale, norm {rival.norm or 'none'}, to {f_max:.0f} Hz, as in " + (
        "BigVGAN and HiFi-GAN" if rival.norm else "Vocos"
    )


@lru_cache(64)
def _fingerprint(config: MelConfig) -> Array:
    """The second difference over bins of a flat spectrum's log-mel. Shape: (n_mels - 2,)"""
    sums = mel_filterbank(config).sum(0)
    return np.diff(np.log(np.maximum(sums, 1e-4 * sums.max())), 2).astype(np.float32)
