"""Losses for what is heard: loudness, glottal pulses, and whether a spectrum is that of audio.

The spectral losses give every bin of a logarithm the same weight, and half of the bins are silent. A mel does not say
when a pulse comes, so errors of samples or bins can only blur pulses. The losses here ask only what a mel can answer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.generator import Spectrum
from training.losses import magnitude, stft
from tts_infer.config import MelConfig
from tts_infer.dsp.istft import ISTFT
from tts_infer.dsp.mel import mel_filterbank
from tts_infer.dsp.two_bands import TwoBandRefinement

COMPRESSION = 0.3  # of magnitudes, where spectra are compared


class LoudnessLoss(nn.Module):
    """Distance of the loudness of bands, over their mean: power ** 0.23 in bands up to 8 kHz, 32 and 21 ms at a time.

    Frames count by the square of their error, because listeners notice the few bad ones.

    Shape: generated and real (B, T) -> a scalar
    Source: the exponent is Zwicker's, as in PESQ (ITU-T P.862); bands, frames and means are simpler, and its asymmetry
        is left out, because it changed nothing in 250 steps.
    """

    RESOLUTIONS = ((768, 49), (512, 40))  # (n_fft, bands); hops are halves
    EXPONENT = 0.23
    FLOOR = 1e-6  # of power

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        for n_fft, bands in self.RESOLUTIONS:
            config = MelConfig(sample_rate=sample_rate, n_fft=n_fft, n_mels=bands, f_max=8000)
            self.register_buffer(f"filters_{n_fft}", torch.from_numpy(mel_filterbank(config)).float())
            self.register_buffer(f"window_{n_fft}", torch.hann_window(n_fft))

    def forward(self, generated: Tensor, real: Tensor) -> Tensor:
        total = generated.new_zeros(())
        for n_fft, _ in self.RESOLUTIONS:
            got, want = (self._loudness(audio, n_fft) for audio in (generated, real))
            of_frames = (got - want).square().mean(2)
            distance = (of_frames.square().mean(1) + 1e-12).pow(0.25)
            total = total + (distance / (want.mean((1, 2)) + 0.02)).mean()
        return total

    def _loudness(self, audio: Tensor, n_fft: int) -> Tensor:
        """Shape: (B, T) -> (B, L, bands)"""
        power = magnitude(stft(audio, self.get_buffer(f"window_{n_fft}"), n_fft // 2)).square()
        return (power @ self.get_buffer(f"filters_{n_fft}") / (n_fft / 4) + self.FLOOR).pow(self.EXPONENT)


class PulseLoss(nn.Module):
    """Difference of the peakiness of envelopes; the positions of the peaks do not matter.

    Peakiness is the deviation of an envelope over its mean, within 20 ms, in three bands. Envelopes are those of an
    STFT of 64 samples, shorter than a pitch period. Only frames of at least 1/8 of the loudest count.

    Shape: generated and real (B, T) -> a scalar
    """

    N_FFT, HOP = 64, 16
    FRAME_S = 0.02
    BANDS_HZ = ((1100, 2500), (1900, 4100), (4100, 7800))

    window: Tensor
    bands: Tensor

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        self.frame = round(self.FRAME_S * sample_rate / self.HOP)
        bins = torch.arange(self.N_FFT // 2 + 1) * sample_rate / self.N_FFT
        within = [(bins >= low) & (bins < high) for low, high in self.BANDS_HZ]
        self.register_buffer("window", torch.hann_window(self.N_FFT))
        self.register_buffer("bands", torch.stack(within, 1).float())

    def forward(self, generated: Tensor, real: Tensor) -> Tensor:
        got, want = self._envelopes(generated), self._envelopes(real)
        loud = want.mean(2)
        counted = (loud > loud.amax(1, keepdim=True) / 8) & (loud > 1e-3)
        difference = (self._peakiness(got) - self._peakiness(want)).abs()
        return (difference * counted).sum() / (counted.sum() + 1)

    def _envelopes(self, audio: Tensor) -> Tensor:
        """Shape: (B, T) -> (B, frames, samples of an envelope in a frame, bands)"""
        power = magnitude(stft(audio, self.window, self.HOP)).square() @ self.bands
        whole = power.shape[1] // self.frame * self.frame
        return power[:, :whole].sqrt().unflatten(1, (-1, self.frame))

    @staticmethod
    def _peakiness(envelopes: Tensor) -> Tensor:
        mean = envelopes.mean(2)
        deviation = ((envelopes - mean.unsqueeze(2)).square().mean(2) + 1e-8).sqrt()
        return deviation / (mean + 1e-4)


def distance(got: Tensor, target: Tensor) -> Tensor:
    """Distance of complex spectra, by |target| ** (COMPRESSION - 1). Shape: (B, L, N), (B, L, N) -> a scalar"""
    return magnitude((got - target) * (magnitude(target) + 1e-3).pow(COMPRESSION - 1)).mean()


def lookahead_loss(early: Spectrum, exact: Spectrum) -> Tensor:
    """Distance of frames that a stream gives early from the same frames, predicted with all that follows.

    Only the early ones learn from it.

    Shape: twice 2 x (B, L, N) -> a scalar
    """
    return distance(torch.complex(*early), torch.complex(*exact).detach())


class ConsistencyLoss(nn.Module):
    """Distance of a spectrum from what refinement makes of it: the same phases, with the mel that was asked for.

    A mel does not determine the phases of its recording, but this target is near the network's own prediction. So the
    network learns predictions that need less refinement.

    Shape: spectrum (B, L, N) complex, log_mel (B, L, n_mels) -> a scalar
    """

    def __init__(self, mel: MelConfig, istft: ISTFT, passes: int) -> None:
        super().__init__()
        self.refinement, self.passes = TwoBandRefinement(mel, istft), passes
        self.hop = mel.hop_length
        self.register_buffer("window", torch.hann_window(mel.n_fft))

    def forward(self, spectrum: Tensor, log_mel: Tensor) -> Tensor:
        with torch.no_grad():
            parts = spectrum.real.transpose(1, 2), spectrum.imag.transpose(1, 2)
            refined = self.refinement(parts, log_mel.transpose(1, 2), self.passes)
            target = stft(self.refinement.istft(*refined), self.get_buffer("window"), self.hop)
        return distance(spectrum, target)
