"""What a copy has and its original lacks: steady tones, and clicks. Both in dB relative to the original.

Levels are relative to the root mean square of the whole original. What is below -80 dB counts as nothing: at the level
of conversation, 65 dB SPL, it is below the threshold of hearing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from tts_infer.errors import require_package
from tts_infer.evaluation.metrics import Samples

FLOOR_DB = -80.0

_WINDOW_S = 4096 / 24000  # a bin is 5.9 Hz wide, so that lines at the frame rate of a vocoder stand apart
_SHORTEST_S = 1.0
_STEADY = 0.25  # a line is there in three quarters of all frames
_AROUND_HZ = 150.0
_LOWEST_HZ = 50.0
_TIMES = 4.0  # a line is 6 dB above what is around it, and above the original
_LOBE = 2  # bins on each side of a line that belong to it

_NEAR_S = 0.01  # a pulse of most voices has another one within it
_STANDS_OUT = 2.0


def whistle_db(reference: Samples, output: Samples, sample_rate: int) -> float:
    """The power of steady tones that the original lacks, relative to the power of the original.

    The floor of a bin is the power that it has in at least three quarters of all frames of 171 ms, a quarter of that
    apart. Speech moves and pauses, so its floor is low and smooth; a tone that stays is a line in it. A bin of the
    output is part of a new line if its floor is 6 dB above the median of the bins within 150 Hz, and 6 dB above the
    floor of the original in that bin and two on each side. The powers of all such bins, less the larger of the two,
    are added; a tone of power p has the power p.

    Returns:
        dB, at least -80; NaN for less than a second and for a silent original.

    Shape: (T,) and (T,)
    Raises:
        MissingPackageError: no scipy.
    """
    ndimage = require_package("scipy.ndimage", "evaluate")
    power = _power(reference)
    if len(reference) < _SHORTEST_S * sample_rate or not power:
        return math.nan
    n_fft = 2 * round(_WINDOW_S * sample_rate / 2)
    floor, original = _floor(output, n_fft), _floor(reference, n_fft)
    around = ndimage.median_filter(floor, 2 * round(_AROUND_HZ * n_fft / sample_rate) + 1, mode="nearest")
    allowed = np.maximum(around, ndimage.maximum_filter(original, 2 * _LOBE + 1, mode="nearest"))
    new = floor > _TIMES * allowed
    new[: math.ceil(_LOWEST_HZ * n_fft / sample_rate)] = False
    return _relative_db(float((floor - allowed)[new].sum()), power)


def _floor(samples: Samples, n_fft: int) -> NDArray[np.float64]:
    """The power that each bin has in three quarters of the frames. The bins of a tone add up to its power.

    Shape: (T,) -> (n_fft // 2 + 1,)
    """
    window = torch.hann_window(n_fft, dtype=torch.float64)
    audio = torch.from_numpy(samples).double()
    spectrum = torch.stft(audio, n_fft, n_fft // 4, window=window, center=False, return_complex=True)
    powers = 2 * spectrum.abs().square() / (n_fft * window.square().sum())
    floor: NDArray[np.float64] = powers.quantile(_STEADY, dim=1).numpy()
    return floor


def click_db(reference: Samples, output: Samples, sample_rate: int, seams: Sequence[int]) -> float:
    """The largest step at one of these samples that the original lacks, relative to the original.

    The height of the step before sample n is |x[n+1] - 3 x[n] + 3 x[n-1] - x[n-2]| / 2: that of a step in what is
    straight otherwise; before the first sample there is silence. A step counts if it is twice the largest of the 10 ms
    on both sides, so that the pulses of a voice do not. The step of the original at the same place is subtracted.

    Args:
        seams: the first samples of pieces; 0 is the start. Those within two samples of the end do not count.

    Returns:
        dB, at least -80; NaN for a silent original, and without seams.

    Shape: (T,) and (T,)
    """
    power = _power(reference)
    places = [seam for seam in seams if seam < len(reference) - 2]
    if not power or not places:
        return math.nan
    steps = [_steps(samples, places, round(_NEAR_S * sample_rate)) for samples in (output, reference)]
    return _relative_db(float((steps[0] - steps[1]).max(initial=0.0)) ** 2, power)


def _steps(samples: Samples, places: Sequence[int], near: int) -> NDArray[np.float64]:
    """The height of the step at each place; 0 where it does not stand out."""
    heights = np.abs(np.diff(np.concatenate([np.zeros(2), samples.astype(np.float64)]), 3)) / 2
    found = np.zeros(len(places))
    for i, place in enumerate(places):
        around = np.concatenate([heights[max(0, place - near) : max(0, place - 1)], heights[place + 2 :][:near]])
        if heights[place] > _STANDS_OUT * around.max(initial=0.0):
            found[i] = heights[place]
    return found


def _power(samples: NDArray[np.floating]) -> float:
    return float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0


def _relative_db(power: float, reference: float) -> float:
    return max(10 * math.log10(power / reference), FLOOR_DB) if power else FLOOR_DB
