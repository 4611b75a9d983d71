"""A small network that tells from single frames with which filterbank, or in which unit, a mel was made.

Along the low bands, a filter averages one to four bins of the spectrum. Which ones differs from band to band, in a
pattern that each filterbank has of its own, and the harmonics of a voice lie in it at other places. Second differences
over bands keep both, and lose level and tilt. One frame says little; the mean over all that sound says much. The
weights come from `python -m benchmarks.conventions_fit`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tts_infer.dsp.mel_statistics import Array, mean

# One frame speaks for a kind by this much at most.
MOST = 4.0
# Frames of a product. Of larger ones, numpy's BLAS makes threads, see `mel_statistics.mean`. Source: OpenBLAS
# interface/gemm.c, one thread up to 2^18 multiplications; here 64 x 144 x 24.
_AT_ONCE = 24


@dataclass(frozen=True)
class Listener:
    """A network of one hidden layer.

    Args:
        hidden, offsets: of the hidden layer. Shape: (units, values of `Statistics.ripples`), (units,)
        kinds, biases: logarithm of how much likelier each kind of wrong mel is than a right one. Shape: (kinds, units),
            (kinds,)
    """

    hidden: Array
    offsets: Array
    kinds: Array
    biases: Array

    def __call__(self, ripples: Array) -> Array:
        """What all frames say for each kind, on average. Shape: (values, n) -> (kinds,)"""
        parts = [self._said(ripples[:, i : i + _AT_ONCE]) for i in range(0, ripples.shape[1], _AT_ONCE)]
        return mean(np.concatenate(parts, 1))

    def _said(self, ripples: Array) -> Array:
        """What each frame says. Shape: (values, n) -> (kinds, n)"""
        units = self.hidden @ ripples
        units += self.offsets[:, None]
        said = self.kinds @ np.maximum(units, 0, out=units)
        said += self.biases[:, None]
        return np.asarray(np.minimum(np.maximum(said, -MOST), MOST))
