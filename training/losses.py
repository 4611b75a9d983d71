"""Losses of a generated waveform: spectra at four resolutions, phases, and the discriminators' judgement."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tts_infer.config import MelConfig
from tts_infer.dsp.mel import mel_filterbank

# (n_fft, hop, mel bins). The vocoder's own convention is the second; its hop in samples and bins come with the config.
RESOLUTIONS = ((2048, 512, 128), (1024, 256, 100), (512, 128, 64), (256, 64, 32))
OWN = 1024
LOW = 31  # mel bins of the own resolution below 1 kHz
LOG_FLOOR = 1e-4  # for bins; log-mels have the convention's floor at the vocoder's own resolution, else 1e-5


class _STFT(torch.autograd.Function):
    """Framed, windowed rfft. Its backward is one irfft and an overlap-add; autograd's own runs a full complex FFT."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, window: Tensor, hop: int) -> Tensor:
        ctx.save_for_backward(window)
        ctx.hop, ctx.samples = hop, padded.shape[1]
        return torch.fft.rfft(padded.unfold(1, len(window), hop) * window, dim=-1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (window,) = ctx.saved_tensors
        n_fft, hop = len(window), ctx.hop
        # irfft takes each inner bin twice, for its mirror image, and divides by n_fft; the gradient does neither
        scaled = grads[0] * (n_fft / 2)
        scaled[..., 0] *= 2
        scaled[..., -1] *= 2
        frames = torch.fft.irfft(scaled, n_fft, dim=-1) * window
        blocks = frames.unflatten(2, (n_fft // hop, hop))
        count = blocks.shape[1]
        total = frames.new_zeros(len(frames), count + blocks.shape[2] - 1, hop)
        for shift in range(blocks.shape[2]):
            total[:, shift : shift + count] += blocks[:, :, shift]
        return F.pad(total.flatten(1), (0, ctx.samples - total.shape[1] * hop)), None, None


def framed_rfft(padded: Tensor, window: Tensor, hop: int) -> Tensor:
    """STFT of a signal that is padded; `hop` divides the window's length. Shape: (B, T) -> complex (B, L, N)"""
    spectrum: Tensor = _STFT.apply(padded, window, hop)
    return spectrum


def stft(audio: Tensor, window: Tensor, hop: int) -> Tensor:
    """Centred STFT for training. Shape: (B, T) -> complex (B, L, N), L = T // hop + 1

    Args:
        hop: a divisor of the window's length.
    """
    half = len(window) // 2
    return framed_rfft(F.pad(audio[:, None], (half, half), mode="reflect")[:, 0], window, hop)


def magnitude(spectrum: Tensor) -> Tensor:
    """|S|, with a gradient at zero. Shape: any -> the same"""
    return (spectrum.real.square() + spectrum.imag.square() + 1e-12).sqrt()


@dataclass
class Spectra:
    """A waveform at one resolution: |S| and its logarithm (B, L, N), the log-mel (B, L, n_mels), S itself."""

    magnitude: Tensor
    log_magnitude: Tensor
    log_mel: Tensor
    spectrum: Tensor

    def items(self, some: slice) -> Spectra:
        """Those of some items of the batch."""
        return Spectra(*(getattr(self, field.name)[some] for field in fields(self)))


class Analysis(nn.Module):
    """A waveform's spectra at all resolutions. `OWN` is the vocoder's convention, so its log-mel is the input."""

    def __init__(self, mel: MelConfig) -> None:
        super().__init__()
        self.log_floor = mel.log_floor
        for n_fft, _, bins in RESOLUTIONS:
            own = MelConfig(sample_rate=mel.sample_rate, n_fft=n_fft, n_mels=bins)
            self.register_buffer(f"filters_{n_fft}", torch.from_numpy(mel_filterbank(own)).float())
            self.register_buffer(f"window_{n_fft}", torch.hann_window(n_fft))

    def forward(self, audio: Tensor) -> dict[int, Spectra]:
        """Shape: (B, T) -> n_fft -> `Spectra`"""
        found = {}
        for n_fft, hop, _ in RESOLUTIONS:
            spectrum = stft(audio, self.get_buffer(f"window_{n_fft}"), hop)
            size = magnitude(spectrum)
            floor = self.log_floor if n_fft == OWN else 1e-5
            log_mel = (size @ self.get_buffer(f"filters_{n_fft}")).clamp_min(floor).log()
            found[n_fft] = Spectra(size, size.clamp_min(LOG_FLOOR).log(), log_mel, spectrum)
        return found


def spectral_losses(generated: dict[int, Spectra], wanted: dict[int, Spectra]) -> dict[str, Tensor]:
    """Log-mel error at the own resolution, of its bins below 1 kHz, and at the others; convergence; log magnitudes."""
    terms: dict[str, Tensor] = {}

    def add(name: str, value: Tensor) -> None:
        terms[name] = terms[name] + value if name in terms else value

    for n_fft, want in wanted.items():
        got = generated[n_fft]
        error = (got.log_mel - want.log_mel).abs()
        if n_fft == OWN:
            terms["mel"], terms["low_mel"] = error.mean(), error[..., :LOW].mean()
        else:
            add("other_mels", error.mean())
        distance = (got.magnitude - want.magnitude).square().sum((1, 2)).sqrt()
        add("convergence", (distance / (want.magnitude.square().sum((1, 2)).sqrt() + 1e-2)).mean())
        add("log_magnitude", (got.log_magnitude - want.log_magnitude).abs().mean())
    return terms


def phase_loss(phase: Tensor, wanted: Spectra) -> Tensor:
    """Distance of the predicted phase from the true one, in steps over time and over frequency, unwrapped.

    The weight is the square root of the magnitude, at most five times its mean: nobody hears the phase of a silent bin.

    Shape: phase (B, L, N) -> a scalar
    Source: anti-wrapped group delay and instantaneous frequency as in APNet (arXiv 2305.07952), weighted differently.
    """
    with torch.no_grad():
        true = wanted.spectrum.angle()
        weight = wanted.magnitude.sqrt()
        weight = (weight / (weight.mean((1, 2), keepdim=True) + 1e-3)).clamp_max(5)
    total = phase.new_zeros(())
    for axis in (1, 2):
        step = phase.diff(dim=axis) - true.diff(dim=axis)
        length = phase.shape[axis] - 1
        both = torch.minimum(weight.narrow(axis, 1, length), weight.narrow(axis, 0, length))
        total = total + (both * (step - 2 * math.pi * (step / (2 * math.pi)).round()).abs()).mean()
    return total


Judgement = list[tuple[Tensor, list[Tensor]]]  # of each discriminator: its scores and its inner features


def discriminator_loss(real: Judgement, generated: Judgement) -> Tensor:
    """Hinge loss: real above 1, generated below -1. All three losses are means over the discriminators."""
    return torch.stack(
        [F.relu(1 - r).mean() + F.relu(1 + g).mean() for (r, _), (g, _) in zip(real, generated, strict=True)]
    ).mean()


def adversarial_loss(generated: Judgement) -> Tensor:
    """Hinge loss of the generator: its output judged above 1."""
    return torch.stack([F.relu(1 - score).mean() for score, _ in generated]).mean()


def feature_loss(real: Judgement, generated: Judgement) -> Tensor:
    """Distance of the discriminators' inner features of the real and the generated waveform, summed over layers."""
    distances = [
        (fake.float() - real_one.detach().float()).abs().mean()
        for (_, reals), (_, fakes) in zip(real, generated, strict=True)
        for real_one, fake in zip(reals, fakes, strict=True)
    ]
    return torch.stack(distances).sum() / len(real)
