"""Range-null decomposition: what the mel says of the magnitudes is taken from the mel, the rest from the network.

A mel is A s, with the filterbank A and the magnitudes s. So the part of the magnitudes in the range of A's transpose is
known, and a network has only the part in the null space of A to guess.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from tts_infer.config import MelConfig, SpectralMethod
from tts_infer.dsp import register_constant
from tts_infer.dsp.filterbank import BandedProduct
from tts_infer.dsp.mel import mel_filterbank
from tts_infer.errors import ConfigError

# Where the sum would be below this share of the network's own magnitude, the share counts: magnitudes are positive.
LEAST_SHARE = 0.1


class RangeNull(nn.Module):
    """Gives a spectrum the magnitudes of the mel, and keeps its phases.

    With n the network's magnitudes, m the mel and A+ the pseudo-inverse of the filterbank A,

        s = A+ m + (I - A+ A) n = n + A+ (m - A n)

    computed as on the right, and then not below `LEAST_SHARE` n. Every frame is computed by itself.

    Args:
        mel: the convention of the mels: of magnitudes, without an offset.
        method: how the filters are applied, see `BandedProduct`.

    Shape: real and imag of (B, N, L), log-mel of (B, n_mels, L) -> real and imag of (B, N, L)
    Raises:
        ConfigError: the mel is one of powers, or has an offset: then it is not A s.
    Source: RNDVoC (arXiv 2603.08574), its plug-and-play form; the bound from below is ours.
    """

    inverse: Tensor

    def __init__(self, mel: MelConfig, method: SpectralMethod = "matmul") -> None:
        super().__init__()
        if mel.power != 1 or mel.power_eps:
            text = "range_null needs a mel of magnitudes: power 1 and power_eps 0; got {power} and {eps:g}"
            raise ConfigError(text, code="range-null-mel", power=mel.power, eps=mel.power_eps)
        self.config = mel
        filters = mel_filterbank(mel)
        self.filterbank = BandedProduct(filters, method)
        register_constant(self, "inverse", np.linalg.pinv(filters).astype(np.float64))

    def forward(self, real: Tensor, imag: Tensor, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        real, imag = real.transpose(1, 2), imag.transpose(1, 2)
        power = (real * real + imag * imag).clamp_min(torch.finfo(real.dtype).tiny)  # so that 0 / 0 gives 0
        magnitude = power.sqrt()
        scale = self.magnitudes(magnitude, log_mel.transpose(1, 2).exp()) / magnitude
        return (real * scale).transpose(1, 2), (imag * scale).transpose(1, 2)

    def magnitudes(self, magnitude: Tensor, mel: Tensor) -> Tensor:
        """The magnitudes s, made positive.

        Args:
            magnitude: those of the network, n.
            mel: not logarithmic, m.

        Shape: (..., N), (..., n_mels) -> (..., N)
        """
        return torch.maximum(self.projected(magnitude, mel), LEAST_SHARE * magnitude)

    def projected(self, magnitude: Tensor, mel: Tensor) -> Tensor:
        """The magnitudes s before they are made positive: their mel is the given one. Shape: as `magnitudes`"""
        return magnitude + (mel - self.filterbank(magnitude)) @ self.inverse
