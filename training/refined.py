"""Refinement with gradients, so that a network learns what its audio will be after the passes."""

from __future__ import annotations

import torch
from torch import Tensor

from training.losses import framed_rfft
from tts_infer.dsp.refine import Refinement

Spectrum = tuple[Tensor, Tensor]


class Refined(Refinement):
    """The passes of `Refinement` over whole signals.

    Shape: 2 x (B, L, N), log_mel (B, L, n_mels) -> audio (B, T)
    """

    def audio(self, spectrum: Spectrum, log_mel: Tensor, passes: int) -> Tensor:
        parts = spectrum[0].transpose(1, 2), spectrum[1].transpose(1, 2)
        refined: Tensor = self.istft(*self.whole(parts, log_mel.transpose(1, 2), passes))
        return refined

    def transform(self, hops: Tensor) -> Spectrum:
        spectrum = framed_rfft(hops.flatten(1), self.stft.window, self.stft.hop_length).transpose(1, 2)
        return spectrum.real, spectrum.imag

    def size(self, real: Tensor, imag: Tensor) -> Tensor:
        # pow needs no result for its gradient; that of sqrt would change in place
        return (real.square() + imag.square() + 1e-12).pow(0.5)


def limit_gradients(spectrum: Spectrum, limit: float) -> None:
    """Limit what one bin of a spectrum may ask for.

    Through the passes, and through norms that weigh bad frames, a few bins get gradients that are a thousand times as
    large as the others. What is limited is the gradient times the magnitude, so that of logarithm and phase.

    Shape: 2 x (B, L, N), with gradients to come
    """
    real, imag = (part.detach() for part in spectrum)
    bound = limit / (real.square() + imag.square()).sqrt_().clamp_min_(1e-9)
    for part in spectrum:
        part.register_hook(lambda gradient: torch.minimum(torch.maximum(gradient, -bound), bound))
