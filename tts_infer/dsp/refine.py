"""Mel-consistent refinement: passes that pull a spectrum towards the mel that it was made for.

What a network predicts is not quite the STFT of any signal, and the audio's mel is not quite the one that was asked
for. Each pass goes to the nearest signal and back, and corrects the magnitudes by what the mel says.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from tts_infer.config import MelConfig
from tts_infer.dsp.buffers import keep_constant
from tts_infer.dsp.filterbank import BandedProduct
from tts_infer.dsp.mel import mel_filterbank
from tts_infer.dsp.stft import ISTFT, STFT
from tts_infer.dsp.tiles import blocks
from tts_infer.errors import InputError

Spectrum = tuple[Tensor, Tensor]

# How far a pass goes beyond the signal's own STFT, in the direction in which the last one moved. 0: Griffin-Lim.
MOMENTUM = 0.9
# Corrections of the magnitudes within a pass: neighbouring filters overlap, so one does not reach the wanted mel.
CORRECTIONS = 3
# No correction is larger, or smaller than its inverse: what is nearly silent says little about its ratio.
LARGEST_CORRECTION = 20.0


def joined(pieces: list[Spectrum], dim: int) -> Spectrum:
    """One spectrum of several, frames last in shape and bins last in memory, as the stages make them.

    Args:
        pieces: of (B, N, L) each.
        dim: 0 joins batches, 1 frames.
    """
    real, imag = (torch.cat([part.transpose(1, 2) for part in parts], dim) for parts in zip(*pieces, strict=True))
    return real.transpose(1, 2), imag.transpose(1, 2)


class Refinement(nn.Module):
    """Refines spectra so that their audio has the wanted mel.

    With S the spectrum and M the wanted mel, a pass is

        R  = STFT(ISTFT(S))                  the STFT of the audio that S stands for
        T  = R + MOMENTUM (R - R')           R' is that of the pass before; in the first pass T = R
        S <- g |R| T / |T|                   g spreads the ratio of M to the mel of |R| over the bins

    Between the two transforms nothing is trimmed or mirrored. So a frame depends on `reach` neighbours per pass, and
    on nothing else: that makes it the same in batches and in pieces.

    Args:
        mel: the convention of the mels.
        istft: the inverse transform; everything else is computed by its method, so all is real-valued with "matmul".

    Raises:
        InputError: the mel's STFT is not that of the spectrum, so that magnitudes of one say nothing about the other.
    Source: the momentum is that of fast Griffin-Lim (Perraudin et al. 2013, doi:10.1109/WASPAA.2013.6701851), whose
        magnitudes are known; here only their mels are, and the network's own are the beginning.
    """

    unfiltered: Tensor

    def __init__(self, mel: MelConfig, istft: ISTFT) -> None:
        super().__init__()
        sizes = (mel.n_fft, mel.hop_length, mel.win_length or mel.n_fft)
        if sizes != (istft.n_fft, istft.hop_length, istft.win_length):
            raise InputError(
                f"refine needs a mel of the spectrum's own STFT; its n_fft, hop_length and win_length are {sizes}, "
                f"the spectrum's {(istft.n_fft, istft.hop_length, istft.win_length)}; leave refine at 0"
            )
        self.config, self.istft = mel, istft
        self.stft = STFT(istft.n_fft, istft.hop_length, istft.win_length, istft.padding, istft.method)
        filters = mel_filterbank(mel)
        total = filters.sum(1, keepdims=True)
        spread = np.divide(filters, total, out=np.zeros_like(filters), where=total > 0)
        self.filterbank = BandedProduct(filters, istft.method)
        self.spread = BandedProduct(np.ascontiguousarray(spread.T), istft.method)
        keep_constant(self, "unfiltered", (total[:, 0] <= 0).astype(np.float64))

    @property
    def reach(self) -> int:
        """Frames on each side that one frame depends on, per pass."""
        return self.istft.overlap - 1

    def forward(self, spectrum: Spectrum, log_mel: Tensor, passes: int, valid: Tensor | None = None) -> Spectrum:
        """Refine whole signals.

        Args:
            spectrum: real and imaginary part.
            log_mel: the mel wanted.
            passes: how many.
            valid: see `ISTFT.forward`.

        Shape: 2 x (B, N, L), (B, n_mels, L), valid of (B, L, 1) -> 2 x (B, N, L)
        """
        real, imag = spectrum
        batch, _, frames = real.shape
        refined = [
            self._refined((real[some], imag[some]), log_mel[some], passes, None if valid is None else valid[some])
            for some in blocks(batch, frames, real.device)
        ]
        return refined[0] if len(refined) == 1 else joined(refined, 0)

    def _refined(self, spectrum: Spectrum, log_mel: Tensor, passes: int, valid: Tensor | None) -> Spectrum:
        wanted = log_mel.exp().transpose(1, 2)
        before: Spectrum | None = None
        for _ in range(passes):
            consistent = self.transform(self.istft.rows(*spectrum, valid))
            spectrum = self.pull(consistent, before, wanted)
            before = consistent
        return spectrum

    def transform(self, rows: Tensor) -> Spectrum:
        """The STFT of a signal as `ISTFT.rows` has it. Shape: (B, L + R - 1, hop_length) -> 2 x (B, N, L)"""
        return self.stft.transform(rows.flatten(1))

    def pull(self, consistent: Spectrum, before: Spectrum | None, wanted: Tensor) -> Spectrum:
        """The last two steps of a pass. Shape: 2 x (B, N, L), the same or None, (B, L, n_mels) -> 2 x (B, N, L)"""
        real, imag = (part.transpose(1, 2) for part in consistent)
        power = real.square().addcmul_(imag, imag)
        scale = self._corrected(power.sqrt() if self.config.power == 1 else power, wanted)
        if before is not None:
            real, imag = (
                torch.lerp(then.transpose(1, 2), now, 1 + MOMENTUM)
                for now, then in zip((real, imag), before, strict=True)
            )
            power = real.square().addcmul_(imag, imag)
        power.clamp_min_(torch.finfo(power.dtype).tiny)  # 0 / 0 is 0
        if self.config.power == 1:
            scale /= power.sqrt_()
        else:
            scale.div_(power).sqrt_()
        return (real * scale).transpose(1, 2), (imag * scale).transpose(1, 2)

    def _corrected(self, size: Tensor, wanted: Tensor) -> Tensor:
        """What the mel is made of, powers or magnitudes, as the wanted one has it.

        Shape: (B, L, N), (B, L, n_mels) -> (B, L, N)
        """
        corrected = size
        for _ in range(CORRECTIONS):
            ratio = wanted / self.filterbank(corrected).clamp_min_(self.config.log_floor)
            corrected = self.spread(ratio.clamp_(1 / LARGEST_CORRECTION, LARGEST_CORRECTION)).mul_(corrected)
        return corrected.addcmul_(size, self.unfiltered)  # bins that no filter sees stay as they are
