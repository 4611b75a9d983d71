"""Refinement with gradients, so that a network learns what its audio will be after the passes."""

from __future__ import annotations

from torch import Tensor

from training.generator import Spectrum
from training.losses import framed_rfft
from tts_infer.dsp.refine import Refinement
from tts_infer.dsp.two_bands import TwoBandRefinement


class _Passes(Refinement):
    """Passes by a transform whose gradients cost less."""

    def transform(self, hops: Tensor) -> Spectrum:
        spectrum = framed_rfft(hops.flatten(1), self.stft.window, self.stft.hop_length).transpose(1, 2)
        return spectrum.real, spectrum.imag


class TrainableRefinement(TwoBandRefinement):
    """`TwoBandRefinement` of whole signals, through which gradients go."""

    kind = _Passes

    def audio(self, spectrum: Spectrum, log_mel: Tensor, passes: int) -> Tensor:
        """Refine, and make audio. Shape: 2 x (B, L, N), (B, L, n_mels) -> (B, T)"""
        parts = spectrum[0].transpose(1, 2), spectrum[1].transpose(1, 2)
        refined: Tensor = self.istft(*self.whole(parts, log_mel.transpose(1, 2), passes))
        return refined
