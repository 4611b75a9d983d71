"""DNSMOS P.835: what listeners would say of a signal, by a network that hears no original."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tts_infer.errors import require_package
from tts_infer.evaluation.metrics import PERCEPTUAL_RATE, Samples

WINDOW = round(9.01 * PERCEPTUAL_RATE)
# From the network's scale to that of the listeners of ITU-T P.835, highest power first.
_SIGNAL = (-0.08397278, 1.22083953, 0.0052439)
_BACKGROUND = (-0.13166888, 1.60915514, -0.39604546)
_OVERALL = (-0.06766283, 1.11546468, 0.04602535)


class Opinions(NamedTuple):
    """Mean opinion scores from 1 to 5; NaN if there are none."""

    signal: float
    background: float
    overall: float


def dnsmos_p835(samples: Samples) -> Opinions:
    """Rate a signal at 16 kHz: the voice, the background, and the whole.

    As in the script of the challenge, a signal that is shorter than a window of 9.01 s is doubled until it is not.
    Windows begin a second apart, and their scores are averaged; of 16 to 33 s, it hears the first 16, as the script
    does. What is over full scale is clipped, as in a file.

    Returns:
        NaN for digital silence and for nothing.

    Shape: (T,)
    Raises:
        MissingPackageError: no speechmos, of which the network is, or no onnxruntime.
    Source: Reddy et al., arXiv 2110.01763; microsoft/DNS-Challenge, DNSMOS/dnsmos_local.py, sig_bak_ovr.onnx.
    """
    session = _session()
    if not np.any(samples):
        return Opinions(math.nan, math.nan, math.nan)
    samples = np.clip(samples, -1, 1)
    while len(samples) < WINDOW:
        samples = np.append(samples, samples)
    seconds = range(int(len(samples) // PERCEPTUAL_RATE - 9.01) + 1)
    # by rounding, the script's windows from the 8th to the 24th second are a sample short, and it leaves them out
    starts = [i * PERCEPTUAL_RATE for i in seconds if int((i + 9.01) * PERCEPTUAL_RATE) - i * PERCEPTUAL_RATE >= WINDOW]
    windows = [samples[start : start + WINDOW] for start in starts]
    raw = np.concatenate([session.run(None, {"input_1": window[None]})[0] for window in windows]).astype(np.float64)
    means = [np.polyval(curve, raw[:, i]).mean() for i, curve in enumerate((_SIGNAL, _BACKGROUND, _OVERALL))]
    return Opinions(*map(float, means))


@lru_cache(maxsize=1)
def _session() -> Any:
    package = require_package("speechmos", "quality")
    model = Path(str(package.__file__)).parent / "dnsmos_models" / "sig_bak_ovr.onnx"
    return require_package("onnxruntime", "quality").InferenceSession(str(model), providers=["CPUExecutionProvider"])
