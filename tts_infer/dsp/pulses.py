"""Pulse trains: the voice's source, made of a pitch curve. Real float32 operators that every device has."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tts_infer.dsp import register_constant

# Where the denominator of the sum of harmonics is smaller, the sum is its limit.
_NEAR_PULSE = 2e-3
# Pitches are split at this fraction of a Hz, so that sums of both parts are exact in float32; see `PulseTrain._phase`.
_STEPS = 16.0


class PulseTrain(nn.Module):
    """A train of band-limited pulses: every harmonic of the pitch below `max_hz`, with amplitude 1.

        sum over h = 1 .. H of cos(h t)  =  sin((H + 1/2) t) / (2 sin(t / 2)) - 1/2,    H = floor(max_hz / pitch)

    Between frames the pitch is interpolated linearly. Where it is at most `min_hz`, the train is 0.

    Args:
        sample_rate: in Hz.
        hop_length: samples of a frame, even.
        min_hz: pitch at or below which a sample is unvoiced.
        max_hz: bound of the harmonics.

    Shape: pitch in Hz of (B, L) -> (B, L * hop_length), L >= 1
    Source: hibari/dsp.py pulses, which sums the phase in float64.
    """

    weights: Tensor  # of the later of the two frames between which a sample lies

    def __init__(self, sample_rate: int, hop_length: int, min_hz: float = 40.0, max_hz: float = 11000.0) -> None:
        super().__init__()
        self.sample_rate, self.hop_length, self.min_hz, self.max_hz = sample_rate, hop_length, min_hz, max_hz
        register_constant(self, "weights", ((np.arange(hop_length) + 0.5) / hop_length - 0.5) % 1.0)

    def forward(self, pitch: Tensor) -> Tensor:
        interpolated = self._interpolated(pitch)
        voiced, floored = interpolated > self.min_hz, interpolated.clamp_min(self.min_hz)
        angle = self._phase(floored) * (2 * math.pi)
        harmonics = torch.floor(self.max_hz / floored) + 0.5
        denominator = 2 * torch.sin(angle * 0.5)
        near = denominator.abs() <= _NEAR_PULSE
        ratio = torch.sin(harmonics * angle) / torch.where(near, 1.0, denominator)
        pulses = torch.where(near, harmonics, ratio) - 0.5
        return torch.where(voiced, pulses, 0.0).flatten(1)

    def _interpolated(self, pitch: Tensor) -> Tensor:
        """The pitch of every sample. Shape: (B, L) -> (B, L, hop_length)"""
        half, later = self.hop_length // 2, self.weights
        around = torch.cat([pitch[:, :1], pitch, pitch[:, -1:]], dim=1).unsqueeze(2)
        before, here, after = around[:, :-2], around[:, 1:-1], around[:, 2:]
        first = before * (1 - later[:half]) + here * later[:half]
        second = here * (1 - later[half:]) + after * later[half:]
        return torch.cat([first, second], dim=2)

    def _phase(self, pitch: Tensor) -> Tensor:
        """The phase at every sample in turns, from -1/2 to 1/2: the running sum of pitch / sample_rate.

        The error of a float32 sum would grow with the signal, and harmonic h multiplies it by h. So a pitch is split
        into multiples of 1/16 Hz and a rest below that. Sums of the former stay exact if full turns are taken out, sums
        of the rest if what exceeds 1/16 Hz is carried over. The sums over frames double their reach at each step.

        Shape: (B, L, hop_length) -> the same
        """
        coarse = torch.floor(pitch * _STEPS) / _STEPS
        coarse, rest = coarse.cumsum(dim=2), (pitch - coarse).cumsum(dim=2)
        until, rest_until = self._carried(coarse[..., -1], rest[..., -1])
        step = 1
        while step < pitch.shape[1]:
            shifted, rest_shifted = (F.pad(x[:, :-step], (step, 0)) for x in (until, rest_until))
            until, rest_until = self._carried(until + shifted, rest_until + rest_shifted)
            step *= 2
        before, rest_before = (F.pad(x[:, :-1], (1, 0)).unsqueeze(2) for x in (until, rest_until))
        coarse, rest = self._carried(coarse + before, rest + rest_before)
        return (coarse + rest) / self.sample_rate

    def _carried(self, coarse: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
        """The same sum, with full turns taken out of `coarse` and a rest below 1/16 Hz.

        Half a turn before a pulse the sum is negative, so that it is small around a pulse, where errors count most.
        """
        carry = torch.floor(rest * _STEPS) / _STEPS
        coarse, rest = coarse + carry, rest - carry
        return coarse - self.sample_rate * torch.floor(coarse / self.sample_rate + 0.5), rest

    def extra_repr(self) -> str:
        return f"{self.sample_rate}, {self.hop_length}, {self.min_hz}, {self.max_hz}"
